"""``perlsim train`` with a pipeline of one tiny stage."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from toy_stage import ToyJob, ToySettings

from perlsim.cli import Train
from perlsim.errors import PerlsimError
from perlsim.runs import read_run
from perlsim.train_command import Program, run


@pytest.fixture
def configs(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text("num_updates: 12\nlayers: {width: 2}\n")
    return tmp_path / "configs"


def train(configs, out, *overrides, fresh=False):
    args = Train(config="tiny", out=out, set=overrides, fresh=fresh)
    return run(args, lambda: Program(ToySettings, configs, ToyJob))


def weights(out: Path) -> bytes:
    return (out / "weights.bin").read_bytes()


def test_a_run_leaves_its_resolved_configuration_its_conditions_and_its_results(configs, tmp_path):
    assert train(configs, tmp_path / "run", "layers.width=5") == 0
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert resolved == {"num_updates": 12, "layers": {"width": 5}, "pause": 0.0}
    conditions = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert conditions["jax"] and conditions["num_devices"] >= 1 and "commit" in conditions
    assert read_run(tmp_path / "run")["policies"] == ["toy"]
    assert (tmp_path / "run" / "page.html").is_file(), "what needs a finished run is made last"


def test_a_finished_run_is_shown_and_not_run_again(configs, tmp_path, capsys):
    train(configs, tmp_path / "run")
    before = weights(tmp_path / "run")
    (tmp_path / "run" / "weights.bin").write_bytes(b"")
    assert train(configs, tmp_path / "run") == 0
    assert "finished before" in capsys.readouterr().out
    assert weights(tmp_path / "run") == b""
    assert train(configs, tmp_path / "run", fresh=True) == 0
    assert weights(tmp_path / "run") == before


def test_other_settings_do_not_take_over_a_run_and_are_named(configs, tmp_path):
    train(configs, tmp_path / "run")
    with pytest.raises(PerlsimError, match=r"layers.width = 2, asked for is 3.*--fresh"):
        train(configs, tmp_path / "run", "layers.width=3")


def test_an_unfinished_run_is_not_taken_over_by_other_settings_either(configs, tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ToyJob, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(configs, tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(PerlsimError, match=r"layers.width = 2, asked for is 3.*--fresh"):
        train(configs, tmp_path / "run", "layers.width=3")
    assert train(configs, tmp_path / "run") == 0


def test_fresh_deletes_nothing_but_training_runs(configs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(PerlsimError, match="not deleted"):
        train(configs, tmp_path / "mine", fresh=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "irreplaceable"


def test_a_command_killed_in_training_goes_on_to_the_same_weights(configs, tmp_path):
    script = Path(__file__).with_name("toy_stage.py")

    def start(out, pause):
        command = [sys.executable, str(script), "train", str(configs), str(out), str(pause)]
        return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)

    child = start(tmp_path / "killed", 0.3)
    deadline = time.monotonic() + 90
    while not (tmp_path / "killed" / "toy" / "checkpoints" / "00000004").is_dir():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(10)
    assert not (tmp_path / "killed" / "run.json").exists()
    assert start(tmp_path / "killed", 0.3).wait(90) == 0
    assert start(tmp_path / "whole", 0.3).wait(90) == 0
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
