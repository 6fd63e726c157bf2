import pytest

from perlsim.errors import FormatError, PerlsimError
from perlsim.training.config import Strict, load_config


class Optimiser(Strict):
    learning_rate: float = 1e-3
    updates: int


class Run(Strict):
    seed: int = 0
    imitation: Optimiser
    reinforcement: Optimiser | None = None
    families: tuple[str, ...] = ()


@pytest.fixture
def shipped(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("imitation: {learning_rate: 3e-4, updates: 100}\n")
    return tmp_path


def mistakes(shipped, text, *overrides):
    (shipped / "own.yaml").write_text(text)
    with pytest.raises(PerlsimError) as caught:
        load_config(Run, str(shipped / "own.yaml"), overrides, shipped)
    return str(caught.value)


def test_a_shipped_configuration_is_found_by_its_name_and_overridden_by_dotted_keys(shipped):
    overrides = ["imitation.updates=7", "seed=3", "families=[a, b]", "reinforcement.updates=2"]
    config = load_config(Run, "quickstart", overrides, shipped)
    assert config.imitation.updates == 7 and config.imitation.learning_rate == 3e-4
    assert config.seed == 3 and config.families == ("a", "b")
    assert config.reinforcement is not None and config.reinforcement.updates == 2


def test_a_name_that_is_none_suggests_the_nearest(shipped):
    with pytest.raises(PerlsimError, match="did you mean quickstart"):
        load_config(Run, "quikstart", [], shipped)


def test_all_mistakes_are_told_at_once_with_their_paths(shipped):
    text = mistakes(shipped, "imitation: {learning_rat: 1, updates: many}\nsede: 1\nreinforcement: {}\n")
    assert "4 mistakes" in text
    assert "imitation.learning_rat: unknown key, did you mean learning_rate?" in text
    assert "imitation.updates: input should be a valid integer" in text and "'many'" in text
    assert "sede: unknown key, did you mean seed?" in text
    assert "reinforcement.updates: is missing" in text


def test_a_key_in_the_wrong_part_is_shown_its_place(shipped):
    text = mistakes(shipped, "imitation: {updates: 1}\nlearning_rate: 1.0\n")
    assert "learning_rate: unknown key, did you mean reinforcement.learning_rate?" in text


def test_a_key_that_stands_twice_is_an_error_with_its_line(shipped):
    (shipped / "own.yaml").write_text("seed: 1\nimitation: {updates: 1}\nseed: 2\n")
    with pytest.raises(FormatError, match="'seed' stands twice in line 3"):
        load_config(Run, str(shipped / "own.yaml"), [], shipped)


@pytest.mark.parametrize("text", ["- a\n", "a: [1\n", ""])
def test_what_is_no_mapping_in_yaml_is_refused(shipped, text):
    assert "expected" in mistakes(shipped, text)


def test_an_override_without_a_value_is_refused(shipped):
    assert "expected key=value, found 'seed'" in mistakes(shipped, "imitation: {updates: 1}\n", "seed")


def test_numbers_are_not_rounded_or_infinite(shipped):
    assert "seed: input should be a valid integer" in mistakes(
        shipped, "seed: 1.5\nimitation: {updates: 1}\n"
    )
    assert "finite" in mistakes(shipped, "imitation: {updates: 1, learning_rate: .inf}\n")
