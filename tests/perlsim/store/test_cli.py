"""The command line: what each command prints and how it ends."""

import json
import sys
from types import SimpleNamespace

import pytest
from fake_logs import make_scenario

from perlsim.cli import main
from perlsim.readers import FORMATS
from perlsim.store import ScenarioStore


def run(*args):
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return end.value.code


def test_generate_makes_the_same_store_again_and_adds_only_what_is_missing(tmp_path, capsys):
    assert run("generate", "-n", 2, "--seed", 3, "--family", "merge", "-o", tmp_path / "a") == 0
    assert run("generate", "-n", 3, "--seed", 3, "--family", "merge", "-o", tmp_path / "a") == 0
    assert "1 scenes, 2 of 3 were in the store already" in capsys.readouterr().out
    store = ScenarioStore.open(tmp_path / "a")
    assert len(store) == 3
    assert {summary.source for summary in store.summaries} == {"synthetic"}


def test_generated_stores_are_the_same_for_any_number_of_processes(tmp_path):
    for workers in (1, 3):
        args = ("-n", 70, "--family", "merge", "--workers", workers, "-o", tmp_path / str(workers))
        assert run("generate", *args) == 0
    one, three = (ScenarioStore.open(tmp_path / name) for name in "13")
    assert len(three) == 70 and one.manifest.shards[0].arrow == three.manifest.shards[0].arrow
    assert one.splits == three.splits


@pytest.mark.parametrize(
    "args, message",
    [
        (("generate", "-n", "0", "-o", "STORE"), "expected a number from 1 on"),
        (("generate", "-n", "1", "--family", "nonsense", "-o", "STORE"), "nonsense"),
        (("generate", "-n", "1", "--workers", "0", "-o", "STORE"), "--workers"),
        (("import", "-o", "STORE"), "nothing to import"),
        (("import", "x", "-o", "STORE", "--workers", "0"), "--workers"),
        (("import", "x", "-o", "STORE", "--maps", "absent"), "no such folder"),
        (("import", "x", "-o", "STORE", "--window", "0"), "positive"),
        (("import", "x", "-o", "STORE", "--timeout", "0"), "--timeout"),
        (("import", "x", "-o", "STORE", "--split-fractions", "0.5", "0.5", "0.5"), "sum 1"),
        (("rollout", "--vmap", "0"), "--vmap"),
    ],
)
def test_wrong_options_end_in_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "perlsim.rollout_command", SimpleNamespace(run=lambda *_: 0))
    assert run(*args) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1
    assert list(tmp_path.glob("STORE/*.json")) == []


@pytest.mark.parametrize("command", [("generate", "-n", 1), ("import", "LOG")])
def test_a_store_that_cannot_be_written_ends_in_one_line(tmp_path, capsys, command):
    (tmp_path / "file").write_text("")
    (tmp_path / "x.xml").write_text("<commonRoad/>")
    command = [str(tmp_path / "x.xml") if part == "LOG" else part for part in command]
    assert run(*command, "-o", tmp_path / "file" / "store") == 2
    errors = capsys.readouterr().err
    assert "file/store" in errors and len(errors.splitlines()) == 1


def test_rollout_hands_its_arguments_over_and_its_exit_code_back(monkeypatch):
    seen = []
    fake = SimpleNamespace(run=lambda args, *_: seen.append(args) or 1)
    monkeypatch.setitem(sys.modules, "perlsim.rollout_command", fake)
    assert run("rollout", "--vmap", 8, "--agents", "idm", "--horizon", 5, "--split", "val") == 1
    (args,) = seen
    assert (args.vmap, args.agents, args.horizon, args.split, args.store) == (8, "idm", 5, "val", None)


def test_the_help_of_import_names_every_format(capsys):
    assert run("import", "--help") == 0
    output = capsys.readouterr().out
    assert [name for name in FORMATS if name not in output] == []


def test_an_interrupted_command_ends_with_130(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "perlsim.rollout_command", SimpleNamespace(run=interrupted))
    assert run("rollout") == 130


def test_info_prints_controller_fidelity_where_asked(tmp_path, monkeypatch, capsys):
    store = ScenarioStore.create(tmp_path / "s")
    store.append([make_scenario()])
    row = {"source": "fake", "windows": 7, "median_error": 0.123, "p90_error": 0.4}
    fake = SimpleNamespace(fidelity_report=lambda opened: [row] * len(opened))
    monkeypatch.setitem(sys.modules, "perlsim.fidelity", fake)
    assert run("info", store.path, "--fidelity", "--json", tmp_path / "info.json") == 0
    output = capsys.readouterr().out
    assert "p90_error" in output and "0.123" in output
    assert json.loads((tmp_path / "info.json").read_text())["fidelity"] == [row]
