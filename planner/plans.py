"""From paths and target speeds to plans, and plans driven in the pseudo-simulation.

A plan rollout is PerlAD's: from a state, one plan, H steps. All candidates of a scene start from one state, which is
made once: the road users' memory too, so that a world model encodes a scene once for all its candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import STEP, Scene
from perlsim.geometry.numerics import safe_norm
from perlsim.sim.control import point_on_path, project_on_path
from perlsim.sim.core import SimConfig, step
from perlsim.sim.reward import RewardWeights, ends, reward
from perlsim.sim.types import Event, Plan, SimState, has

# Beyond its waypoints a path runs into the route over this length [m, S]; farther than a lane's width off the route
# [m, S], it goes on straight.
_MERGE, _FARTHEST = 10.0, 3.5
# A plan's path reaches this far beyond what is driven in its time [m]: the controllers aim ahead.
_AIM = 8.0
# Most points of a path, a bound of `perlsim.sim.control`.
_MOST_POINTS = 64


@dataclass(frozen=True)
class PathShape:
    """Sizes of paths and plans; static.

    Attributes:
        num_waypoints: W.
        spacing: m of arc between them; the first lies one spacing ahead.
        top_speed: m/s, the greatest that a plan's path is long enough for.
        steps: of 0.1 s that a plan tells speeds for, H.
        ramp: s in which a plan goes from the present speed to the target evenly; 0 has PerlAD's constant target.
    """

    num_waypoints: int = 6
    spacing: float = 2.0
    top_speed: float = 12.0
    steps: int = 20
    ramp: float = 1.0

    @property
    def num_points(self) -> int:
        """Points of a plan's path, P."""
        length = self.top_speed * self.steps * STEP + _AIM
        return min(max(math.ceil(length / self.spacing), self.num_waypoints) + 1, _MOST_POINTS)


PATHS = {"perlad": PathShape(), "vla": PathShape(num_waypoints=20, spacing=1.0)}
"""Shapes by name: PerlAD's 6 waypoints every 2 m, and 20 every metre."""


def extended(shape: PathShape, waypoints: jax.Array, route: jax.Array, route_spacing: float) -> jax.Array:
    """A path from the ego through its waypoints, led on along the route.

    Args:
        shape: sizes.
        waypoints: ``[W, 2]`` m in the ego frame.
        route: ``[R, 2]`` m in the ego frame.
        route_spacing: m between its points.

    Returns:
        ``[P, 2]`` m every ``shape.spacing``, the ego's own place first. Where the route is not near the last waypoint
        the path goes on straight.
    """
    count = shape.num_points - shape.num_waypoints - 1
    start = jnp.concatenate([jnp.zeros((1, 2), waypoints.dtype), waypoints])
    if count <= 0:
        return start
    end, chord = start[-1], start[-1] - start[-2]
    ahead = shape.spacing * jnp.arange(1, count + 1, dtype=jnp.float32)
    place = project_on_path(route, route_spacing, end[0], end[1])
    aside = end - jnp.stack(point_on_path(route, place))
    left = jnp.clip(1.0 - ahead / _MERGE, 0.0, 1.0)[:, None]
    along = (
        jax.vmap(lambda s: jnp.stack(point_on_path(route, place + s / route_spacing)))(ahead) + left * aside
    )
    first = route[1] - route[0]
    near = (safe_norm(aside[0], aside[1]) < _FARTHEST) & (safe_norm(first[0], first[1]) > 0.5 * route_spacing)
    straight = end + ahead[:, None] / shape.spacing * chord
    return jnp.concatenate([start, jnp.where(near, along, straight)])


def speed_profile(shape: PathShape, speed: jax.Array, target: jax.Array) -> jax.Array:
    """Target speeds ``[H]`` [m/s] at the steps of a plan that goes from a speed to a target speed [m/s]."""
    if shape.ramp <= 0:
        return jnp.full(shape.steps, target)
    share = jnp.minimum(STEP * jnp.arange(1, shape.steps + 1) / shape.ramp, 1.0)
    return speed + share * (target - speed)


def plan_of(shape: PathShape, points: jax.Array, speed: jax.Array, target: jax.Array) -> Plan:
    """A plan in the ego frame along points ``[P, 2]``, from a speed to a target speed [m/s]."""
    return Plan.ahead(points, shape.spacing, speed_profile(shape, speed, target))


class Driven(NamedTuple):
    """What a plan earned; scalars, or ``[...]`` of several.

    Attributes:
        reward: sum of the discounted rewards until the reward ended.
        happened: int32 `Event` set, until the episode was over.
        progress: m along the route.
        over: bool, nothing more is to be earned.
    """

    reward: jax.Array
    happened: jax.Array
    progress: jax.Array
    over: jax.Array


def drive_plan(
    sim: SimConfig,
    agents: Any,
    weights: RewardWeights,
    discount: float,
    scene: Scene,
    state: SimState,
    plan: Plan,
    steps: int,
) -> tuple[SimState, Driven]:
    """Drives an anchored plan for some steps of 0.1 s.

    What happens after the episode is over, or its reward has ended, earns nothing.
    """
    nothing = (jnp.float32(0.0), jnp.float32(1.0), jnp.bool_(True), jnp.int32(0), jnp.float32(0.0))

    def one(carry, _):
        state, (total, weight, earning, happened, progress) = carry
        live = ~(state.done | has(state.events, Event.LOG_ENDED))
        following, outcome = step(sim, agents, scene, state, plan)
        total += jnp.where(earning & live, weight * reward(weights, outcome), 0.0)
        earning &= ~ends(weights, outcome)
        happened |= jnp.where(live, outcome.events, 0)
        progress += jnp.where(live, outcome.progress, 0.0)
        return (following, (total, weight * discount, earning, happened, progress)), None

    state = replace(state, plan_age=jnp.int32(0))
    (state, (total, _, earning, happened, progress)), _ = lax.scan(one, (state, nothing), None, length=steps)
    return state, Driven(total, happened, progress, ~earning | state.done)


def drive_candidates(
    shape: PathShape,
    sim: SimConfig,
    agents: Any,
    weights: RewardWeights,
    discount: float,
    scene: Scene,
    state: SimState,
    points: jax.Array,
    targets: jax.Array,
) -> Driven:
    """Plan rollouts of candidates from one state.

    Args:
        shape: sizes of plans.
        sim: choices of the simulator.
        agents: agent model.
        weights: of the reward.
        discount: per step.
        scene: scene.
        state: to start from.
        points: ``[..., P, 2]`` m in the ego frame.
        targets: ``[...]`` m/s, target speeds.
    """

    def one(points: jax.Array, target: jax.Array) -> Driven:
        plan = plan_of(shape, points, state.ego.speed, target).anchored(state.ego)
        return drive_plan(sim, agents, weights, discount, scene, state, plan, shape.steps)[1]

    flat = jax.vmap(one)(points.reshape(-1, *points.shape[-2:]), targets.reshape(-1))
    return jax.tree.map(lambda leaf: leaf.reshape(targets.shape), flat)
