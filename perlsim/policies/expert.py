"""A privileged driver by rule: shifts its path round what stands or creeps, and chooses when to go.

At each plan it makes a few paths - along the route, past what blocks it on the left or the right, aside for an
emergency vehicle - drives each in many ways against forecasts of everybody, and takes the cheapest: nobody touched,
nobody near, far ahead, on the route, in lanes of its own direction, as before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import STEP, Scene
from perlsim.policies import PrivilegedView
from perlsim.policies.expert_forecast import CELL, CELLS, Others, Seen, forecast, in_hurry, nobody, seen_now
from perlsim.policies.expert_road import BEHIND, LENGTH, Frame, frame_of, ground_under, into, path_beside
from perlsim.policies.expert_speeds import COMFORTABLE, HARDEST, PASSING_GAP, STANDING_GAP, drive_ways
from perlsim.policies.idm_route import IdmRoute, targets
from perlsim.policies.route_path import POINTS, SPACING, RoutePath, centre_line, plan_on
from perlsim.policies.simple import SPEED_STEPS
from perlsim.sim.kernels import apart
from perlsim.sim.types import Plan, SimState
from perlsim.vocabulary import AgentType, LightState

KEEP, LEFT, RIGHT = range(3)
_NOWHERE = 1e4
# How much sharper paths are shown at standstill, falling to nothing at this speed [m/s].
_SHARPER, _SHARPER_BELOW = 1.5, 5.0
# For who comes from behind in a hurry: m to the side, the width of a lane; share of the usual accelerations across;
# share of the speed; cost of staying.
_MAKES_WAY, _MAKES_WAY_BRISK, _MAKES_WAY_SHARE, _STAYS = 3.5, 2.0, 0.6, 200.0
# m to the left of the route from which it has begun to pass on another lane.
_OUT = 0.7
# Walkers who stand or come nearer less than this beside the route [m] are passed at this speed [m/s], reached so
# far before them [m] with this deceleration [m/s²].
_WALKERS_BESIDE, _WALKERS_SPEED, _WALKERS_BEFORE, _WALKERS_BRAKING = 8.0, 8.0, 20.0, 2.5


class Memory(NamedTuple):
    """What it remembers: the speed at the start [m/s], the others, the manoeuvre of its last plan,
    s that it has waited, whether anyone to pass stood in its way, and s for which others are in a hurry behind it."""

    initial_speed: jax.Array
    seen: Seen
    manoeuvre: jax.Array
    waited: jax.Array
    blocked: jax.Array
    hurry: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["route", "speed_factor", "clearance"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Expert:
    """See the module.

    Attributes:
        route: whose numbers for curves, limits, lights and signs it takes.
        speed_factor: share of the limit that it drives.
        clearance: m, to what it passes.
    """

    route: IdmRoute = field(default_factory=IdmRoute)
    speed_factor: jax.Array | float = 0.85
    clearance: jax.Array | float = 0.6
    privileged: ClassVar[bool] = True
    replays_log: ClassVar[bool] = False

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> Memory:
        """Nobody seen."""
        return Memory(
            scene.bank.log_speed[scene.idx, start],
            nobody(scene),
            jnp.int32(KEEP),
            jnp.float32(0.0),
            jnp.bool_(False),
            jnp.zeros(scene.bank.num_agents),
        )

    def act(self, carry: Memory, observation: PrivilegedView, key: jax.Array) -> tuple[Memory, Plan]:
        """A plan of 2 s."""
        scene, state = observation
        once = scene.bank.once
        # Who waits at a flow counts on being let in, the more the longer it waits.
        yields = jnp.clip(0.6 * (carry.waited - 1.0), 0.0, 4.5)
        frame = apart(once, lambda: frame_of(scene, state))
        others = apart(once, lambda: forecast(scene, state, frame, carry.seen, yields, ~carry.blocked))
        seen = seen_now(carry.seen, state)
        since = jnp.where(carry.seen.step < 0, 0, state.step - carry.seen.step) * STEP
        hurry = in_hurry(scene, state, frame, others, carry.hurry, since)
        # They see to it that they do not touch it.
        others = others._replace(there=others.there & (hurry == 0))
        offsets, passed = apart(once, lambda: self._offsets(scene, state, frame, others, seen))
        makes_way = (hurry > 0).any() & ~passed.any()
        aside_of_lane = jnp.array([0.0, _MAKES_WAY, -_MAKES_WAY])[:, None]
        offsets = jnp.where(makes_way, aside_of_lane, offsets)
        # Who passes somebody on the other lane is out there once it is this far aside.
        _, aside, _, _ = into(frame, state.ego.x, state.ego.y)
        # Who has waited for long comes nearer.
        margin = jnp.clip(1.0 - (carry.waited - 3.0) / 9.0, 0.1, 1.0)

        def driven(manoeuvre, offset):
            path = path_beside(frame, scene, state, offset, jnp.where(makes_way, _MAKES_WAY_BRISK, 1.0))
            desired = self.route.desired(path, carry.initial_speed, self.speed_factor)
            desired = jnp.minimum(desired, _near_walkers(others))
            desired *= jnp.where(makes_way, _MAKES_WAY_SHARE, 1.0)
            line = jnp.minimum(self.route.stop(scene, state, path), _red_over_line(scene, state, path))
            stop = jnp.minimum(line, self._standing(scene, others, offset, passed))
            borrows = (manoeuvre == LEFT) & (aside < _OUT)
            ways = drive_ways(scene, path, state.ego.speed, desired, stop, offset, others, margin, borrows)
            cost, off = self._cost(scene, state, path, offset, ways, carry, manoeuvre, margin, makes_way)
            return cost, off, path, ways.speed

        every = jnp.arange(len(offsets))
        costs, off, paths, speeds = apart(once, lambda: jax.vmap(driven)(every, offsets))
        # What the route's own path leaves is no fault of the others.
        costs += 60.0 * jnp.maximum(off - off[KEEP], 0)[:, None]
        chosen = jnp.argmin(costs.ravel())
        manoeuvre, way = chosen // costs.shape[1], chosen % costs.shape[1]
        path = jax.tree.map(lambda leaf: leaf[manoeuvre], paths)
        speed = jnp.interp(
            STEP * jnp.arange(SPEED_STEPS + 1), CELL * jnp.arange(CELLS + 1), speeds[manoeuvre, :, way]
        )
        plan = plan_on(path, state.ego, scene.bank.chassis[scene.idx, 1], targets(speed))
        # Controllers that aim at a point turn too little for what they see of a sharp path: slowly driven beside
        # its line, it is shown sharper.
        sharper = 1.0 + _SHARPER * jnp.clip(1.0 - state.ego.speed / _SHARPER_BELOW, 0.0, 1.0)
        sharper = jnp.where(jnp.abs(aside - offsets[manoeuvre, 0]) > 1.0, sharper, 1.0)
        plan = replace(plan, path=plan.path * jnp.stack([jnp.ones_like(sharper), sharper]))
        # Forgotten while it drives.
        slow = state.ego.speed < 1.5
        waited = jnp.where(slow, carry.waited + since, jnp.maximum(carry.waited - since, 0.0))
        return Memory(
            carry.initial_speed,
            seen,
            manoeuvre.astype(jnp.int32),
            jnp.minimum(waited, 30.0),
            passed.any(),
            hurry,
        ), plan

    def _offsets(
        self, scene: Scene, state: SimState, frame: Frame, others: Others, seen: Seen
    ) -> tuple[jax.Array, jax.Array]:
        """Distances ``[3, POINTS]`` to the left of the route of the manoeuvres' lines [m], and who is passed."""
        bank = scene.bank
        sizes = bank.boxes[scene.idx]
        half_length, half_width = sizes[0, 0], sizes[1, 0]
        to_centre = bank.chassis[scene.idx, 1]
        need = half_width + self.clearance
        low, high = others.left - others.across, others.left + others.across
        blocks = others.there & (low < half_width + 0.3) & (high > -half_width - 0.3)
        blocks &= (others.arc + others.along > to_centre - half_length - 1.0) & (others.arc < 75.0)
        walks = others.kind == AgentType.PEDESTRIAN
        # Who drove before, or stands where it leaves a junction, may go on.
        every = slice(0, LENGTH, 2)
        _, _, junction = ground_under(
            scene, state.ego.z, frame.x[every], frame.y[every], frame.cos[every], frame.sin[every]
        )
        before = others.arc - SPACING * (jnp.arange(LENGTH)[every, None] - BEHIND)
        leaves = (junction[:, None] & (before > 0) & (before < 22.0)).any(0) & (jnp.abs(others.left) < 0.6)
        patient = jnp.where(seen.drove | (leaves & (others.kind == AgentType.VEHICLE)), 16.0, 0.0)
        stands = (others.speed < 0.3) & (seen.stood >= patient) & ~walks
        creeps = others.is_along & (others.kind == AgentType.CYCLIST) & (others.forward < 7.0)
        passed = blocks & (stands | creeps)
        # Who creeps is farther by then.
        pace = jnp.where(creeps, jnp.maximum(others.forward, 0.0), 0.0)
        reach = jnp.maximum(others.arc - to_centre, 0.0) / jnp.maximum(8.0 - pace, 3.0)
        begin = others.arc - others.along + pace * reach * 0.5
        end = others.arc + others.along + pace * (reach + 1.0)
        strays = blocks & others.is_against & (low > 0)
        begin_right = jnp.where(strays, to_centre, begin)
        left = self._bump(state, begin, end, jnp.where(passed, high + need, 0.0), half_length)
        right = self._bump(
            state,
            begin_right,
            jnp.where(strays, others.arc, end),
            jnp.where(passed | strays, need + jnp.where(strays, 0.2, 0.0) - low, 0.0),
            half_length,
        )
        # Nobody is passed on the side to which it stands.
        middle = jnp.where(passed, high, -_NOWHERE).max() + jnp.where(passed, low, _NOWHERE).min()
        wrong_left = passed.any() & (middle > 0.6)
        wrong_right = passed.any() & (middle < -0.6) & ~strays.any()
        left, right = jnp.where(wrong_left, 0.0, left), jnp.where(wrong_right, 0.0, right)
        return jnp.stack([jnp.zeros(POINTS), left, -right]), passed

    def _bump(self, state: SimState, begin, end, height, half_length) -> jax.Array:
        """A line that is as high [m] as each asks for all along it, and smooth; ``[POINTS]``."""
        height = jnp.maximum(height, 0.0)
        ramp = jnp.maximum(state.ego.speed * jnp.sqrt(6.0 / 2.0 * height), 12.0)
        # The line is that of the box centre.
        place = SPACING * jnp.arange(POINTS, dtype=jnp.float32)[:, None]
        place = place + 1.4
        around = half_length + 1.0
        away = jnp.maximum(jnp.maximum(begin - around - place, place - end - around), 0.0)
        share = jnp.clip(1.0 - away / ramp, 0.0, 1.0)
        return (height * share * share * (3.0 - 2.0 * share)).max(1)

    def _standing(self, scene: Scene, others: Others, offset: jax.Array, passed: jax.Array) -> jax.Array:
        """Where to stop for whoever stands on a path [m along it]."""
        bank = scene.bank
        half_length, half_width = bank.boxes[scene.idx, 0, 0], bank.boxes[scene.idx, 1, 0]
        to_centre = bank.chassis[scene.idx, 1]
        at = jnp.clip(jnp.round((others.arc - to_centre) * (1.0 / SPACING)), 0, POINTS - 1).astype(jnp.int32)
        inside = jnp.abs(others.left - offset[at]) < half_width + others.across + 0.2
        inside &= others.there & (others.speed < 0.3) & (others.arc + others.along > to_centre)
        inside &= others.kind != AgentType.PEDESTRIAN
        gap = jnp.where(passed, PASSING_GAP, STANDING_GAP)
        rear = others.arc - others.along - to_centre - half_length - gap
        return jnp.maximum(jnp.where(inside, rear, _NOWHERE).min(), 0.0)

    def _cost(
        self, scene, state, path: RoutePath, offset, driven, carry: Memory, manoeuvre, margin, makes_way
    ) -> tuple[jax.Array, jax.Array]:
        """Costs ``[M]`` of a path's ways, in metres of progress, and how much of it lies in no lane."""
        to_centre = scene.bank.chassis[scene.idx, 1]
        x, y = centre_line(path, to_centre)
        every = slice(0, 32, 2)
        ahead, against, junction = ground_under(
            scene, state.ego.z, x[every], y[every], path.cos[every], path.sin[every]
        )
        own = ahead | junction
        wrong = (against & ~own).sum()
        off = (~against & ~own & scene.bank.has_lanes[scene.idx]).sum()
        # Nobody makes way on the lane of those who come towards it.
        off += jnp.where(makes_way, wrong, 0)
        # Sooner is better, also where both come to the same place.
        cost = -0.5 * driven.place[-1] - driven.place.mean(0)
        cost += jnp.where(
            driven.hits < _NOWHERE, 2000.0 * (1.0 - driven.hits / 12.0) + 20.0 * driven.hit_speed, 0.0
        )
        cost += jnp.where(driven.nears < _NOWHERE, 150.0 * margin * (1.0 - driven.nears / 12.0), 0.0)
        cost += jnp.where(driven.meets < _NOWHERE, 250.0 * (1.0 - driven.meets / 12.0), 0.0)
        # Harder than in comfort only where needed.
        losses = jnp.maximum(-jnp.diff(driven.speed, axis=0) / CELL - COMFORTABLE, 0.0)
        cost += 2.0 * losses.max(0)
        farthest = jnp.abs(offset).max()
        aside = 6.0 + 2.0 * farthest + 1.0 * wrong + jnp.where(farthest < 0.05, 1e6, 0.0)
        # It makes way on the right rather.
        cost += jnp.where(manoeuvre == KEEP, jnp.where(makes_way, _STAYS, 0.0), aside)
        cost += jnp.where(makes_way & (manoeuvre == LEFT), 10.0, 0.0)
        cost += jnp.where(carry.manoeuvre == manoeuvre, 0.0, 4.0)
        return cost, off


def _near_walkers(others: Others) -> jax.Array:
    """Speeds ``[POINTS]`` [m/s] at which it can stop for walkers who step out from beside the road."""
    place = SPACING * jnp.arange(POINTS, dtype=jnp.float32)[:, None]
    beside = others.there & (others.kind == AgentType.PEDESTRIAN) & (jnp.abs(others.left) < _WALKERS_BESIDE)
    # Those who set off towards the road gain speed at first.
    beside &= (others.speed < 0.3) | (jnp.abs(others.lefts[0]) < jnp.abs(others.left) - 0.05)
    squared = _WALKERS_SPEED**2 + 2.0 * _WALKERS_BRAKING * jnp.maximum(
        others.arc - _WALKERS_BEFORE - place, 0.0
    )
    return jnp.sqrt(jnp.where(beside & (place < others.arc), squared, 1e4).min(1))


def _red_over_line(scene: Scene, state: SimState, path: RoutePath) -> jax.Array:
    """0 where it stands on the line of a red light, which counts as run only when its tail passes; else far away."""
    bank, half_length = scene.bank, scene.bank.boxes[scene.idx, 0, 0]
    stops = bank.route_stops[scene.idx]
    light = scene.lights_at(state.step)[jnp.maximum(stops[:, 1], 0.0).astype(jnp.int32)]
    line = stops[:, 0] - path.start - bank.chassis[scene.idx, 1] - half_length
    # A little less than the whole car.
    tail = line + 1.7 * half_length
    must = (light == LightState.RED) & (line <= 0) & (state.ego.speed**2 < 2.0 * HARDEST * tail) & (tail > 0)
    return jnp.where((must & (stops[:, 1] >= 0)).any(), 0.0, _NOWHERE)
