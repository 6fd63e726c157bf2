"""A functional environment: pure `reset` and `step` of one episode, for callers that vmap and scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax import lax

from perlsim.bank import VALID, HostBank, ScenarioBank, Scene
from perlsim.envs.actions import actions_of
from perlsim.errors import PerlsimError
from perlsim.sim import core
from perlsim.sim.agents import LogAgents
from perlsim.sim.noise import PerceptionNoise, perceive
from perlsim.sim.observe import Observation, ObservationConfig
from perlsim.sim.reward import RewardWeights, ends, reward, reward_of
from perlsim.sim.types import Event, SimState, has


@dataclass(frozen=True)
class EnvConfig:
    """Static choices of an environment; hashable, so a compiled program belongs to one of them.

    Attributes:
        action: name in `perlsim.envs.actions.ACTIONS`.
        horizon: steps of 0.1 s after which an episode is truncated, a multiple of ``steps_per_action``.
        steps_per_action: steps of 0.1 s that an action is in force.
        sim: of the simulator.
        observation: what is seen.
    """

    action: str = "speed"
    horizon: int = 80
    steps_per_action: int = 5
    sim: core.SimConfig = field(default_factory=core.SimConfig)
    observation: ObservationConfig = field(default_factory=ObservationConfig)


class EnvParams(NamedTuple):
    """What an environment runs on: arrays, nothing static.

    Attributes:
        bank: scenarios, on the device.
        agents: model of the other road users.
        weights: of the reward.
        noise: of perception, None for perfect observations.
        usable: int32 ``[U]``, scenarios whose logs have an ego that is there for two steps.
        first_start, last_start: int32 ``[S]``, the steps between which an episode begins.
    """

    bank: ScenarioBank
    agents: Any
    weights: RewardWeights
    noise: PerceptionNoise | None
    usable: jax.Array
    first_start: jax.Array
    last_start: jax.Array


class EnvState(NamedTuple):
    """An episode: int32 scenario, int32 steps of 0.1 s since its start, and the simulator's state."""

    scenario_idx: jax.Array
    steps: jax.Array
    sim: SimState


class Driven(NamedTuple):
    """What driving has given since the action was taken."""

    state: EnvState
    reward: jax.Array
    events: jax.Array
    progress: jax.Array
    log_distance: jax.Array
    terminated: jax.Array
    truncated: jax.Array

    @property
    def over(self) -> jax.Array:
        """Whether the episode is."""
        return self.terminated | self.truncated


@dataclass(frozen=True)
class DrivingEnv:
    """Driving in logged scenes, in gymnax's convention with terminated and truncated kept apart.

    Data sheet:

    ============  =================================================================================
    observation   `perlsim.sim.observe.Observation`: ego, nearest road users with their past, lanes,
                  boundaries, stop lines and route, all in the ego frame with masks
    action        "speed": one of 13 target speeds, 0 … 12 m/s, along the route (PerlAD);
                  "plan": 20 points of a path, 1 m apart, and a target speed
    time          0.1 s a step, an action is in force for ``steps_per_action`` of them
    reward        of the weights, summed over an action's steps without discount
    terminated    an event that ends an episode (`perlsim.sim.types.TERMINAL`), or one after which the
                  weights grant nothing more (``ends_on``: a collision; for RAD leaving the log, too)
    truncated     at the horizon, or where the log ends, and not terminated
    start         a scenario with an ego, and a step of its log, drawn evenly; where the log is long
                  enough, so early that the horizon fits
    randomness    all of the key of `reset`: agents, noise and start do not depend on the batch
    info          "scenario_idx", "log_step", "events" and "happened" (sets of `Event`: in this step,
                  in the episode), "progress" [m, along the route], "log_distance" [m, from the
                  logged ego]
    ============  =================================================================================

    Args:
        config: static choices.

    Raises:
        PerlsimError: an unknown action, or a horizon that is no multiple of ``steps_per_action``.
    """

    config: EnvConfig = EnvConfig()

    def __post_init__(self):
        actions_of(self.config.action)
        horizon, every = self.config.horizon, self.config.steps_per_action
        if every < 1 or horizon < every or horizon % every:
            raise PerlsimError(
                f"a horizon of {horizon} steps is not a multiple of the {every} of an action", field="horizon"
            )

    def params(
        self,
        host: HostBank,
        *,
        agents: Any = LogAgents(),  # noqa: B008 - a frozen value
        weights: RewardWeights | str = "perlad",
        noise: PerceptionNoise | None = None,
    ) -> EnvParams:
        """Parameters for a bank, on the default device.

        Args:
            host: of `perlsim.bank_build.build_bank`.
            agents: model of the other road users.
            weights: of the reward, or the name of a preset.
            noise: of perception.

        Raises:
            PerlsimError: an unknown reward; no scenario has an ego to drive; no paths for agents that need them.
        """
        first, last = np.asarray(host.first_steps), np.asarray(host.last_steps)
        usable = np.flatnonzero(np.asarray(host.bank.has_ego) & (last > first))
        if not len(usable):
            raise PerlsimError(
                "no scenario has an ego that drives",
                remedy="choose one with --ego at import, or take scenarios that have one",
            )
        if agents.requires_paths and not host.bank.has_agent_paths:
            raise PerlsimError(
                "the bank has no paths for road users that react", remedy="build it with agent_paths=True"
            )
        named = reward_of(weights) if isinstance(weights, str) else weights
        params = EnvParams(
            bank=host.bank,
            agents=agents,
            weights=named.typed(),
            noise=jax.tree.map(jnp.float32, noise),
            usable=jnp.asarray(usable, jnp.int32),
            first_start=jnp.asarray(first, jnp.int32),
            last_start=jnp.asarray(np.maximum(last - self.config.horizon, first), jnp.int32),
        )
        return jax.device_put(params)

    def reset(self, key: jax.Array, params: EnvParams) -> tuple[Observation, EnvState]:
        """The first observation and the state of an episode drawn with the key."""
        state = self.begin(*self.draw(key, params), params)
        return self.observe(state, params), state

    def step(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: EnvParams
    ) -> tuple[Observation, EnvState, jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]:
        """Drives for one action; an episode that is over must be reset by the caller.

        Args:
            key: of the convention; not used, since an episode's randomness is that of its reset.
            state: of `reset` or `step`.
            action: in the action space.
            params: of the environment.

        Returns:
            Observation, state, reward, terminated, truncated, info.
        """
        driven = self.drive(state, action, params)
        seen = self.observe(driven.state, params)
        return seen, driven.state, driven.reward, driven.terminated, driven.truncated, info_of(driven)

    def step_autoreset(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: EnvParams
    ) -> tuple[Observation, EnvState, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """As `step`, but an episode that is over is followed by a new one in the same step.

        Observation and state are then those of the new episode; reward, terminated, truncated and info are
        those of the old one, whose last observation is ``info["final_observation"]`` (that of the state
        reached, whether the episode is over or not; costs nothing where it is not used and compiled with
        its caller).

        Args:
            key: draws the new episode.
            state: of `reset` or `step_autoreset`.
            action: in the action space.
            params: of the environment.
        """
        driven = self.drive(state, action, params)
        following = select(driven.over, self.begin(*self.draw(key, params), params), driven.state)
        info = info_of(driven) | {"final_observation": self.observe(driven.state, params)}
        seen = self.observe(following, params)
        return seen, following, driven.reward, driven.terminated, driven.truncated, info

    def draw(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws an episode: its key, scenario and first step of the log, as `begin` takes them."""
        scenario_key, start_key, key = jax.random.split(key, 3)
        idx = params.usable[jax.random.randint(scenario_key, (), 0, params.usable.shape[0])]
        first, last = params.first_start[idx], params.last_start[idx]
        return key, idx, first + jax.random.randint(start_key, (), 0, last - first + 1)

    def begin(self, key: jax.Array, scenario_idx: jax.Array, start: jax.Array, params: EnvParams) -> EnvState:
        """The state of an episode from a step of a log; from the ego's first, where it is not there yet."""
        scene = Scene(params.bank, scenario_idx)
        there = scene.agents_at(start)[VALID, 0] > 0
        start = jnp.where(there, start, params.first_start[scenario_idx])
        config = self.config
        sim = replace(config.sim, past_steps=max(config.sim.past_steps, config.observation.past_steps))
        return EnvState(scenario_idx, jnp.int32(0), core.init(sim, params.agents, scene, start, key))

    def observe(self, state: EnvState, params: EnvParams) -> Observation:
        """What the ego sees, with the errors of its perception."""
        return perceive(
            self.config.observation, params.noise, Scene(params.bank, state.scenario_idx), state.sim
        )

    def action_space(self, params: EnvParams | None = None) -> spaces.Space:
        """The space of one action."""
        return actions_of(self.config.action).space()

    def observation_space(self, params: EnvParams) -> spaces.Dict:
        """The space of one observation, by the names of its parts."""
        parts = jax.eval_shape(self.reset, jax.random.key(0), params)[0]._asdict()
        return spaces.Dict(
            {
                name: spaces.MultiBinary(part.shape)
                if part.dtype == bool
                else spaces.Box(-np.inf, np.inf, part.shape, np.float32)
                for name, part in parts.items()
            }
        )

    def drive(self, state: EnvState, action: jax.Array, params: EnvParams) -> Driven:
        """Drives for one action, or until the episode is over: `step` without looking."""
        config, scene = self.config, Scene(params.bank, state.scenario_idx)
        plan = actions_of(config.action).plan(scene, state.sim, action).anchored(state.sim.ego)
        zero, no = jnp.float32(0.0), jnp.bool_(False)
        state = state._replace(sim=replace(state.sim, plan_age=jnp.int32(0)))

        def one_step(so_far: Driven, _):
            state = so_far.state
            sim, outcome = core.step(config.sim, params.agents, scene, state.sim, plan)
            steps = state.steps + 1
            terminated = ends(params.weights, outcome)
            truncated = (has(outcome.events, Event.LOG_ENDED) | (steps >= config.horizon)) & ~terminated
            following = Driven(
                state=EnvState(state.scenario_idx, steps, sim),
                reward=so_far.reward + reward(params.weights, outcome),
                events=so_far.events | outcome.events,
                progress=so_far.progress + outcome.progress,
                log_distance=outcome.log_distance,
                terminated=terminated,
                truncated=truncated,
            )
            # Where an episode ends within an action, it stays as it ended.
            return select(so_far.over, so_far, following), None

        begin = Driven(state, zero, jnp.int32(0), zero, zero, no, no)
        driven, _ = lax.scan(one_step, begin, None, length=config.steps_per_action)
        return driven


def on_data(function: Callable[..., jax.Array], *trees: Any) -> Any:
    """Applies a function to the arrays of trees, to random keys as raw data (moving one is not using it)."""

    def apply(*leaves):
        if not jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            return function(*leaves)
        raw = function(*(jax.random.key_data(leaf) for leaf in leaves))
        return jax.random.wrap_key_data(raw, impl=jax.random.key_impl(leaves[0]))

    return jax.tree.map(apply, *trees)


def select(condition: jax.Array, first: Any, second: Any) -> Any:
    """The first of two trees of arrays where the condition (a scalar) holds, else the second."""
    return on_data(lambda one, other: jnp.where(condition, one, other), first, second)


def start_info(state: EnvState) -> dict[str, jax.Array]:
    """The info of an episode that has just begun: nothing has happened yet."""
    zero, no = jnp.float32(0.0), jnp.bool_(False)
    return info_of(Driven(state, zero, jnp.int32(0), zero, zero, no, no))


def info_of(driven: Driven) -> dict[str, jax.Array]:
    """The info of a step (see the data sheet)."""
    return {
        "scenario_idx": driven.state.scenario_idx,
        "log_step": driven.state.sim.step,
        "events": driven.events,
        "happened": driven.state.sim.happened,
        "progress": driven.progress,
        "log_distance": driven.log_distance,
    }
