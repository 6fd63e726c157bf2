"""Whole trajectories of policies, for protocols that score one plan of 4 s."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from perlsim.bank import STEP, Scene
from perlsim.geometry.numerics import safe_arctan2
from perlsim.policies import PrivilegedView
from perlsim.policies.simple import PROPOSED_STEPS
from perlsim.sim.control import point_on_path, project_on_path
from perlsim.sim.types import Plan, SimState

# Directions are those over this stretch of a path [m].
_CHORD = 0.5


def proposal_of(policy: Any, scene: Scene, state: SimState, key: jax.Array) -> jax.Array:
    """What a privileged policy proposes at the start of an episode.

    Args:
        policy: see `perlsim.policies`.
        scene: scene.
        state: at the start.
        key: random key.

    Returns:
        ``[PROPOSED_STEPS, 3]``: x, y [m], heading [rad] of the rear axle in its present frame, every 0.1 s from
        0.1 s on.
    """
    if hasattr(policy, "propose"):
        return policy.propose(scene, state, key)
    carry = policy.init(scene, state.step, key)
    _, plan = policy.act(carry, PrivilegedView(scene, state), key)
    return propose_from_plan(scene, plan)


def propose_from_plan(scene: Scene, plan: Plan, steps: int = PROPOSED_STEPS) -> jax.Array:
    """The trajectory of a car that is on a plan's path with exactly its target speeds.

    The last speed holds, and beyond its end the path goes on straight.

    Args:
        scene: whose ego drives.
        plan: in the ego frame, as `Policy.act` returns it: a path of the box centre.
        steps: of 0.1 s.

    Returns:
        ``[steps, 3]``: x, y [m], heading [rad] of the rear axle in its present frame.
    """
    to_centre = scene.bank.chassis[scene.idx, 1]
    last = plan.target_speed.shape[0] - 1
    speed = plan.target_speed[jnp.minimum(jnp.arange(steps), last)]
    origin = jnp.zeros_like(to_centre)
    begin = project_on_path(plan.path, plan.spacing, origin, origin) * plan.spacing
    place = begin + jnp.cumsum(speed * STEP)

    def pose(place: jax.Array) -> jax.Array:
        x, y = point_on_path(plan.path, place / plan.spacing)
        x1, y1 = point_on_path(plan.path, (place + _CHORD) / plan.spacing)
        x0, y0 = point_on_path(plan.path, (place - _CHORD) / plan.spacing)
        heading = safe_arctan2(y1 - y0, x1 - x0)
        return jnp.stack(
            [x - to_centre * (jnp.cos(heading) - 1.0), y - to_centre * jnp.sin(heading), heading]
        )

    return jax.vmap(pose)(place)
