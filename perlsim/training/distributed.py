"""Training in several processes, on one machine or many, by JAX's own runtime.

Each process drives its own devices; together they are one mesh. Where to meet is read from the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from perlsim.errors import PerlsimError

# Variables by launcher: address of the first process, number of processes, number of this one.
_PLAIN = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_TORCHRUN = ("MASTER_ADDR", "WORLD_SIZE", "RANK")
_DEFAULT_PORT = 12355


class Launch(NamedTuple):
    """Where processes meet; all None where JAX finds out by itself (SLURM, Open MPI, Cloud TPU)."""

    address: str | None
    num_processes: int | None
    process_id: int | None


def launch_of(environment: Mapping[str, str]) -> Launch:
    """How this process was launched.

    Read in this order: ``JAX_COORDINATOR_ADDRESS`` (host:port), ``JAX_NUM_PROCESSES``, ``JAX_PROCESS_ID`` (in a
    Kubernetes job with indices ``JOB_COMPLETION_INDEX`` in its place); ``MASTER_ADDR``, ``MASTER_PORT``,
    ``WORLD_SIZE``, ``RANK``; SLURM's and Open MPI's.

    Args:
        environment: variables.

    Raises:
        PerlsimError: no launcher, a variable that is missing or no number.
    """
    if _PLAIN[0] in environment:
        index = _PLAIN[2] if _PLAIN[2] in environment else "JOB_COMPLETION_INDEX"
        return _checked(environment[_PLAIN[0]], environment, _PLAIN[1], index)
    if _TORCHRUN[0] in environment and _TORCHRUN[1] in environment:
        address = f"{environment[_TORCHRUN[0]]}:{environment.get('MASTER_PORT', _DEFAULT_PORT)}"
        return _checked(address, environment, _TORCHRUN[1], _TORCHRUN[2])
    if "SLURM_STEP_NUM_TASKS" in environment or "OMPI_MCA_orte_hnp_uri" in environment:
        return Launch(None, None, None)
    raise PerlsimError(
        "nothing tells this process where the others are",
        field="--distributed",
        remedy=f"launch it with srun, or set {', '.join(_PLAIN)}",
    )


def start(environment: Mapping[str, str] | None = None) -> None:
    """Joins the other processes; before the first use of a device.

    Args:
        environment: variables; the process's own by default.

    Raises:
        PerlsimError: see `launch_of`; the others do not come.
    """
    import jax

    launch = launch_of(os.environ if environment is None else environment)
    try:
        jax.distributed.initialize(launch.address, launch.num_processes, launch.process_id)
    except (RuntimeError, ValueError) as error:
        raise PerlsimError(
            f"the processes do not find each other: {error}".splitlines()[0], field="--distributed"
        ) from error


def wait_for_all(what: str) -> None:
    """Goes on when all processes are here.

    Args:
        what: for the message where one does not come.
    """
    import jax

    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices(what)


def _checked(address: str, environment: Mapping[str, str], count_name: str, index_name: str) -> Launch:
    if ":" not in address:
        address = f"{address}:{_DEFAULT_PORT}"
    count, index = (_number(environment, name) for name in (count_name, index_name))
    if not 0 <= index < count:
        raise PerlsimError(f"process {index} of {count} does not exist", field=index_name)
    return Launch(address, count, index)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name)
    if text is None or not text.isdigit():
        raise PerlsimError(f"expected a number, found {text!r}", field=name, remedy="set it for each process")
    return int(text)
