"""The folder of a run."""

import json

import pytest

from perlsim.errors import FormatError, PerlsimError
from perlsim.runs import RunFolder, file_name_of, read_run

SETTINGS = {"policies": ["a", "b"], "seed": 0, "sizes": (1, 2)}


def test_a_run_goes_on_with_the_pieces_that_are_there(tmp_path):
    with RunFolder(tmp_path / "run", "eval", SETTINGS) as folder:
        assert folder.part("a") is None
        folder.write_part("a", {"score": 1.0})
    with RunFolder(tmp_path / "run", "eval", SETTINGS) as folder:
        assert folder.part("a") == {"score": 1.0}
        assert folder.part("b") is None
        assert not folder.is_finished
        folder.finish(["perlsim", "eval"], {"policies": ["a", "b"]})
    with RunFolder(tmp_path / "run", "eval", SETTINGS) as folder:
        assert folder.is_finished
    content = read_run(tmp_path / "run")
    assert content["kind"] == "eval"
    assert content["schema"] == 1
    assert content["config"]["sizes"] == [1, 2]


def test_what_only_serves_going_on_is_gone_when_a_run_is_finished(tmp_path):
    with RunFolder(tmp_path / "run", "eval", SETTINGS) as folder:
        folder.write_part("a", {})
        folder.write("results.json", {})
        folder.finish(["perlsim"], {})
    left = {entry.name for entry in (tmp_path / "run").iterdir()} - {".lock"}
    assert left == {"run.json", "results.json"}


def test_a_folder_of_other_settings_is_refused_by_the_name_of_the_setting(tmp_path):
    with RunFolder(tmp_path / "run", "eval", SETTINGS) as folder:
        folder.write_part("a", {})
    with (
        pytest.raises(PerlsimError, match="seed = 0, asked for is 1"),
        RunFolder(tmp_path / "run", "eval", {**SETTINGS, "seed": 1}),
    ):
        pass


def test_other_settings_are_taken_while_nothing_is_finished(tmp_path):
    for seed in (0, 1):
        with RunFolder(tmp_path / "run", "eval", {**SETTINGS, "seed": seed}) as folder:
            assert folder.settings["seed"] == seed
    with RunFolder(tmp_path / "run", "eval", {**SETTINGS, "seed": 1}) as folder:
        folder.write_part("a", {})
    with pytest.raises(PerlsimError, match="seed = 1"), RunFolder(tmp_path / "run", "eval", SETTINGS):
        pass


def test_a_folder_of_another_kind_or_of_something_else_is_refused(tmp_path):
    with RunFolder(tmp_path / "run", "train", SETTINGS):
        pass
    with (
        pytest.raises(PerlsimError, match="kind 'train', not 'eval'"),
        RunFolder(tmp_path / "run", "eval", SETTINGS),
    ):
        pass
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with (
        pytest.raises(PerlsimError, match=r"not a run \(cat.jpg\)"),
        RunFolder(tmp_path / "photos", "eval", SETTINGS),
    ):
        pass
    assert [entry.name for entry in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    (tmp_path / "file").touch()
    with pytest.raises(PerlsimError, match="found a file"), RunFolder(tmp_path / "file", "eval", SETTINGS):
        pass


def test_two_processes_do_not_write_to_one_run(tmp_path):
    with (
        RunFolder(tmp_path / "run", "eval", SETTINGS),
        pytest.raises(PerlsimError, match="another process"),
        RunFolder(tmp_path / "run", "eval", SETTINGS),
    ):
        pass


def test_an_unfinished_or_damaged_run_is_not_read(tmp_path):
    with (
        RunFolder(tmp_path / "run", "eval", SETTINGS) as folder,
        pytest.raises(PerlsimError, match="not finished"),
    ):
        read_run(folder.path)
    with pytest.raises(PerlsimError, match="no run here"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(FormatError, match="expected JSON"):
        read_run(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(PerlsimError, match="newer perlsim"):
        read_run(tmp_path / "run")


def test_a_folder_within_a_run_is_in_its_place_only_once_it_is_settled(tmp_path):
    with RunFolder(tmp_path / "run", "eval", SETTINGS) as folder:
        for text in ("half", "whole"):
            made = folder.fresh_folder("rollouts/a")
            made.mkdir()
            (made / text).touch()
        assert not (folder.path / "rollouts" / "a").exists()
        assert [entry.name for entry in folder.settle("rollouts/a").iterdir()] == ["whole"]


def test_names_become_harmless_file_names():
    assert file_name_of("world_model:../run/2") == "world_model_.._run_2"
    assert file_name_of("..") == "_"
