"""Fine-tuning in closed loop: several plans one after the other, each judged by what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.sim.core import SimConfig
from perlsim.sim.observe import Observation, observe
from perlsim.sim.reward import RewardWeights
from perlsim.sim.types import Event, has
from planner.imitation import Asked
from planner.losses import entropy, gae
from planner.network import PlannerConfig
from planner.plans import drive_plan, plan_of
from planner.scenes import ACTION, Sample, start_state


@dataclass(frozen=True)
class Rounds:
    """Sizes of a closed loop.

    Attributes:
        count: plans one after the other, R.
        steps: of 0.1 s that each is in force.
        mix: λ of generalised advantages.
        value: weight of the loss of the values.
        scale: of rewards: values and advantages are in units of it.
    """

    count: int = 6
    steps: int = 5
    mix: float = 0.9
    value: float = 0.5
    scale: float = 10.0


class Played(NamedTuple):
    """A closed loop of one scene.

    Attributes:
        seen: observations ``[R, ...]``.
        points: ``[R, P, 2]``, of the paths that were driven.
        action: int32 ``[R]``.
        reward: ``[R]``, that of each plan, discounted from its beginning.
        discount: ``[R]``, over each plan; 0 where nothing was to be earned after it.
        live: bool ``[R]``, whether there was still something to be earned.
        last_value: value of the state after the last plan, in units of the scale.
        happened: int32 `Event` set.
    """

    seen: Observation
    points: jax.Array
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    live: jax.Array
    last_value: jax.Array
    happened: jax.Array


def play(
    planner: PlannerConfig,
    sim: SimConfig,
    rounds: Rounds,
    discount: float,
    params: Any,
    agents: Any,
    weights: RewardWeights,
    sample: Sample,
) -> Played:
    """Drives R plans with target speeds drawn from the policy, each along its most probable path."""
    scene, shape = sample.scene, planner.shape
    speeds = jnp.asarray(planner.speeds, jnp.float32)
    sim = replace(sim, past_steps=max(sim.past_steps, planner.observation.past_steps))

    def ask(state):
        seen = observe(planner.observation, scene, state)
        net = Asked(planner, params, seen)
        points = net.points(net.paths.waypoints[jnp.argmax(net.paths.logits)][None])
        said = net.speeds(points)
        return seen, points[0], said.logits[0], said.values[0]

    def one(carry, number):
        state, live = carry
        seen, points, logits, _ = ask(state)
        key = jax.random.fold_in(jax.random.fold_in(sample.key, ACTION), number)
        action = jax.random.categorical(key, logits).astype(jnp.int32)
        plan = plan_of(shape, points, state.ego.speed, speeds[action]).anchored(state.ego)
        following, driven = drive_plan(sim, agents, weights, discount, scene, state, plan, rounds.steps)
        ended = has(following.events, Event.LOG_ENDED)
        going_on = live & ~driven.over
        weight = jnp.where(going_on, discount**rounds.steps, 0.0)
        out = (
            seen,
            points,
            action,
            jnp.where(live, driven.reward, 0.0),
            weight,
            live,
            driven.happened * live,
        )
        return (following, going_on & ~ended), out

    state = start_state(sim, planner.observation, agents, sample)
    (state, _), out = lax.scan(one, (state, jnp.bool_(True)), jnp.arange(rounds.count))
    seen, points, action, reward, weight, live, happened = out
    together = lax.reduce(happened, jnp.int32(0), lax.bitwise_or, (0,))
    return Played(seen, points, action, reward, weight, live, ask(state)[3], together)


def closed_loop_loss(
    planner: PlannerConfig, rounds: Rounds, params: Any, played: Played
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Actor's and critic's loss of one scene, and metrics; without the entropy bonus.

    One gradient step is taken on what the present policy played, so that no ratio of probabilities comes in.
    """

    def ask(seen, points):
        said = Asked(planner, params, seen).speeds(points[None])
        return said.logits[0], said.values[0]

    logits, values = jax.vmap(ask)(played.seen, played.points)
    fixed = lax.stop_gradient(jnp.append(values, played.last_value))
    advantages, returns = gae(played.reward / rounds.scale, fixed, played.discount, rounds.mix)
    live = played.live.astype(jnp.float32)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), played.action[:, None], 1)[:, 0]
    count = jnp.maximum(live.sum(), 1.0)
    actor = -(live * advantages * chosen).sum() / count
    critic = (live * (values - returns) ** 2).sum() / count
    metrics = {
        "entropy": (live * entropy(logits)).sum() / count,
        "value": critic,
        "collisions": has(played.happened, Event.COLLISION).astype(jnp.float32),
    }
    return actor + rounds.value * critic, metrics
