"""One-time set-up of JAX: call `setup` before the first computation of a process."""

from __future__ import annotations

import os
from importlib.metadata import version

# jaxlib 0.10.2 up to, not including, 0.12 can crash in fused reductions on x86 CPUs (jax issue 39257).
_FUSION_BUG = ((0, 10, 2), (0, 12))
_NO_FUSION = "--xla_cpu_experimental_ynn_fusion_type="


def setup(num_cpu_devices: int | None = None) -> None:
    """Prepares JAX's backend; has an effect only before the first use of a device.

    On the CPU it splits the cores into devices, because elementwise code inside a scan runs on one core: work
    sharded over devices (`perlsim.sim.rollout`) uses them all, by the same path as several GPUs.

    Args:
        num_cpu_devices: devices to split the CPU into; None takes one a core, at most 8.
    """
    parts = tuple(int(part) for part in version("jaxlib").split(".")[:3] if part.isdigit())
    if _FUSION_BUG[0] <= parts < _FUSION_BUG[1] and _NO_FUSION not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_NO_FUSION}".strip()
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", num_cpu_devices or min(num_cores(), 8))
    except RuntimeError:
        # The backend is already in use: whoever started it chose its devices.
        return


def compiler_options(platform: str) -> dict[str, bool | int] | None:
    """Options of XLA for programs that are sharded over devices, for ``jax.jit``.

    On the CPU work is spread over devices, so threads inside an operation would only wait for each other. Vectors
    of 512 bits (``xla_cpu_prefer_vector_width``) are not asked for: with them XLA of jax 0.10.2 compiles drives of
    more than about 60 routes a device to wrong results, without a word.

    Args:
        platform: of the devices.
    """
    if platform != "cpu":
        return None
    return {"xla_cpu_multi_thread_eigen": False}


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
