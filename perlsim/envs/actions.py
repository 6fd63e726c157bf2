"""What an agent may decide: action kinds by name, and the plans that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from perlsim.bank import PATH_SPACING, Scene
from perlsim.errors import unknown_name
from perlsim.policies.simple import PATH_POINTS
from perlsim.sim.observe import route_ahead
from perlsim.sim.types import Plan, SimState

# PerlAD's longitudinal action: 13 target speeds, 0 … 12 m/s.
NUM_SPEEDS = 13
# Highest target speed of a plan as an action [m/s].
TOP_SPEED = 40.0
# Farthest that a point of such a plan may lie from the ego [m]: a bound of the space, with room for curves.
_PLAN_REACH = 2.0 * PATH_POINTS * PATH_SPACING


@dataclass(frozen=True)
class Actions:
    """A kind of action.

    Attributes:
        space: makes the gymnasium space of one action.
        plan: the plan, in the ego frame, that an action stands for.
    """

    space: Callable[[], spaces.Space]
    plan: Callable[[Scene, SimState, jax.Array], Plan]


def _speed_plan(scene: Scene, state: SimState, action: jax.Array) -> Plan:
    path = route_ahead(scene, state, PATH_POINTS, round(PATH_SPACING))
    return Plan.ahead(path, PATH_SPACING, jnp.asarray(action, jnp.float32)[None])


def _plan_space() -> spaces.Space:
    low = np.append(np.full(2 * PATH_POINTS, -_PLAN_REACH), 0.0).astype(np.float32)
    high = np.append(np.full(2 * PATH_POINTS, _PLAN_REACH), TOP_SPEED).astype(np.float32)
    return spaces.Box(low, high)


def _own_plan(scene: Scene, state: SimState, action: jax.Array) -> Plan:
    return Plan.ahead(action[:-1].reshape(PATH_POINTS, 2), PATH_SPACING, action[-1:])


ACTIONS = {
    # Which of 13 speeds [m/s] to aim at along the route.
    "speed": Actions(lambda: spaces.Discrete(NUM_SPEEDS), _speed_plan),
    # 20 points x, y of a path [m, ego frame, every metre of arc], then a target speed [m/s].
    "plan": Actions(_plan_space, _own_plan),
}


def actions_of(name: str) -> Actions:
    """The kind of action of a name.

    Raises:
        PerlsimError: for an unknown name.
    """
    if name not in ACTIONS:
        raise unknown_name("action", name, ACTIONS)
    return ACTIONS[name]
