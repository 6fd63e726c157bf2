"""Follows the route behind leaders and lights: the Intelligent Driver Model along a path.

The law is that of `perlsim.sim.idm`, unrolled over the plan: at each half second the ego yields to whom its
corridor holds then, or will hold when it would get there, forecast with constant velocity. Red lights, stop signs
and yellow lights that can be heeded comfortably are standing leaders at their lines. It does not change lanes and
knows no right of way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import STEP, VALID, Scene, X, Y
from perlsim.policies import PrivilegedView
from perlsim.policies.corridor import FORECAST_STEP, NOWHERE, Occupied, occupied
from perlsim.policies.route_path import POINTS, SPACING, RoutePath, path_ahead, plan_on, trajectory_on
from perlsim.policies.simple import PROPOSED_STEPS, SPEED_STEPS
from perlsim.sim.idm import IdmAgents
from perlsim.sim.outcomes import STOP_DISTANCE
from perlsim.sim.types import Plan, SimState
from perlsim.vocabulary import LightState

# Speed limit where the map has none, as in PDM-Closed [m/s].
DEFAULT_LIMIT = 15.0
# Forecasts looked at beyond the one of the moment: 1.5 s.
ANTICIPATED = 3
# How near [m] to an occupied stretch an ego counts as getting there.
_NEAR = 2.0
# Curves are not driven more slowly than this [m/s].
_LEAST_CURVE_SPEED = 2.0
# Changes of acceleration [m/s³, S] that a proposal keeps to, towards more and towards less, unless it has to brake
# harder than the third [m/s²]. The tracker that proposals are scored with looks 1 s ahead and makes them steeper;
# NAVSIM's bound of comfort is 4.13.
_JERK, _BRAKING_JERK, _HARD = 1.5, 3.0, 3.5
# The IDM brakes hard when a gap is short, even one that does not shrink. Here it brakes as hard as comfortable [m/s²],
# or this many times as hard as it takes to stop closing up before the last bit of the gap [m]; S.
_COMFORTABLE, _SAFETY, _LEAST_GAP = 3.0, 1.5, 0.5
# Speeds before the start from which a proposal takes the ego's acceleration: 0.5 s.
_SLOPE_STEPS = 5
# Controllers brake only above 1.1 × the target: while a plan slows down, its targets are lower by that.
_BRAKE_RATIO = 1.1
_CELL = round(FORECAST_STEP / STEP)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["law", "margin", "lateral_acceleration", "curve_deceleration", "default_limit"],
    meta_fields=["num_leaders"],
)
@dataclass(frozen=True)
class IdmRoute:
    """See the module.

    Attributes:
        law: the IDM's numbers.
        margin: m, added to half the ego's width for its corridor.
        lateral_acceleration: m/s², in curves.
        curve_deceleration: m/s², with which it slows down for curves and lower limits ahead.
        default_limit: m/s, where the map has no limit; who drives faster at the start keeps that speed.
        num_leaders: how many road users of the corridor are followed (static).
    """

    law: IdmAgents = field(default_factory=IdmAgents)
    margin: jax.Array | float = 0.3
    lateral_acceleration: jax.Array | float = 2.5
    curve_deceleration: jax.Array | float = 1.5
    default_limit: jax.Array | float = DEFAULT_LIMIT
    num_leaders: int = 12
    privileged: ClassVar[bool] = True
    replays_log: ClassVar[bool] = False

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> jax.Array:
        """The speed at the start [m/s]."""
        return scene.bank.log_speed[scene.idx, start]

    def act(self, carry: jax.Array, observation: PrivilegedView, key: jax.Array) -> tuple[jax.Array, Plan]:
        """A plan of 2 s."""
        scene, state = observation
        path = path_ahead(scene, state)
        _, speed = self.unrolled(scene, state, path, carry, SPEED_STEPS)
        to_centre = scene.bank.chassis[scene.idx, 1]
        return carry, plan_on(path, state.ego, to_centre, targets(speed))

    def propose(self, scene: Scene, state: SimState, key: jax.Array) -> jax.Array:
        """Poses ``[40, 3]`` of the rear axle over 4 s, in its present frame."""
        path = path_ahead(scene, state)
        place, _ = self.unrolled(
            scene, state, path, state.ego.speed, PROPOSED_STEPS, acceleration_so_far(scene, state)
        )
        return trajectory_on(path, state.ego, scene.bank.chassis[scene.idx, 1], place[1:])

    def unrolled(
        self,
        scene: Scene,
        state: SimState,
        path: RoutePath,
        initial_speed: jax.Array,
        steps: int,
        acceleration: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Places on a path [m] and speeds [m/s] at each step from now on, ``[steps + 1]``.

        Args:
            scene: scene.
            state: of it.
            path: from the ego on.
            initial_speed: m/s at the start of the episode; see ``default_limit``.
            steps: of 0.1 s, a multiple of 5.
            acceleration: m/s² so far, from which it changes smoothly; None where it may jump.
        """
        cells = steps // _CELL
        leaders = occupied(scene, state, path, cells + ANTICIPATED, self.margin, self.num_leaders)
        desired, stop = self.desired(path, initial_speed), self.stop(scene, state, path)
        return self.follow(scene, state, desired, leaders, stop, steps, acceleration)

    def desired(
        self, path: RoutePath, initial_speed: jax.Array, factor: jax.Array | float = 1.0
    ) -> jax.Array:
        """Desired speed at each point of a path [m/s]: the limit times a factor, and what curves allow."""
        unknown = jnp.maximum(self.default_limit, initial_speed)
        limit = factor * jnp.where(jnp.isnan(path.limit), unknown, path.limit)
        bend = jnp.maximum(jnp.abs(path.curvature), 1e-6)
        curve = jnp.maximum(self.lateral_acceleration / bend, _LEAST_CURVE_SPEED**2)
        # What lies ahead is slowed down for in time: v² + 2 b s is not to fall along the path.
        spent = 2.0 * self.curve_deceleration * SPACING * jnp.arange(POINTS)
        return jnp.sqrt(lax.cummin(jnp.minimum(limit * limit, curve) + spent, reverse=True) - spent)

    def stop(self, scene: Scene, state: SimState, path: RoutePath) -> jax.Array:
        """Where the front has to stop: m from the path's start, measured at the box centre; far away if nowhere."""
        bank, speed = scene.bank, state.ego.speed
        stops = bank.route_stops[scene.idx]
        number = jnp.maximum(stops[:, 1], 0.0).astype(jnp.int32)
        light = scene.lights_at(state.step)[number]
        line = stops[:, 0] - path.start - bank.chassis[scene.idx, 1] - bank.boxes[scene.idx, 0, 0]
        is_sign = (bank.stop_lines[scene.idx, 6, number] > 0) | (light == LightState.FLASHING_RED)
        needed = speed * speed
        must = (light == LightState.RED) & (needed <= 2.0 * self.law.hard_deceleration * line)
        must |= (light == LightState.YELLOW) & (needed <= 2.0 * self.law.deceleration * line)
        # Who has stood near a sign's line may pass it.
        must |= is_sign & (line + state.since_stop > STOP_DISTANCE - 0.5)
        return jnp.where(must & (line > 0) & (stops[:, 1] >= 0), line, NOWHERE).min()

    def follow(
        self,
        scene: Scene,
        state: SimState,
        desired: jax.Array,
        leaders: Occupied,
        stop: jax.Array,
        steps: int,
        acceleration: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """As `unrolled`, with what it gathers about the path."""
        half_length = scene.bank.boxes[scene.idx, 0, 0]
        cells = steps // _CELL
        ahead = FORECAST_STEP * jnp.arange(ANTICIPATED + 1, dtype=jnp.float32)[:, None]
        times = STEP * jnp.arange(1, _CELL + 1, dtype=jnp.float32)

        def one(carry, cell):
            place, speed, before = carry
            leader = tuple(jnp.stack(rows) for rows in cell)
            wanted = self._acceleration(place, speed, desired, leader, stop, half_length, ahead)
            if acceleration is None:
                before = wanted
            less = jnp.where(wanted < -_HARD, NOWHERE, _BRAKING_JERK)
            accelerations = before + jnp.clip(wanted - before, -less * times, _JERK * times)
            # Who stands, stands.
            speeds = jnp.maximum(speed + STEP * jnp.cumsum(accelerations), 0.0)
            places = place + STEP * jnp.cumsum(0.5 * (speeds + jnp.concatenate([speed[None], speeds[:-1]])))
            reached = jnp.where(speeds[-1] > 0, accelerations[-1], 0.0)
            return (places[-1], speeds[-1], reached), (places, speeds)

        windows = jax.tree.map(
            lambda rows: tuple(rows[k : k + cells] for k in range(ANTICIPATED + 1)), tuple(leaders)
        )
        speed = state.ego.speed
        begin = (
            jnp.zeros_like(speed),
            speed,
            jnp.zeros_like(speed) if acceleration is None else acceleration,
        )
        _, (places, speeds) = lax.scan(one, begin, windows)
        return (
            jnp.concatenate([begin[0][None], places.ravel()]),
            jnp.concatenate([begin[1][None], speeds.ravel()]),
        )

    def _acceleration(self, place, speed, desired, leaders, stop, half_length, ahead) -> jax.Array:
        """The IDM's answer to the hardest of all demands [m/s²]."""
        rear, front, leader_speed = leaders
        # Where the ego will be then, if it goes on as it does.
        then = place + speed * ahead
        conflict = (rear < then + half_length + _NEAR) & (front > then - half_length - _NEAR)
        follows = (front > place) & ((ahead == 0.0) | conflict)
        # A leader's own motion until then is not gap that can be used up.
        gap = rear - leader_speed * ahead - place - half_length
        gap = jnp.where(follows & (rear < NOWHERE), gap, NOWHERE)
        limit = _at(desired, place)
        by_leader = self._answer(speed, limit, gap, leader_speed).min()
        by_line = self._answer(speed, limit, stop - place, jnp.zeros_like(stop))
        # The IDM lags behind a desired speed that falls: this keeps to it.
        soon = _at(desired, place + FORECAST_STEP * speed)
        by_limit = jnp.where(
            soon < speed, jnp.maximum((soon - speed) / FORECAST_STEP, -_COMFORTABLE), NOWHERE
        )
        return jnp.minimum(jnp.minimum(by_leader, by_line), by_limit)

    def _answer(self, speed, limit, gap, leader_speed) -> jax.Array:
        """The IDM, which brakes no harder for a short gap or a low limit alone than is comfortable."""
        closing = jnp.maximum(speed - leader_speed, 0.0)
        needed = closing * closing / (2.0 * jnp.maximum(gap - _LEAST_GAP, _LEAST_GAP))
        hardest = jnp.maximum(_COMFORTABLE, _SAFETY * needed)
        return jnp.maximum(self.law.accelerate(speed, limit, gap, leader_speed), -hardest)


def _at(desired: jax.Array, place: jax.Array) -> jax.Array:
    """The desired speed [m/s] at a place [m]."""
    return desired[jnp.clip(jnp.round(place * (1.0 / SPACING)), 0, POINTS - 1).astype(jnp.int32)]


def logged_before(scene: Scene, state: SimState) -> jax.Array:
    """Whether the ego is where the log has it, so that the log tells what it did before; bool."""
    row = scene.agents_at(state.step)[:, 0]
    return (jnp.abs(row[X] - state.ego.x) + jnp.abs(row[Y] - state.ego.y) < 0.05) & (row[VALID] > 0)


def acceleration_so_far(scene: Scene, state: SimState) -> jax.Array:
    """The ego's acceleration [m/s²] at the start of an episode, from the speeds of the log before it; else 0."""
    before = state.step - _SLOPE_STEPS
    slope = (state.ego.speed - scene.bank.log_speed[scene.idx, jnp.maximum(before, 0)]) / (
        _SLOPE_STEPS * STEP
    )
    return jnp.where((before >= 0) & logged_before(scene, state), jnp.clip(slope, -_HARD, _HARD), 0.0)


def targets(speed: jax.Array) -> jax.Array:
    """Target speeds ``[H]`` for the controllers from speeds ``[H + 1]`` at steps from now on."""
    slowing = speed[1:] < speed[:-1]
    return jnp.where(slowing, speed[1:] * (1.0 / _BRAKE_RATIO), speed[1:])
