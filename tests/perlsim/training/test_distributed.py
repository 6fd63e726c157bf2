import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from perlsim.errors import PerlsimError
from perlsim.training.distributed import Launch, launch_of
from perlsim.training.run_log import read_lines


def test_launches_are_read_from_the_variables_of_plain_starts_kubernetes_torchrun_and_slurm():
    plain = {"JAX_COORDINATOR_ADDRESS": "head:99", "JAX_NUM_PROCESSES": "4"}
    assert launch_of({**plain, "JAX_PROCESS_ID": "3"}) == Launch("head:99", 4, 3)
    assert launch_of({**plain, "JOB_COMPLETION_INDEX": "1"}) == Launch("head:99", 4, 1)
    ranks = {"MASTER_ADDR": "head", "MASTER_PORT": "7", "WORLD_SIZE": "2", "RANK": "1"}
    assert launch_of(ranks) == Launch("head:7", 2, 1)
    assert launch_of({"SLURM_STEP_NUM_TASKS": "2"}) == Launch(None, None, None)


def test_variables_that_are_missing_or_wrong_are_named():
    with pytest.raises(PerlsimError, match="nothing tells this process"):
        launch_of({})
    with pytest.raises(PerlsimError, match="JAX_NUM_PROCESSES"):
        launch_of({"JAX_COORDINATOR_ADDRESS": "head:99", "JAX_PROCESS_ID": "0"})
    with pytest.raises(PerlsimError, match="process 4 of 4"):
        launch_of({"JAX_COORDINATOR_ADDRESS": "h", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "4"})


def test_two_processes_give_the_losses_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}

    def start(folder, num_devices, more):
        script = [sys.executable, str(Path(__file__).with_name("toy_stage.py")), str(folder), "0"]
        environment = {**os.environ, **more, "TOY_DEVICES": str(num_devices)}
        return subprocess.Popen(script, env=environment, stderr=subprocess.PIPE, text=True)

    pair = [start(tmp_path / "two", 1, {**common, "JAX_PROCESS_ID": str(number)}) for number in range(2)]
    for process in pair:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    alone = start(tmp_path / "one", 1, {})
    _, errors = alone.communicate(timeout=100)
    assert alone.returncode == 0, errors
    one, two = (read_lines(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) > 5
    np.testing.assert_allclose([line["loss"] for line in two], [line["loss"] for line in one], rtol=1e-5)
    assert sorted(entry.name for entry in (tmp_path / "two" / "checkpoints").iterdir())[-1] == "00000040"
