"""Training samples from banks: what is seen at a step of the log, how it went on, and where the ego went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, ScenarioBank, Scene, X, Y
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init
from perlsim.sim.observe import Observation, ObservationConfig, nearest_agents, observe
from world_model.kinematics import NUM_STEPS, SUBSTEPS, Body, Motion
from world_model.model import EgoStep

# Steps of the log that a sample spans after its start.
SPAN = NUM_STEPS * SUBSTEPS


# Of the states that samples are seen from.
LOG: Any = LogAgents()


class Sample(NamedTuple):
    """One scene at a step of the log, coordinates in the scenario frame but for ``seen``.

    Attributes:
        seen: what the ego sees.
        motion, body, valid: the K road users seen, in the same order.
        ego: fields ``[S]``, the ego in each step of the world model.
        future: ``[S, K]``, the road users at the end of each step.
        future_valid: bool ``[S, K]``.
    """

    seen: Observation
    motion: Motion
    body: Body
    valid: jax.Array
    ego: EgoStep
    future: Motion
    future_valid: jax.Array


@dataclass(frozen=True)
class Augmentation:
    """What is changed of logged egos, so that reactions are learned and not the log.

    Attributes:
        plan_dropout: share of samples in which nobody is told of the ego.
        displacement: standard deviation of a factor on its planned displacements.
        place: m, standard deviation of where it is said to be.
        instant: share of samples in which its displacement is that of its present velocity, as in closed loop,
            and not that of the whole step, as in plans given as poses.
    """

    plan_dropout: float = 0.1
    displacement: float = 0.05
    place: float = 0.1
    instant: float = 0.5


NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0)
"""Samples as they were logged."""


def body_of(scene: Scene, slots: jax.Array) -> Body:
    """The bodies in some slots."""
    sizes = scene.bank.boxes[scene.idx]
    return Body(*(sizes[row][slots] for row in range(3)))


def sample_at(
    observation: ObservationConfig, augmentation: Augmentation, scene: Scene, start: jax.Array, key: jax.Array
) -> Sample:
    """The sample of a scene and a step.

    Args:
        observation: sizes.
        augmentation: changes.
        scene: the scene.
        start: int32, step of the log; the ego must be logged there.
        key: of the augmentation.
    """
    init_key, drop_key, scale_key, place_key, instant_key = jax.random.split(key, 5)
    state = init(SimConfig(past_steps=observation.past_steps), LOG, scene, start, init_key)
    slots, valid = nearest_agents(observation, scene, state.agents, state.ego, 0)
    steps = start + SUBSTEPS * jnp.arange(NUM_STEPS + 1)
    # After the end of the log nothing is known.
    known = steps < scene.bank.num_steps[scene.idx]
    rows = jax.vmap(scene.agents_at)(steps)
    of_agents = rows[1:][:, :, slots]
    ego, ego_next = rows[:-1, :, 0], jax.vmap(scene.agents_at)(steps[:-1] + 1)[:, :, 0]
    whole = rows[1:, :, 0] - ego
    instant = jax.random.bernoulli(instant_key, augmentation.instant)
    scale = 1.0 + augmentation.displacement * jax.random.normal(scale_key, (NUM_STEPS,))
    dx, dy = (
        scale * jnp.where(instant, ego_next[:, speed] * SUBSTEPS * STEP, whole[:, place])
        for place, speed in ((X, VX), (Y, VY))
    )
    off = augmentation.place * jax.random.normal(place_key, (2,))
    told = ~jax.random.bernoulli(drop_key, augmentation.plan_dropout)
    ego_known = (ego[:, VALID] > 0) & (ego_next[:, VALID] > 0) & (rows[1:, VALID, 0] > 0) & told
    columns = (ego[:, X] + off[0], ego[:, Y] + off[1], ego[:, COS], ego[:, SIN], dx, dy)
    kept = [jnp.where(ego_known, column, 0.0) for column in columns]
    return Sample(
        seen=observe(observation, scene, state),
        motion=Motion.of_rows(state.agents[:, slots]),
        body=body_of(scene, slots),
        valid=valid,
        ego=EgoStep(*kept, known=ego_known.astype(jnp.float32)),
        future=Motion.of_rows(of_agents.transpose(1, 0, 2)),
        future_valid=(of_agents[:, VALID] > 0) & valid & known[1:, None],
    )


class Starts(NamedTuple):
    """Where samples of a bank may begin: int32 ``[N]`` each."""

    scenario_idx: jax.Array | np.ndarray
    step: jax.Array | np.ndarray


def starts_of(bank: ScenarioBank, stride: int = 1, span: int = SPAN) -> Starts:
    """All steps of a bank's logs at which the ego is there and after which enough is logged.

    Args:
        bank: on the host or a device.
        stride: steps between them.
        span: steps that have to be logged after the start.
    """
    valid = np.asarray(bank.tracks[:, :, VALID, 0]) > 0
    steps = np.arange(valid.shape[1])
    usable = valid & (steps + span < np.asarray(bank.num_steps)[:, None]) & (steps % stride == 0)
    scenario, step = np.nonzero(usable)
    return Starts(scenario.astype(np.int32), step.astype(np.int32))
