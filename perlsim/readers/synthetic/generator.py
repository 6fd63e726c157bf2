"""Draws maps and traffic, drives them in batches, and packs the result as scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from perlsim.errors import PerlsimError
from perlsim.readers.synthetic import corridors, junctions
from perlsim.readers.synthetic.crowd import Slots, find_slots, populate
from perlsim.readers.synthetic.maps import FAR, PathTable, TownMap, tabulate
from perlsim.readers.synthetic.pack import pack
from perlsim.readers.synthetic.poses import Poses, place, rejected
from perlsim.readers.synthetic.relations import Batch, assemble
from perlsim.readers.synthetic.traffic import Motion, Traffic
from perlsim.scenario import Scenario
from perlsim.vocabulary import AgentType

_BUILDERS: dict[str, Callable[[np.random.Generator], TownMap]] = {
    "multi_lane": corridors.multi_lane,
    "signalised_junction": junctions.signalised_junction,
    "unsignalised_junction": junctions.unsignalised_junction,
    "roundabout": junctions.roundabout,
    "merge": corridors.merge,
    "parked_street": corridors.parked_street,
}
FAMILIES: tuple[str, ...] = tuple(_BUILDERS)
"""Names of the scenario families."""

SHARING = 8
"""Consecutive scenarios of a family that share a map: together they are one recording."""
_BATCH = 128
_ATTEMPTS = 50


def generate(
    num: int,
    seed: int,
    families: Sequence[str] | None = None,
    *,
    first: int = 0,
    duration: float = 15.0,
    dt: float = 0.1,
) -> Iterator[Scenario]:
    """Yields driving logs of rule-based traffic on procedural maps, free of collisions.

    Scenario ``i`` is of family ``families[i % len(families)]`` and depends on `seed`, `families`, `duration`,
    `dt` and ``i`` alone, not on `num`. Every `SHARING` scenarios of a family share a map and with it a
    `recording_id`; the `place` is the family.

    Args:
        num: how many scenarios.
        seed: non-negative; another seed gives other maps and other traffic.
        families: names from `FAMILIES`, all of them if None.
        first: number ``i`` of the first scenario.
        duration: s from the first to the last step.
        dt: s between steps, 0.02 to 0.2.

    Yields:
        Valid scenarios in the scenario frame, of ``round(duration / dt) + 1`` steps.

    Raises:
        PerlsimError: an argument is out of range, or a family is unknown.
    """
    names = FAMILIES if families is None else tuple(families)
    unknown = [name for name in names if name not in _BUILDERS]
    if unknown or not names:
        raise PerlsimError(
            f"unknown families {unknown}" if unknown else "no family given",
            field="families",
            remedy=f"choose from {', '.join(FAMILIES)}",
        )
    if min(num, seed, first) < 0:
        raise PerlsimError(
            f"expected num, seed and first >= 0, found {num}, {seed} and {first}", field="num, seed, first"
        )
    if not 0.02 <= dt <= 0.2 or not dt <= duration <= 600.0:
        raise PerlsimError(
            f"expected dt in [0.02, 0.2] and duration in [dt, 600] s, found {dt} and {duration}",
            field="dt, duration",
        )
    return _stream(range(first, first + num), seed, names, round(duration / dt) + 1, dt)


def _stream(numbers: range, seed: int, names: tuple[str, ...], steps: int, dt: float) -> Iterator[Scenario]:
    chunk = _BATCH * len(names)
    for begin in range(0, len(numbers), chunk):
        wanted = numbers[begin : begin + chunk]
        made: dict[int, Scenario] = {}
        for slot, name in enumerate(names):
            indices = [i for i in wanted if i % len(names) == slot]
            keys = [(slot, i // len(names)) for i in indices]
            made.update(zip(indices, draw(name, seed, keys, steps, dt), strict=True))
        yield from (made[i] for i in wanted)


def draw(
    family: str,
    seed: int,
    keys: Sequence[tuple[int, int]],
    steps: int,
    dt: float,
    tally: list[int] | None = None,
) -> list[Scenario]:
    """The scenarios of one family with given keys (slot, number).

    A scenario that fails a check is drawn again from its next sub-seed. `tally`, if given, receives the
    number of tries of every round (for measuring how often that happens).
    """
    done: dict[int, Scenario] = {}
    open_ = list(range(len(keys)))
    for attempt in range(_ATTEMPTS):
        if not open_:
            break
        if tally is not None:
            tally.append(len(open_))
        for place_, scenario in zip(
            open_, _simulate(family, seed, [keys[k] for k in open_], attempt, steps, dt), strict=True
        ):
            if scenario is not None:
                done[place_] = scenario
        open_ = [k for k in open_ if k not in done]
    if open_:
        raise PerlsimError(
            f"{family}: no collision-free log of {steps} steps in {_ATTEMPTS} tries",
            remedy="ask for a shorter duration or another seed",
        )
    return [done[k] for k in range(len(keys))]


@lru_cache(maxsize=128)
def _town(family: str, seed: int, slot: int, number: int) -> tuple[TownMap, PathTable, Slots]:
    rng = np.random.default_rng([seed, FAMILIES.index(family), slot, number, 0])
    town = _BUILDERS[family](rng)
    table = tabulate(town.paths)
    return town, table, find_slots(town, table)


def _simulate(family, seed, keys, attempt: int, steps: int, dt: float) -> list[Scenario | None]:
    towns, tables, crowds, clocks, rngs = [], [], [], [], []
    for slot, number in keys:
        town, table, slots = _town(family, seed, slot, number // SHARING)
        rng = np.random.default_rng([seed, FAMILIES.index(family), slot, number, 1 + attempt])
        towns.append(town)
        tables.append(table)
        crowds.append(populate(town, table, slots, rng))
        clocks.append(rng.uniform(0.0, town.program.cycle) if town.program else 0.0)
        rngs.append(rng)
    batch = assemble(towns, tables, crowds, clocks)
    traffic = Traffic(batch, dt)
    motion = traffic.run(steps)
    poses = place(batch, motion, dt)
    red = np.stack([traffic.lights.closed(step * dt) for step in range(steps)])
    bad = rejected(batch, motion, poses, traffic.hold, red)
    result: list[Scenario | None] = []
    for k, (slot, number) in enumerate(keys):
        ego = -1 if bad[k] else _choose_ego(batch, motion, poses, k, rngs[k])
        recording = f"{family}-{seed}-{slot}-{number // SHARING}"
        packed = None if ego < 0 else pack(batch, motion, poses, k, ego, recording, number % SHARING, dt)
        result.append(packed)
    return result


def _choose_ego(batch: Batch, motion: Motion, poses: Poses, scene: int, rng) -> int:
    """A car that stays to the end and to which something happens; −1 where there is none."""
    rows = slice(batch.first[scene], batch.first[scene + 1])
    crowd = batch.crowd
    fit = (
        motion.active[:, rows].all(0)
        & (crowd.path[rows] >= 0)
        & (crowd.kind[rows] == AgentType.VEHICLE)
        & (crowd.brake_start[rows] >= FAR)
    )
    if not fit.any():
        return -1
    accel, speed = motion.accel[:, rows], motion.speed[:, rows]
    moving = speed > 0.5
    braked = np.clip(-np.where(moving, accel, 0.0).min(0) - 1.5, 0.0, 3.0) / 3.0
    turned = np.minimum(poses.turned[rows], 1.5) / 1.5
    swung = np.ptp(motion.side[:, rows], axis=0) > 1.0
    halts = (moving[1:] != moving[:-1]).any(0)
    idle = speed.mean(0) < 1.0
    interest = (
        braked + 0.6 * turned + 0.6 * swung + 0.6 * halts - 1.5 * idle + rng.uniform(0.0, 1.6, len(fit))
    )
    return int(np.argmax(np.where(fit, interest, -np.inf)))
