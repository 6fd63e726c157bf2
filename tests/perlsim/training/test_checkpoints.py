import numpy as np
import pytest

from perlsim.errors import PerlsimError
from perlsim.training.checkpoints import KEPT, Checkpoints


def tree(number: float):
    return {"a": np.full((64, 5), number, np.float32), "b": {"c": np.int32(number), "d": np.zeros(0)}}


@pytest.fixture
def written(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for update in (10, 20, 30, 40, 50):
        checkpoints.save(update, tree(update), {"score": {20: 5.0}.get(update, 1.0)})
    return checkpoints


def names(checkpoints):
    return sorted(entry.name for entry in checkpoints.folder.iterdir())


def test_what_was_saved_comes_back(written):
    found = written.restore(tree(0))
    assert found.update == 50 and found.problems == [] and found.figures == {"score": 1.0}
    np.testing.assert_array_equal(found.tree["a"], tree(50)["a"])
    assert found.tree["b"]["c"] == 50 and found.tree["b"]["d"].shape == (0,)


def test_the_last_and_the_best_are_kept(written):
    assert len(names(written)) == KEPT + 1
    assert names(written) == ["00000020", "00000030", "00000040", "00000050"]
    assert written.restore(tree(0), best=True).update == 20


def test_any_flipped_byte_of_an_array_is_noticed_and_the_one_before_taken(written):
    place = written.folder / "00000050" / "arrays"
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.stat().st_size)
    for path in files:
        whole = path.read_bytes()
        for where in {0, len(whole) // 2, len(whole) - 1}:
            damaged = bytearray(whole)
            damaged[where] ^= 0x10
            path.write_bytes(damaged)
            found = written.restore(tree(0))
            assert found.update in (40, 50)
            np.testing.assert_array_equal(found.tree["a"], tree(found.update)["a"])
            assert found.tree["b"]["c"] == found.update
            assert (found.update == 50) == (not found.problems)
        path.write_bytes(whole)
    assert written.restore(tree(0)).update == 50


def test_a_file_that_is_missing_or_cut_short_makes_the_one_before_be_taken_and_says_so(written):
    (written.folder / "00000050" / "digests.json").unlink()
    largest = max(
        (path for path in (written.folder / "00000040").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    largest.write_bytes(largest.read_bytes()[:20])
    found = written.restore(tree(0))
    assert found.update == 30
    assert len(found.problems) == 2 and "00000050" in found.problems[0] and "00000040" in found.problems[1]


def test_where_all_are_damaged_an_error_says_what_to_do(written):
    for name in names(written):
        (written.folder / name / "digests.json").write_text("{")
    with pytest.raises(PerlsimError, match=r"none of 4 checkpoints.*--fresh"):
        written.restore(tree(0))


def test_another_structure_or_shape_is_refused_by_name(written):
    with pytest.raises(PerlsimError, match="more is in one only"):
        written.restore({**tree(0), "more": np.zeros(1)})
    with pytest.raises(PerlsimError, match=r"a is float32\[64, 5\], expected is float32\[64, 6\]"):
        written.restore({**tree(0), "a": np.zeros((64, 6), np.float32)})


def test_what_a_killed_process_left_half_written_does_not_count(written):
    (written.folder / "00000060.tmp" / "arrays").mkdir(parents=True)
    assert written.restore(tree(0)).update == 50
    written.save(60, tree(60), {})
    assert written.restore(tree(0)).update == 60


def test_without_any_there_is_nothing_to_restore(tmp_path):
    assert Checkpoints(tmp_path / "none").restore(tree(0)) is None
