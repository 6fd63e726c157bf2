"""Controller fidelity: how far from the log an ego ends that is driven along its own logged path and speeds.

From many steps of each log one plan is made of what the log's ego did next, and driven open loop for 2 s
through controller and bicycle. Where that does not come out as logged, a planner would be trained on motions
that its controller will not give it (DESIGN §4: a median of at most 0.5 m).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from perlsim.scenario import Lights, Road, Scenario

if TYPE_CHECKING:
    from perlsim.bank import HostBank, ScenarioBank
    from perlsim.store import ScenarioStore

CONTROLLERS = ("bench2drive", "simlingo")
# Steps of 0.1 s driven open loop, and between the starts of windows.
HORIZON, STRIDE = 20, 5
# Largest median error [m] that is faithful.
LIMIT = 0.5
# Slower than this on average [m/s] a window counts as standing.
STANDING = 0.5
# Scenarios of one bank: without maps and other road users they are small.
_BANK = 1024


def fidelity_report(store: ScenarioStore) -> list[dict[str, Any]]:
    """Position errors after 2 s of every log with an ego, by source and controller.

    Args:
        store: opened store.

    Returns:
        Rows: source, controller, windows, median_error, p90_error [m]; median_moving [m], of windows faster
        than `STANDING`, None without any; along and aside [m], medians of the error's absolute components;
        faithful, whether the median is at most `LIMIT`.
    """
    from perlsim import backend

    backend.setup()
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for scenarios in _batches(store):
        for controller, sources, errors in measure(scenarios):
            for source in dict.fromkeys(sources):
                found.setdefault((source, controller), []).append(errors[sources == source])
    return [
        {"source": str(source), "controller": controller, **_summary(np.concatenate(parts))}
        for (source, controller), parts in sorted(found.items())
    ]


def measure(scenarios: Sequence[Scenario]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Drives every window of some scenarios with each controller.

    Args:
        scenarios: with egos.

    Yields:
        Controller, source of each window ``[W]``, and ``[W, 3]``: error along and aside of the logged heading
        [m], mean logged speed of the window [m/s].
    """
    import jax

    from perlsim.bank_build import build_bank
    from perlsim.sim.core import SimConfig

    alone = [scenario.replace(road=Road(), lights=Lights()) for scenario in scenarios]
    host = build_bank(alone, max_agents=1, observed_pieces=None)
    idx, start = windows(host)
    if not len(idx):
        return
    sources = np.array(host.info.sources)[idx]
    speed = np.asarray(host.bank.log_speed)[idx[:, None], start[:, None] + np.arange(HORIZON + 1)].mean(1)
    bank = jax.device_put(host.bank)
    for controller in CONTROLLERS:
        run = jax.jit(partial(_drive_windows, SimConfig(controller=controller)))
        along, aside = run(bank, idx, start)
        yield controller, sources, np.stack([along, aside, speed], 1)


def windows(host: HostBank) -> tuple[np.ndarray, np.ndarray]:
    """Scenario and first step of every window of `HORIZON` steps in which the ego is logged throughout."""
    valid = np.asarray(host.bank.tracks)[:, :, 7, 0] > 0
    steps = np.arange(valid.shape[1])
    # A run of valid steps: the number of invalid ones before its end is that before its start.
    invalid = np.concatenate([np.zeros((len(valid), 1), int), np.cumsum(~valid, 1)], 1)
    starts = steps[:-HORIZON:STRIDE]
    whole = invalid[:, starts + HORIZON + 1] == invalid[:, starts]
    idx, column = np.nonzero(whole)
    return idx.astype(np.int32), starts[column].astype(np.int32)


def _drive_windows(config: Any, bank: ScenarioBank, idx: Any, start: Any) -> tuple[Any, Any]:
    """Errors along and aside of the logged heading [m] after `HORIZON` steps, ``[W]`` each."""
    import jax
    from jax import lax

    from perlsim.bank import COS, SIN, Scene, X, Y
    from perlsim.geometry.numerics import to_frame
    from perlsim.policies import PrivilegedView
    from perlsim.policies.simple import LogReplay
    from perlsim.sim.agents import LogAgents
    from perlsim.sim.core import init, step

    policy = LogReplay(catch_up=0.0)
    agents: Any = LogAgents()

    def drive(idx, start):
        scene, key = Scene(bank, idx), jax.random.key(0)
        state = init(config, agents, scene, start, key)
        _, plan = policy.act((), PrivilegedView(scene, state), key)
        plan = plan.anchored(state.ego)
        last, _ = lax.scan(
            lambda s, _: (step(config, agents, scene, s, plan)[0], None), state, length=HORIZON
        )
        row = scene.agents_at(start + HORIZON)[:, 0]
        return to_frame(last.ego.x, last.ego.y, row[X], row[Y], row[COS], row[SIN])

    return jax.vmap(drive)(idx, start)


def _batches(store: ScenarioStore) -> Iterator[list[Scenario]]:
    numbers = store.select(has_ego=True)
    for first in range(0, len(numbers), _BANK):
        yield [store[number] for number in numbers[first : first + _BANK]]


def _summary(errors: np.ndarray) -> dict[str, Any]:
    along, aside, speed = errors.T
    distance = np.hypot(along, aside)
    moving = speed > STANDING
    median = float(np.median(distance))
    return {
        "windows": len(distance),
        "median_error": median,
        "p90_error": float(np.quantile(distance, 0.9)),
        "median_moving": float(np.median(distance[moving])) if moving.any() else None,
        "along": float(np.median(np.abs(along))),
        "aside": float(np.median(np.abs(aside))),
        "faithful": median <= LIMIT,
    }
