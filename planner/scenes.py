"""Training samples: steps of logs, from which the ego starts where the log has it or a little beside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import STEP, VALID, HostBank, ScenarioBank, Scene
from perlsim.errors import PerlsimError
from perlsim.geometry.numerics import wrap_angle
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init, logged_pose
from perlsim.sim.observe import Observation, ObservationConfig, observe
from perlsim.sim.types import Pose, SimState
from planner.anchors import Target, cluster, driven_paths, target_of
from planner.plans import PathShape

# Paths that anchors are clustered from, at most.
_MOST_PATHS = 8192
# Streams of a sample's key: which step, where the ego starts, the simulator's, and what actions are drawn.
_STEP, _START, SIMULATOR, ACTION = range(4)


@dataclass(frozen=True)
class Perturbation:
    """How far from the log egos start; uniform between plus and minus these.

    Attributes:
        share: of the samples that start beside the log.
        along, across: m.
        heading: rad.
        speed: m/s.
    """

    share: float = 0.5
    along: float = 2.0
    across: float = 0.8
    heading: float = 0.08
    speed: float = 2.0


class TrainingData(NamedTuple):
    """Scenes of one bank, as stages take them.

    Attributes:
        bank: scenarios, built with ``observed_pieces``.
        paths: ``[S, P, 2]``, of `driven_paths`.
        scenario_idx, start: int32 ``[E]``, steps that samples start from.
        until: ``[E]``, sums of the shares with which they are drawn.
        key: of all randomness.
    """

    bank: ScenarioBank
    paths: jax.Array
    scenario_idx: jax.Array
    start: jax.Array
    until: jax.Array
    key: jax.Array


class Sample(NamedTuple):
    """What a stage starts from.

    Attributes:
        scene: of the bank.
        start: int32 step of the log.
        ego: where the ego starts.
        target: path that leads on as the log does.
        target_speed: m/s, with which a plan brings the ego to where the log is at the plan's end; not bounded.
        key: of the sample; `ACTION` and `SIMULATOR` are streams of it.
    """

    scene: Scene
    start: jax.Array
    ego: Pose
    target: Target
    target_speed: jax.Array
    key: jax.Array


def training_data(
    host: HostBank, steps: int, key: jax.Array, shares: np.ndarray | None = None
) -> TrainingData:
    """All steps of a bank's logs at which the ego is there, and still is after a plan.

    Args:
        host: the bank.
        steps: of a plan.
        key: of all randomness.
        shares: how often each step is drawn, in relation to the others; None: alike. Its length is that of
            ``scenario_idx`` as this function gives it.

    Raises:
        PerlsimError: where there is no such step.
    """
    bank = host.bank
    valid = np.asarray(bank.tracks[:, :, VALID, 0]) > 0
    valid &= np.arange(valid.shape[1]) < np.asarray(bank.num_steps)[:, None]
    valid &= np.asarray(bank.has_ego)[:, None]
    until = np.zeros_like(valid)
    until[:, : valid.shape[1] - steps] = valid[:, steps:]
    scenario, start = np.nonzero(valid & until)
    if not len(start):
        raise PerlsimError(
            f"no log has an ego over {steps * STEP:g} s",
            remedy="train on logs that name an ego and last longer",
        )
    weights = np.ones(len(start)) if shares is None else np.asarray(shares, np.float64)
    sums = np.cumsum(weights) / weights.sum()
    return TrainingData(
        bank=bank,
        paths=jnp.asarray(driven_paths(host)),
        scenario_idx=jnp.asarray(scenario, jnp.int32),
        start=jnp.asarray(start, jnp.int32),
        until=jnp.asarray(sums, jnp.float32),
        key=key,
    )


def draw(data: TrainingData, perturbation: Perturbation, shape: PathShape, number: jax.Array) -> Sample:
    """The sample of a number: the same whatever else is drawn.

    Args:
        data: scenes.
        perturbation: of the start.
        shape: of paths and plans.
        number: int32.
    """
    key = jax.random.fold_in(data.key, number)
    draws = jax.random.uniform(jax.random.fold_in(key, _STEP), (2,))
    place = jnp.minimum(jnp.searchsorted(data.until, draws[0], side="right"), len(data.until) - 1)
    aside = jax.random.uniform(jax.random.fold_in(key, _START), (4,), minval=-1.0, maxval=1.0)
    aside = jnp.where(draws[1] < perturbation.share, aside, 0.0)
    return sample_at(data, perturbation, shape, place, aside, key)


def sample_at(
    data: TrainingData,
    perturbation: Perturbation,
    shape: PathShape,
    place: jax.Array,
    aside: jax.Array,
    key: jax.Array,
) -> Sample:
    """The sample of a place in the list of steps.

    Args:
        data: scenes.
        perturbation: of the start.
        shape: of paths and plans.
        place: int32, index into ``data.start``.
        aside: ``[4]`` within ±1: along, across, heading, speed, in units of the perturbation.
        key: of the sample.
    """
    scene, start = Scene(data.bank, data.scenario_idx[place]), data.start[place]
    ego = _beside(perturbation, logged_pose(scene, start), aside)
    target = target_of(data.paths, scene, start, ego, shape.num_waypoints, shape.spacing)
    end = data.bank.log_arc[scene.idx, start + shape.steps]
    driven = end - target.arc - 0.5 * shape.ramp * ego.speed
    target_speed = driven / (shape.steps * STEP - 0.5 * shape.ramp)
    return Sample(scene, start, ego, target, target_speed, key)


def _beside(perturbation: Perturbation, pose: Pose, aside: jax.Array) -> Pose:
    """A pose moved; one that stands is not turned, nor moved to the side."""
    moves = jnp.clip(pose.speed / 2.0, 0.0, 1.0)
    along, across = perturbation.along * aside[0], perturbation.across * aside[1] * moves
    heading = wrap_angle(pose.heading + perturbation.heading * aside[2] * moves)
    return Pose(
        pose.x + along * pose.cos - across * pose.sin,
        pose.y + along * pose.sin + across * pose.cos,
        pose.z,
        heading,
        jnp.cos(heading),
        jnp.sin(heading),
        jnp.maximum(pose.speed + perturbation.speed * aside[3], 0.0),
    )


def start_state(sim: SimConfig, observation: ObservationConfig, agents: Any, sample: Sample) -> SimState:
    """The simulator's state in which a sample starts, with the past that observations need."""
    sim = replace(sim, past_steps=max(sim.past_steps, observation.past_steps))
    key = jax.random.fold_in(sample.key, SIMULATOR)
    return init(sim, agents, sample.scene, sample.start, key, sample.ego)


def seen_at_start(sim: SimConfig, observation: ObservationConfig, sample: Sample) -> Observation:
    """What the ego of a sample sees; the past is the log's, whoever drives the others from here on."""
    return observe(observation, sample.scene, start_state(sim, observation, LogAgents(), sample))


def anchors_of(host: HostBank, shape: PathShape, num_modes: int, seed: int = 0) -> np.ndarray:
    """Anchors ``[K, W, 2]`` [m] of the paths that a bank's egos took.

    Args:
        host: the bank.
        shape: of the paths.
        num_modes: K.
        seed: of the draws.
    """
    data = training_data(host, shape.steps, jax.random.key(seed))
    count = len(data.start)
    chosen = np.random.default_rng(seed).permutation(count)[:_MOST_PATHS]

    @jax.jit
    def targets(data: TrainingData, chosen: jax.Array) -> jax.Array:
        def one(place: jax.Array) -> jax.Array:
            sample = sample_at(data, Perturbation(0.0), shape, place, jnp.zeros(4), data.key)
            return sample.target.waypoints

        return jax.vmap(one)(chosen)

    return cluster(np.asarray(targets(data, jnp.asarray(chosen))), num_modes, seed)
