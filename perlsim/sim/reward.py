"""Rewards of a step, as named presets whose weights are numbers that can be swept.

Sources: PerlAD's four terms with its constants and our choices where it is silent; RAD's four terminating events;
MindDrive's sparse terminal reward (FACTS §§1, 7).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import STEP
from perlsim.errors import unknown_name
from perlsim.sim.types import Event, Outcome, has


class RewardWeights(NamedTuple):
    """What a step earns: each term is a number, charged when its event begins.

    Attributes:
        vehicle, pedestrian, static: collisions with each.
        solid, double_solid: touching a line of the kind.
        progress: a metre along the route.
        log_distance: a metre from the logged ego, each step.
        off_road, wrong_way, red_light, stop_sign, blocked: their events.
        deviation, heading_deviation: too far from the logged ego, in place or heading.
        finished: reaching the goal.
        only_at_fault: 1 counts collisions of the ego's own fault only.
        ends_on: int, `Event` set after which nothing more is earned (the event's own step still counts).
    """

    vehicle: jax.Array | float = 0.0
    pedestrian: jax.Array | float = 0.0
    static: jax.Array | float = 0.0
    solid: jax.Array | float = 0.0
    double_solid: jax.Array | float = 0.0
    progress: jax.Array | float = 0.0
    log_distance: jax.Array | float = 0.0
    off_road: jax.Array | float = 0.0
    wrong_way: jax.Array | float = 0.0
    red_light: jax.Array | float = 0.0
    stop_sign: jax.Array | float = 0.0
    blocked: jax.Array | float = 0.0
    deviation: jax.Array | float = 0.0
    heading_deviation: jax.Array | float = 0.0
    finished: jax.Array | float = 0.0
    only_at_fault: jax.Array | float = 0.0
    ends_on: jax.Array | int = int(Event.COLLISION)

    def typed(self) -> RewardWeights:
        """The same numbers as float32 arrays, ``ends_on`` as int32."""
        arrays = {name: jnp.asarray(value, jnp.float32) for name, value in self._asdict().items()}
        return RewardWeights(**arrays | {"ends_on": jnp.asarray(self.ends_on, jnp.int32)})


# PerlAD's horizon is 20 steps and its top speed 12 m/s: progress sums to at most 1, distance is a mean.
_HORIZON, _TOP_SPEED = 20, 12.0
REWARDS = {
    "perlad": RewardWeights(
        vehicle=-30.0,
        pedestrian=-50.0,
        static=-10.0,
        solid=-10.0,
        double_solid=-30.0,
        progress=5.0 / (_TOP_SPEED * STEP * _HORIZON),
        log_distance=-1.0 / _HORIZON,
    ),
    "rad": RewardWeights(
        vehicle=-1.0,
        pedestrian=-1.0,
        static=-1.0,
        deviation=-1.0,
        heading_deviation=-1.0,
        ends_on=int(Event.COLLISION | Event.DEVIATED | Event.TURNED_AWAY),
    ),
    "minddrive": RewardWeights(
        vehicle=-1.0,
        pedestrian=-1.0,
        static=-1.0,
        off_road=-1.0,
        red_light=-1.0,
        stop_sign=-1.0,
        blocked=-1.0,
        finished=1.0,
        ends_on=int(
            Event.COLLISION
            | Event.OFF_ROAD
            | Event.RED_LIGHT
            | Event.STOP_SIGN
            | Event.BLOCKED
            | Event.FINISHED
        ),
    ),
}


def reward_of(name: str) -> RewardWeights:
    """The preset of a name.

    Raises:
        PerlsimError: for an unknown name.
    """
    if name not in REWARDS:
        raise unknown_name("reward", name, REWARDS)
    return REWARDS[name]


def reward(weights: RewardWeights, outcome: Outcome) -> jax.Array:
    """Reward of a step."""
    begun = outcome.begun

    def charge(weight, event: Event) -> jax.Array:
        return jnp.where(has(begun, event), weight, 0.0)

    counts = has(begun, Event.AT_FAULT) | (jnp.asarray(weights.only_at_fault) <= 0)
    collision = (
        charge(weights.vehicle, Event.HIT_VEHICLE)
        + charge(weights.pedestrian, Event.HIT_PEDESTRIAN)
        + charge(weights.static, Event.HIT_STATIC)
    )
    return (
        jnp.where(counts, collision, 0.0)
        + charge(weights.solid, Event.CROSSES_SOLID)
        + charge(weights.double_solid, Event.CROSSES_DOUBLE_SOLID)
        + weights.progress * jnp.maximum(outcome.progress, 0.0)
        + weights.log_distance * outcome.log_distance
        + charge(weights.off_road, Event.OFF_ROAD)
        + charge(weights.wrong_way, Event.WRONG_WAY)
        + charge(weights.red_light, Event.RED_LIGHT)
        + charge(weights.stop_sign, Event.STOP_SIGN)
        + charge(weights.blocked, Event.BLOCKED)
        + charge(weights.finished, Event.FINISHED)
        + charge(weights.deviation, Event.DEVIATED)
        + charge(weights.heading_deviation, Event.TURNED_AWAY)
    )


def ends(weights: RewardWeights, outcome: Outcome) -> jax.Array:
    """Whether nothing more is earned after this step."""
    return ((outcome.begun & weights.ends_on) != 0) | outcome.terminated
