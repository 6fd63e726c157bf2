import io
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console
from toy_stage import ToyStage

from perlsim.errors import PerlsimError
from perlsim.training import loop
from perlsim.training.loop import train_stage
from perlsim.training.run_log import JsonLines, Logs, read_lines


def train(stage, folder, **choices):
    log = JsonLines(folder / "log.jsonl")
    choices = {"seed": 1, "updates_per_call": 10, "checkpoint_every": 20, **choices}
    params = train_stage(stage, folder, log, **choices)
    log.close()
    return params, read_lines(folder / "log.jsonl")


def same_bits(one, two) -> bool:
    return all(
        a.tobytes() == b.tobytes() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    )


def test_training_lowers_the_loss_and_logs_its_mean_between_looks(tmp_path):
    params, lines = train(ToyStage(num_updates=200), tmp_path)
    assert [line["update"] for line in lines] == list(range(10, 201, 10))
    assert lines[-1]["loss"] < 0.05 * lines[0]["loss"]
    assert lines[-1]["gradient_norm"] > 0
    assert np.abs(params["layer"]["weight"] - np.arange(6).reshape(3, 2)).max() < 1.0


def test_the_number_of_devices_does_not_change_the_losses(tmp_path, monkeypatch):
    assert len(jax.devices()) > 1, "the test needs two devices"
    _, many = train(ToyStage(), tmp_path / "many")
    monkeypatch.setattr(loop.jax, "devices", lambda: jax.local_devices()[:1])
    _, one = train(ToyStage(), tmp_path / "one")
    np.testing.assert_allclose(
        [line["loss"] for line in many], [line["loss"] for line in one], rtol=1e-5, atol=1e-6
    )


def test_a_batch_that_the_devices_cannot_share_uses_fewer_of_them(tmp_path):
    _, lines = train(ToyStage(batch_size=7, num_updates=10), tmp_path)
    assert np.isfinite(lines[-1]["loss"])


def test_looks_and_checkpoints_do_not_change_the_weights(tmp_path):
    one, _ = train(ToyStage(), tmp_path / "one", updates_per_call=40, checkpoint_every=40)
    other, _ = train(ToyStage(), tmp_path / "other", updates_per_call=7, checkpoint_every=9)
    assert same_bits(one, other)


def test_all_updates_run_in_one_compiled_program(tmp_path, monkeypatch):
    calls = []

    class Spied(loop._Calls):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            calls.append(self)

    monkeypatch.setattr(loop, "_Calls", Spied)
    train(ToyStage(), tmp_path, updates_per_call=7, checkpoint_every=9)
    assert calls[0].run._cache_size() == 1


def test_a_number_that_is_not_finite_stops_training_and_is_named(tmp_path):
    with pytest.raises(PerlsimError, match=r"update 23 of toy: metric loss, metric \w+, gradient of layer/"):
        train(ToyStage(breaks_at=23), tmp_path)
    kept = [entry.name for entry in (tmp_path / "checkpoints").iterdir()]
    assert kept == ["00000020"], "what was good stays"


def test_a_finished_stage_is_not_trained_again(tmp_path):
    one, _ = train(ToyStage(), tmp_path)
    stage = ToyStage()
    stage.data = lambda: pytest.fail("nothing is to be done")
    other, _ = train(stage, tmp_path)
    assert same_bits(one, other)


def test_the_weights_with_the_highest_score_are_returned_though_they_are_old(tmp_path):
    scores = (1.0, 9.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0)
    best, lines = train(ToyStage(scores=scores), tmp_path / "scored", checkpoint_every=5)
    until_then, _ = train(ToyStage(num_updates=10), tmp_path / "short")
    assert same_bits(best, until_then)
    assert [line["validation/score"] for line in lines if "validation/score" in line] == list(scores)


def test_a_process_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path):
    script = Path(__file__).with_name("toy_stage.py")

    def start(folder, pause):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, str(script), str(folder), str(pause)])

    assert start(tmp_path / "whole", 0.0).wait(60) == 0
    killed = tmp_path / "killed"
    for wanted in (8, 20):
        child = start(killed, 0.15)
        deadline = time.monotonic() + 60
        while not (killed / "checkpoints" / f"{wanted:08d}").is_dir():
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        child.kill()
        assert child.wait(10) != 0
    assert start(killed, 0.0).wait(60) == 0

    def outcome(folder):
        found = loop.Checkpoints(folder / "checkpoints").restore(_state())
        assert found is not None and found.update == 40
        return found.tree, [(line["update"], line["loss"]) for line in read_lines(folder / "log.jsonl")]

    (tree, lines), (other_tree, other_lines) = outcome(tmp_path / "whole"), outcome(killed)
    assert same_bits(tree, other_tree)
    assert lines == other_lines


def _state():
    stage = ToyStage()
    params = stage.init(jax.random.key(1))
    return loop.TrainState(params, stage.optimiser.init(params))


def test_a_pipe_gets_plain_lines_with_speed_and_time_left(tmp_path):
    text = io.StringIO()
    console = Console(file=text, width=200)
    train_stage(
        ToyStage(), tmp_path, Logs(()), seed=1, updates_per_call=10, checkpoint_every=20, console=console
    )
    assert "toy: update 10 of 40, loss " in text.getvalue()
    last = text.getvalue().splitlines()[-1]
    assert "toy: update 40 of 40" in last and "samples/s" in last and "left" in last
