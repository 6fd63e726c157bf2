"""The scripted road users of many routes as one agent model: rules on arrays, on the device.

Each follows its own path by arc length. Its speed is the least of what it wants (see `Actor.speeds`), what its path's
bends allow, what the Intelligent Driver Model leaves behind whoever is on its path, and what lets it stop in
time. None of it is learned, and nothing is read from a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.agent_paths import curve_speed, lines_on_path, slowed_ahead
from perlsim.bank import (
    AGENT_PATH_SPACING,
    COS,
    PATH_HEADING,
    PATH_LIMIT,
    PATH_Z,
    SIN,
    STEP,
    VALID,
    VX,
    VY,
    Scene,
    X,
    Y,
    Z,
)
from perlsim.errors import PerlsimError
from perlsim.geometry import polylines
from perlsim.geometry.cells import LEVEL_HEIGHT
from perlsim.geometry.numerics import safe_sqrt
from perlsim.scenario import Array, Scenario
from perlsim.sim.agents import EgoFuture
from perlsim.sim.core import with_ego
from perlsim.sim.idm import IdmAgents, IdmMemory, path_points, rows_on
from perlsim.sim.types import SimState
from perlsim.sim.vehicle import Controls
from perlsim.worlds.actors.script import NO_FLOW, Actor, Script, Stretch

# Who enters a flow looks so far back [m] and aside [m] for others on its lane.
_BEHIND, _ASIDE = 20.0, 2.0
# Share of its own speed below which nobody goes to meet the ego: it does not wait for an ego that waits.
_LEAST_PACE = 0.3
# m beyond a meeting as far as speeds are kept.
_PAST = 6.0
# s before others come to a place within which nobody who yields to them drives into it, and the share of the way to
# its ends within which they are in it: who waits at an end is not [S].
_GAP_TIME, _CORE = 4.0, 0.8
# m that they keep at least, and m of overlap from which they no longer heed whom they touch.
_ROOM, _TOUCHES = 2.0, 0.2
# m/s below which somebody ahead counts as standing or coming towards one.
_CREEPS = 0.5
# m/s² that all may brake for an ego that stands [S].
_STANDS = 6.0
_FAR = 1e4
_LONG_AGO = 1e6


class ScriptedMemory(NamedTuple):
    """Of each actor ``[A]``: arc [m], speed [m/s], s since its trigger (negative before), whether it is there.

    And the time [s] since the drive began.
    """

    arc: jax.Array
    speed: jax.Array
    since: jax.Array
    present: jax.Array
    time: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "paths",
        "length",
        "stops",
        "arc",
        "present",
        "trigger",
        "speeds",
        "until",
        "stop",
        "limits",
        "headway",
        "room",
        "margin",
        "heeds",
        "obeys",
        "flow",
        "before",
        "gap",
        "unseen",
        "meeting",
        "yields",
        "disturbances",
        "time_headway",
    ],
    meta_fields=["look_ahead"],
)
@dataclass(frozen=True)
class ScriptedAgents:
    """Scripted road users of S routes in A slots, that of the ego (0) and empty ones included.

    Attributes:
        paths: ``[S, A, P, 5]`` as `ScenarioBank.agent_paths`, in the frames of the scenarios.
        length: ``[S, A]`` m; 0 for an empty slot.
        stops: ``[S, A, M, 2]`` as `ScenarioBank.agent_stops`.
        arc: ``[S, A]`` m; negative waits at the source of its flow.
        present: bool ``[S, A]``, whether each is there before its trigger.
        trigger: ``[S, 4, A]``: arc [m], distance [m], lead [s], time [s] (`script.Trigger`).
        speeds: ``[S, 4, A]`` m/s; until: ``[S, 2, A]`` s; stop: ``[S, A]`` m.
        limits: ``[S, 3, A]`` m/s²: acceleration, deceleration, braking.
        headway: ``[S, A]`` s; room, margin: ``[S, A]`` m.
        heeds, obeys: bool ``[S, A]``.
        flow: int32 ``[S, A]``; gap, unseen: ``[S, A]`` m.
        before: int32 ``[S, A]``, slot of the one before each in its flow, round and round; its own outside flows.
        meeting: ``[S, 5, A]`` m, m/s, 0 or 1: `script.Meeting`; negative arcs for none.
        yields: ``[S, Y, 4, A]``: arc at which each stretch of a path begins [m], negative for none; x, y [m] of its
            middle and m from there to its ends (`script.Actor.yields`).
        disturbances: ``[S, D, 4]``: begin, end [m], steer, throttle (`script.Disturbance`).
        time_headway: times the headways of all.
        look_ahead: m of path on which each looks for others (static).
    """

    paths: jax.Array
    length: jax.Array
    stops: jax.Array
    arc: jax.Array
    present: jax.Array
    trigger: jax.Array
    speeds: jax.Array
    until: jax.Array
    stop: jax.Array
    limits: jax.Array
    headway: jax.Array
    room: jax.Array
    margin: jax.Array
    heeds: jax.Array
    obeys: jax.Array
    flow: jax.Array
    before: jax.Array
    gap: jax.Array
    unseen: jax.Array
    meeting: jax.Array
    yields: jax.Array
    disturbances: jax.Array
    time_headway: jax.Array | float = 1.0
    look_ahead: float = 60.0
    requires_paths: ClassVar[bool] = False
    replays_log: ClassVar[bool] = False

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> ScriptedMemory:
        """Everyone where its script begins."""
        s = scene.idx
        waits = self.arc[s] < 0
        present = self.present[s] & ~waits & (self.length[s] > 0)
        arc = jnp.maximum(self.arc[s], 0.0)
        speed = jnp.minimum(self.speeds[s, 0], path_points(self._on(scene), arc)[PATH_LIMIT])
        return ScriptedMemory(arc, speed, jnp.full_like(arc, -1.0), present, jnp.float32(0.0))

    def act(
        self, memory: ScriptedMemory, scene: Scene, state: SimState, ego_future: EgoFuture, key: jax.Array
    ):
        """Road users of the next step."""
        s, along, rows = scene.idx, self._on(scene), with_ego(state)
        half_length = scene.bank.boxes[s, 0]
        since, begins = self._since(memory, s, state)
        wanted = self._in_time(s, self._wanted(s, since), memory, state)
        # Who is absent stands, invalid, where it would enter, so that it sees who is in its way.
        slots = jnp.arange(rows.shape[1])
        here = rows_on(along, memory.arc, memory.speed, memory.present.astype(jnp.float32))
        rows = jnp.where(slots == 0, rows, here)
        acceleration, deceleration, braking = self.limits[s]
        # For who stands in the way there is time to see.
        braking = jnp.where(state.ego.speed < _CREEPS, jnp.maximum(braking, _STANDS), braking)
        model = IdmAgents(
            time_headway=self.time_headway * self.headway[s],
            acceleration=acceleration,
            deceleration=deceleration,
            hard_deceleration=braking,
            look_ahead=self.look_ahead,
            margin=self.margin[s],
        )
        gap, leader_speed = model.leader(along, rows, memory.arc)
        room = jnp.where(leader_speed < _CREEPS, jnp.maximum(self.room[s], _ROOM), _ROOM)
        model = replace(model, minimum_gap=room)
        # Who touches somebody drives on: else both would stand there for ever.
        ahead = gap
        heeds = self.heeds[s] & (gap > -_TOUCHES)
        gap, leader_speed = jnp.where(heeds, gap, _FAR), jnp.where(heeds, leader_speed, 0.0)
        follow = IdmMemory(memory.arc, memory.speed, memory.present)
        line = jnp.where(self.obeys[s], IdmAgents().to_light(along, state.step, follow, half_length), _FAR)
        line = jnp.minimum(line, self._to_gap(s, memory, rows, half_length))
        limit = jnp.minimum(wanted, path_points(along, memory.arc)[PATH_LIMIT])
        free = acceleration * (1.0 - (memory.speed / jnp.maximum(limit, 0.1)) ** 4)
        change = jnp.where(limit > 0, jnp.clip(free, -deceleration, acceleration), -braking)
        endless = jnp.full_like(memory.speed, jnp.inf)
        change = jnp.minimum(change, model.accelerate(memory.speed, endless, gap, leader_speed))
        change = jnp.minimum(change, model.accelerate(memory.speed, endless, line, jnp.zeros_like(line)))
        speed = jnp.clip(memory.speed + change * STEP, 0.0, jnp.maximum(limit, memory.speed))
        speed = jnp.minimum(
            speed, safe_sqrt(2.0 * deceleration * jnp.maximum(self.stop[s] - memory.arc, 0.0))
        )
        arc = memory.arc + jnp.where(memory.present, 0.5 * (memory.speed + speed) * STEP, 0.0)

        is_over = memory.present & (arc >= self.length[s])
        is_waiting = ~memory.present & (self.flow[s] != NO_FLOW)
        enters = self._enters(s, is_waiting, rows, ahead, memory.arc, half_length)
        appears = begins & ~memory.present & ~is_waiting
        fresh = enters | appears
        entry = safe_sqrt(jnp.maximum(leader_speed, 0.0) ** 2 + deceleration * jnp.maximum(gap - room, 0.0))
        arc = jnp.where(is_over & (self.flow[s] != NO_FLOW), 0.0, arc)
        speed = jnp.where(fresh, jnp.minimum(limit, entry), speed)
        present = (memory.present | fresh) & ~is_over
        speed = jnp.where(present, speed, 0.0)
        memory = ScriptedMemory(arc, speed, since, present, memory.time + STEP)
        return memory, rows_on(along, arc, speed, present.astype(jnp.float32))

    def _on(self, scene: Scene) -> Scene:
        """The scene with the scripts' paths for those of the bank."""
        return Scene(replace(scene.bank, agent_paths=self.paths, agent_stops=self.stops), scene.idx)

    def _since(self, memory: ScriptedMemory, s: jax.Array, state: SimState) -> tuple[jax.Array, jax.Array]:
        """Time since the triggers [s], and who begins now."""
        place, distance, lead, time = self.trigger[s]
        reached = state.route_arc >= place - jnp.maximum(distance, lead * state.ego.speed)
        begins = (memory.since < 0) & reached & (memory.time >= time)
        later = jnp.where(memory.since >= 0, jnp.minimum(memory.since + STEP, _LONG_AGO), -1.0)
        return jnp.where(begins, 0.0, later), begins

    def _wanted(self, s: jax.Array, since: jax.Array) -> jax.Array:
        """Speeds that they want [m/s]."""
        passed = (since >= 0).astype(jnp.int32) + (since >= self.until[s]).sum(0)
        return jnp.take_along_axis(self.speeds[s], passed[None], 0)[0]

    def _in_time(self, s: jax.Array, wanted: jax.Array, memory: ScriptedMemory, state: SimState) -> jax.Array:
        """Speeds with which they come to their meetings as the ego does, where they have any [m/s]."""
        own, ego, until, most, keeps = self.meeting[s]
        left, time = own - memory.arc, (ego - state.route_arc) / jnp.maximum(state.ego.speed, 0.1)
        most = jnp.where(wanted > 0, jnp.maximum(most, wanted), 0.0)
        pace = jnp.clip(left / jnp.maximum(time, 0.1), _LEAST_PACE * most, most)
        goes_on = jnp.where((keeps > 0) & (left > -_PAST) & (left <= until), memory.speed, wanted)
        return jnp.where((left > until) & (time > 0), pace, goes_on)

    def _to_gap(
        self, s: jax.Array, memory: ScriptedMemory, rows: jax.Array, half_length: jax.Array
    ) -> jax.Array:
        """m to where each has to wait for others who are in its way or come to it; far away where nobody does.

        Of two who yield to each other the one in the later slot waits.
        """
        nearest = jnp.full_like(memory.arc, _FAR)
        slots, speed = jnp.arange(rows.shape[1]), jnp.hypot(rows[VX], rows[VY])
        # The ego and those that yield nowhere have the right of way.
        later = (slots[:, None] < slots) & (self.yields[s][:, 0] > 0).any(0)
        for begin, x, y, reach in self.yields[s]:
            dx, dy = x[:, None] - rows[X], y[:, None] - rows[Y]
            apart = safe_sqrt(dx * dx + dy * dy)
            closing = (dx * rows[VX] + dy * rows[VY]) / jnp.maximum(apart, 0.1)
            beside = jnp.abs(dx * rows[VY] - dy * rows[VX]) / jnp.maximum(speed, 0.1)
            inside = apart < _CORE * reach[:, None]
            comes = (apart - reach[:, None] < _GAP_TIME * closing) & (beside < reach[:, None]) & (speed > 0.5)
            others = (rows[VALID] > 0) & (slots[:, None] != slots)
            waits = (others & (inside | (comes & ~later))).any(1)
            gap = begin - memory.arc - half_length
            stops = waits & (gap > 0) & (memory.speed**2 <= 2.0 * self.limits[s, 2] * gap)
            nearest = jnp.where(stops, jnp.minimum(nearest, gap), nearest)
        return nearest

    def disturbed(self, scene: Scene, state: SimState, controls: Controls) -> Controls:
        """The ego's controls, put off where it drives over a disturbance."""
        begin, end, steer, throttle = self.disturbances[scene.idx].T
        here = (state.route_arc > begin) & (state.route_arc < end)
        return controls._replace(
            steer=jnp.clip(controls.steer + jnp.sum(here * steer), -1.0, 1.0),
            throttle=jnp.clip(controls.throttle + jnp.sum(here * throttle), 0.0, 1.0),
        )

    def _enters(
        self,
        s: jax.Array,
        is_waiting: jax.Array,
        rows: jax.Array,
        gap: jax.Array,
        arc: jax.Array,
        half_length: jax.Array,
    ) -> jax.Array:
        """Who of those that wait enters: each behind the one before it in its flow, when it has room.

        Where a flow is gone altogether, the first of it begins again.

        Args:
            s: scene.
            is_waiting: bool ``[A]``.
            rows: ``[8, A]``, everybody.
            gap: m, to whoever is ahead.
            arc, half_length: m, of all on their paths.
        """
        dx, dy = rows[X] - rows[X][:, None], rows[Y] - rows[Y][:, None]
        along = dx * rows[COS][:, None] + dy * rows[SIN][:, None]
        across = dy * rows[COS][:, None] - dx * rows[SIN][:, None]
        near = (along > -_BEHIND) & (along < _ASIDE) & (jnp.abs(across) < _ASIDE)
        near &= jnp.abs(rows[Z] - rows[Z][:, None]) < LEVEL_HEIGHT
        blocked = (near & (rows[VALID] > 0)).any(1)
        present = rows[VALID] > 0
        same = self.flow[s] == self.flow[s][:, None]
        before = self.before[s]
        room = arc[before] - half_length[before] - half_length
        follows = present[before] & (room >= self.gap[s])
        earlier = jnp.tril(jnp.ones(same.shape, bool), -1)
        is_first = ~(same & (present | earlier)).any(1)
        blocked |= jnp.hypot(rows[X, 0] - rows[X], rows[Y, 0] - rows[Y]) < self.unseen[s]
        free = is_waiting & ~blocked & (gap >= jnp.minimum(self.gap[s], self.look_ahead - _ASIDE))
        free &= follows | is_first
        return free & ~(same & earlier & free).any(1)


def stack_scripts(
    scripts: Sequence[Script], scenarios: Sequence[Scenario], num_agents: int
) -> ScriptedAgents:
    """The agent model of a bank's scenarios, as numpy arrays.

    Args:
        scripts: one for each scenario.
        scenarios: those of the bank, in its order: their origins and lights.
        num_agents: slots of the bank; actor n has slot 1 + n.

    Raises:
        PerlsimError: for a script with more actors than there are slots.
    """
    tables = [
        _tables(script, scenario, num_agents) for script, scenario in zip(scripts, scenarios, strict=True)
    ]
    longest = max([2] + [len(path) for table in tables for path in table.paths])
    most = max([1] + [len(stops) for table in tables for stops in table.stops])
    paths = np.zeros((len(tables), num_agents, longest, 5), np.float32)
    stops = np.full((len(tables), num_agents, most, 2), -1.0, np.float32)
    for row, table in enumerate(tables):
        for slot, path, lines in zip(table.slots, table.paths, table.stops, strict=True):
            more = np.arange(1, longest - len(path) + 1)[:, None]
            step = (path[-1] - path[-2]) * (1, 1, 0, 1, 0)
            paths[row, slot] = np.concatenate([path, path[-1] + more * step])
            stops[row, slot, : len(lines)] = lines
    count = max((len(actor.yields) for script in scripts for actor in script.actors), default=0)
    yields = np.full((len(tables), count, 4, num_agents), -1.0, np.float32)
    for row, (script, scenario) in enumerate(zip(scripts, scenarios, strict=True)):
        for slot, actor in enumerate(script.actors, 1):
            for number, stretch in enumerate(actor.yields):
                yields[row, number, :, slot] = _circle(actor, stretch, scenario.origin)
    disturbances = np.zeros((len(tables), max([1] + [len(s.disturbances) for s in scripts]), 4), np.float32)
    for row, script in enumerate(scripts):
        for number, one in enumerate(script.disturbances):
            disturbances[row, number] = one.begin, one.end, one.steer, one.throttle
    stacked = {name: np.stack([table.columns[name] for table in tables]) for name in tables[0].columns}
    return ScriptedAgents(paths=paths, stops=stops, yields=yields, disturbances=disturbances, **stacked)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class _Tables:
    """Arrays of one script, by slot."""

    slots: list[int]
    paths: list[Array]
    stops: list[Array]
    columns: dict[str, Array]


def _tables(script: Script, scenario: Scenario, num_agents: int) -> _Tables:
    if 1 + len(script) > num_agents:
        raise PerlsimError(
            f"{len(script)} actors in a bank of {num_agents} slots, the ego's included",
            field=f"scenario {scenario.scenario_id}",
            remedy="build the bank from scenarios with a track for each actor",
        )
    slots = list(range(1, 1 + len(script)))
    paths = [_path(actor, scenario.origin) for actor in script.actors]
    stops = [lines_on_path(scenario, scenario.lights, path) for path in paths]

    def column(values: Sequence, empty, dtype) -> Array:
        shape = np.shape(empty)
        rows = np.full((num_agents, *shape), empty, dtype)
        for slot, value in zip(slots, values, strict=True):
            rows[slot] = value
        return np.moveaxis(rows, 0, -1)

    actors = script.actors
    columns = {
        "length": column([polylines.arc_lengths(a.path)[-1] for a in actors], 0.0, np.float32),
        "arc": column([a.arc for a in actors], 0.0, np.float32),
        "present": column([a.present for a in actors], False, bool),
        "trigger": column([_finite(a.trigger) for a in actors], (_FAR,) * 4, np.float32),
        "speeds": column([a.speeds for a in actors], (0.0,) * 4, np.float32),
        "until": column([np.minimum(a.until, 2 * _LONG_AGO) for a in actors], (_FAR,) * 2, np.float32),
        "stop": column([min(a.stop, _LONG_AGO) for a in actors], 0.0, np.float32),
        "limits": column(
            [(a.acceleration, a.deceleration, a.braking) for a in actors], (1.0,) * 3, np.float32
        ),
        "headway": column([a.headway for a in actors], 1.0, np.float32),
        "room": column([a.room for a in actors], 0.0, np.float32),
        "margin": column([a.margin for a in actors], 0.0, np.float32),
        "heeds": column([a.heeds for a in actors], False, bool),
        "obeys": column([a.obeys for a in actors], False, bool),
        "flow": column([a.flow for a in actors], NO_FLOW, np.int32),
        "before": column(_before(actors), 0, np.int32),
        "gap": column([a.gap for a in actors], 0.0, np.float32),
        "unseen": column([a.unseen for a in actors], 0.0, np.float32),
        "meeting": column([_meeting(a) for a in actors], (-_FAR, 0.0, 0.0, 0.0, 0.0), np.float32),
    }
    return _Tables(slots, paths, stops, columns)


def _before(actors: Sequence[Actor]) -> list[int]:
    """The slot of the one before each actor in its flow; the last is before the first."""
    last: dict[int, int] = {}
    for slot, actor in enumerate(actors, 1):
        if actor.flow != NO_FLOW:
            last[actor.flow] = slot
    found = []
    for slot, actor in enumerate(actors, 1):
        found.append(slot if actor.flow == NO_FLOW else last[actor.flow])
        if actor.flow != NO_FLOW:
            last[actor.flow] = slot
    return found


def _circle(actor: Actor, stretch: Stretch, origin: Array) -> tuple[float, float, float, float]:
    """Where a stretch begins [m], the middle between its ends [m], and m from there to them."""
    ends = polylines.interpolate(actor.path - origin, np.array([stretch.begin, stretch.end]))[:, :2]
    x, y = ends.mean(0).tolist()
    return stretch.begin, x, y, max(float(np.hypot(*(ends[1] - ends[0]))) / 2, 2.0)


def _meeting(actor: Actor) -> tuple[float, float, float, float, float]:
    """The numbers of a meeting; an arc that nobody comes to where there is none."""
    meeting = actor.meeting
    if meeting is None:
        return -_FAR, 0.0, 0.0, 0.0, 0.0
    return meeting.arc, meeting.ego, meeting.until, meeting.pace, float(meeting.keeps)


def _finite(trigger) -> list[float]:
    """The numbers of a trigger, without infinities."""
    values = [getattr(trigger, field.name) for field in fields(trigger)]
    return np.clip(values, -_LONG_AGO, _LONG_AGO).tolist()


def _path(actor: Actor, origin: Array) -> Array:
    """The points of a path, ``[P, 5]`` in the order ``PATH_*`` of `perlsim.bank`, with two beyond its end."""
    line = actor.path - origin
    arcs = polylines.arc_lengths(line)
    ahead = line[-1] - polylines.interpolate(line, np.array([max(arcs[-1] - 0.5, 0.0)]))[0]
    ahead = ahead / max(float(np.hypot(*ahead[:2])), 1e-6)
    line = np.concatenate([line, line[-1:] + ahead * 3 * AGENT_PATH_SPACING])
    line = polylines.interpolate(line, np.arange(0.0, arcs[-1] + 2 * AGENT_PATH_SPACING, AGENT_PATH_SPACING))
    chord = np.vstack([line[1:], line[-1:]]) - np.vstack([line[:1], line[:-1]])
    points = np.zeros((len(line), 5))
    points[:, :2], points[:, PATH_Z] = line[:, :2], line[:, 2]
    points[:, PATH_HEADING] = heading = np.unwrap(np.arctan2(chord[:, 1], chord[:, 0]))
    points[:, PATH_LIMIT] = slowed_ahead(curve_speed(heading)) if actor.heeds else np.inf
    points[:, PATH_LIMIT] = np.minimum(points[:, PATH_LIMIT], 100.0)
    return points
