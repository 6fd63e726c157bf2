"""Rollouts of many episodes: scan over steps, vmap over a chunk, one chunk after the other, sharded over devices.

Nothing but totals leaves the scan: emitting whole states of thousands of episodes would fill any memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from perlsim import backend
from perlsim.bank import HostBank, ScenarioBank, Scene
from perlsim.errors import PerlsimError
from perlsim.policies import PrivilegedView
from perlsim.sim.core import SimConfig, init, step, with_ego
from perlsim.sim.everyone import everyone_in_log, everyone_outcome, with_log_events
from perlsim.sim.noise import PerceptionNoise, perceive
from perlsim.sim.observe import ObservationConfig
from perlsim.sim.reward import RewardWeights, ends, reward
from perlsim.sim.types import DOUBTS, TERMINAL, Event, Outcome, SimState, has

_AXIS = "episodes"
# Episodes at once on a CPU core, so that what they read in a step stays in its cache.
CPU_CHUNK = {"ego": 256, "all": 8}


class Episodes(NamedTuple):
    """Which scenario of a bank to run, from which step, under which number: int32 ``[B]`` each.

    The number keys the episode's randomness, so that results do not depend on the batch it is run in.
    """

    scenario_idx: jax.Array | np.ndarray
    start: jax.Array | np.ndarray
    number: jax.Array | np.ndarray


class Result(NamedTuple):
    """Totals of each episode, ``[B]``.

    Attributes:
        reward: sum of the discounted rewards until the episode or its reward ended.
        happened: int32 `Event` set of everything that happened before the episode was over.
        progress: m along the route.
        log_distance: m, mean distance from the logged ego.
        end_distance: m, distance from it at the last step.
        steps: int32, steps until the episode was over.
        terminated: bool.
        doubts: int32 `Event` set of `DOUBTS` at any step.
        everyone: int32 ``[B, A]``, `Event` sets of every road user at any step (`everyone_outcome`; in slot 0 the
            ego's own), where they are asked for; else ``[B, 0]``.
    """

    reward: jax.Array
    happened: jax.Array
    progress: jax.Array
    log_distance: jax.Array
    end_distance: jax.Array
    steps: jax.Array
    terminated: jax.Array
    doubts: jax.Array
    everyone: jax.Array


@dataclass(frozen=True)
class RolloutConfig:
    """Static choices of a rollout.

    Attributes:
        sim: of the simulator.
        horizon: steps of 0.1 s.
        replan_every: steps between plans; the horizon for one plan only (PerlAD's pseudo-simulation).
        discount: γ of the reward, per step.
        outcomes_for: "ego" or "all"; the latter needs a bank built for it.
        observation: what policies see that are neither privileged nor say themselves what they have to be shown.
        noise: how their perception errs, in Python's numbers; None for perfect observations.
        chunk: episodes simulated at once on one device; None chooses by backend: what stays in the cache of
            a CPU core, everything on a GPU.
    """

    sim: SimConfig = field(default_factory=SimConfig)
    horizon: int = 80
    replan_every: int = 5
    discount: float = 0.98
    outcomes_for: str = "ego"
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    noise: PerceptionNoise | None = None
    chunk: int | None = None


def sample_episodes(
    host: HostBank, count: int, horizon: int, seed: int, *, replayed: bool = True
) -> Episodes:
    """Episodes spread evenly over the scenarios of a bank, from random steps with the ego in the log.

    Args:
        host: the bank.
        count: number of episodes.
        horizon: steps that an episode should have, where the log is long enough.
        seed: of the draw.
        replayed: whether the ego's log has to go on after the start; without, scenes are used too whose ego
            is known at one step only (CommonRoad's planning problems).

    Raises:
        PerlsimError: where no scenario has a usable ego.
    """
    bank = host.bank
    first, last = np.asarray(host.first_steps), np.asarray(host.last_steps)
    goes_on = last > first if replayed else np.asarray(bank.num_steps) - 1 > first
    usable = np.flatnonzero(np.asarray(bank.has_ego) & goes_on)
    if not len(usable):
        raise PerlsimError(
            "no scenario has an ego to simulate",
            remedy="choose one with --ego at import, or roll out scenarios that have one",
        )
    random = np.random.default_rng(seed)
    scenario = random.permutation(np.resize(usable, count))
    first, last = first[scenario], last[scenario]
    span = np.maximum(last - horizon - first, 0) + 1
    start = first + (random.random(count) * span).astype(np.int64)
    # A start must be a step with a valid ego: else the first such step.
    valid = np.asarray(bank.tracks[:, :, 7, 0]) > 0
    start = np.where(valid[scenario, start], start, first)
    return Episodes(scenario.astype(np.int32), start.astype(np.int32), np.arange(count, dtype=np.int32))


class _Totals(NamedTuple):
    reward: jax.Array
    weight: jax.Array
    earning: jax.Array
    happened: jax.Array
    progress: jax.Array
    log_distance: jax.Array
    end_distance: jax.Array
    steps: jax.Array
    doubts: jax.Array
    everyone: jax.Array


def run_episode(
    config: RolloutConfig,
    agents: Any,
    policy: Any,
    weights: RewardWeights,
    scene: Scene,
    start: jax.Array,
    key: jax.Array,
) -> Result:
    """One episode in closed loop: the policy plans every ``replan_every`` steps."""
    sim_key, policy_key = jax.random.split(key)
    sim = sim_config(config, policy)
    state = init(sim, agents, scene, start, sim_key)
    carry = policy.init(scene, start, policy_key)
    zero = jnp.float32(0.0)
    nothing = jnp.int32(0)
    slots = scene.bank.num_agents if config.outcomes_for == "all" else 0
    totals = _Totals(
        zero,
        jnp.float32(1.0),
        jnp.bool_(True),
        nothing,
        zero,
        zero,
        zero,
        nothing,
        nothing,
        jnp.zeros(slots, jnp.int32),
    )

    def plan_and_drive(loop, round_idx):
        state, carry, totals = loop
        view = view_of(config, policy, scene, state)
        carry, plan = policy.act(carry, view, jax.random.fold_in(policy_key, round_idx))
        plan = plan.anchored(state.ego)
        state = replace(state, plan_age=jnp.int32(0))

        def drive(inner, _):
            state, totals = inner
            following, outcome = step(sim, agents, scene, state, plan)
            # A log that ended truncates the episode: what would follow is not logged.
            over = state.done | has(state.events, Event.LOG_ENDED)
            totals = _add(config, weights, totals, outcome, over)
            if config.outcomes_for == "all":
                events = _everyone(agents, scene, state, following).at[0].set(outcome.events)
                totals = totals._replace(everyone=totals.everyone | events)
            return (following, totals), None

        (state, totals), _ = lax.scan(drive, (state, totals), None, length=config.replan_every)
        return (state, carry, totals), None

    rounds = config.horizon // config.replan_every
    (state, _, totals), _ = lax.scan(plan_and_drive, (state, carry, totals), jnp.arange(rounds))
    steps = jnp.maximum(totals.steps, 1)
    return Result(
        totals.reward,
        totals.happened,
        totals.progress,
        totals.log_distance / steps,
        totals.end_distance,
        totals.steps,
        has(totals.happened, TERMINAL),
        totals.doubts,
        totals.everyone,
    )


def _everyone(agents: Any, scene: Scene, before: SimState, after: SimState) -> jax.Array:
    """Events of all road users but the ego."""
    if _looked_up(agents, scene.bank):
        return everyone_in_log(scene, with_ego(after), after.step)
    return everyone_outcome(scene, with_ego(before), with_ego(after), scene.lights_at(after.step))[0]


def _looked_up(agents: Any, bank: ScenarioBank) -> bool:
    """Whether the bank tells what befalls the road users."""
    return agents.replays_log and bank.has_log_events


def sim_config(config: RolloutConfig, policy: Any) -> SimConfig:
    """The simulator's choices, with the past that observations of the policy need."""
    if policy.privileged:
        return config.sim
    seen = observation_of(config, policy)
    return replace(config.sim, past_steps=max(config.sim.past_steps, seen.past_steps))


def view_of(config: RolloutConfig, policy: Any, scene: Scene, state: SimState) -> Any:
    """What the policy sees of a state."""
    if policy.privileged:
        return PrivilegedView(scene, state)
    return perceive(observation_of(config, policy), config.noise, scene, state)


def observation_of(config: RolloutConfig, policy: Any) -> ObservationConfig:
    """What the policy has to be shown, where it says so."""
    return getattr(policy, "observation", config.observation)


def _add(
    config: RolloutConfig, weights: RewardWeights, totals: _Totals, outcome: Outcome, over: jax.Array
) -> _Totals:
    earned = jnp.where(totals.earning & ~over, totals.weight * reward(weights, outcome), 0.0)
    live = ~over
    return _Totals(
        reward=totals.reward + earned,
        weight=totals.weight * config.discount,
        earning=totals.earning & ~ends(weights, outcome),
        happened=totals.happened | jnp.where(live, outcome.events, 0),
        progress=totals.progress + jnp.where(live, outcome.progress, 0.0),
        log_distance=totals.log_distance + jnp.where(live, outcome.log_distance, 0.0),
        end_distance=jnp.where(live, outcome.log_distance, totals.end_distance),
        steps=totals.steps + live,
        doubts=totals.doubts | (outcome.events & int(DOUBTS)),
        everyone=totals.everyone,
    )


class Rollout:
    """A compiled rollout: construct once, call for many banks of one shape and many sets of episodes.

    Args:
        config: static choices.
        agents: agent model.
        policy: ego policy.
        devices: devices to spread episodes over; None takes all of this process.

    Raises:
        PerlsimError: if the horizon is not a multiple of ``replan_every``.
    """

    def __init__(self, config: RolloutConfig, agents: Any, policy: Any, devices=None):
        check_horizon(config)
        self.config = config
        self.devices = list(devices or jax.local_devices())
        self.mesh = Mesh(np.array(self.devices), (_AXIS,), axis_types=(AxisType.Auto,))
        options = backend.compiler_options(self.devices[0].platform)
        self._run = jax.jit(partial(_sharded, config, self.mesh), compiler_options=options)
        self.agents, self.policy = agents, policy

    def put(self, bank: ScenarioBank) -> ScenarioBank:
        """The bank, copied to every device, with what can be known of the log's road users beforehand."""
        if self.config.outcomes_for == "all" and self.agents.replays_log and not bank.has_log_events:
            bank = with_log_events(bank)
        return jax.device_put(bank, NamedSharding(self.mesh, PartitionSpec()))

    def __call__(
        self, bank: ScenarioBank, episodes: Episodes, weights: RewardWeights, seed: int = 0
    ) -> Result:
        """Runs the episodes.

        Args:
            bank: on the devices (see `put`).
            episodes: ``[B]``, any number; padded to fill devices and chunks.
            weights: of the reward.
            seed: keys all randomness, together with each episode's number.

        Raises:
            PerlsimError: where the agents follow paths that the bank was built without.
        """
        need_paths(self.agents, bank)
        # Numbers of one type, whether given as Python's or as arrays, share one compiled program.
        weights = weights.typed()
        count = len(episodes.scenario_idx)
        multiple = len(self.devices) * chunk_size(
            self.config, count, len(self.devices), _looked_up(self.agents, bank)
        )
        padding = -count % multiple
        padded = Episodes(
            *(np.concatenate([part, np.resize(part, padding)]) for part in map(np.asarray, episodes))
        )
        result = self._run(self.agents, self.policy, weights, bank, padded, jax.random.key(seed))
        return jax.tree.map(lambda leaf: leaf[:count], result)

    def lower(self, bank: ScenarioBank, episodes: Episodes, weights: RewardWeights):
        """The lowered program, for its cost and memory analysis."""
        return self._run.lower(self.agents, self.policy, weights, bank, episodes, jax.random.key(0))

    @property
    def requires_paths(self) -> bool:
        """Whether the agents need banks built with ``agent_paths=True``."""
        return self.agents.requires_paths

    @property
    def num_traces(self) -> int:
        """How many programs have been compiled."""
        return self._run._cache_size()  # pyright: ignore[reportAttributeAccessIssue]


def check_horizon(config: RolloutConfig) -> None:
    """Raises `PerlsimError` if the horizon is not a multiple of ``replan_every``."""
    if config.horizon % config.replan_every or config.horizon < 1:
        raise PerlsimError(
            f"a horizon of {config.horizon} steps is not a multiple of the {config.replan_every} between plans",
            field="horizon",
            remedy=f"take a multiple of {config.replan_every}",
        )


def need_paths(agents: Any, bank: ScenarioBank) -> None:
    """Raises `PerlsimError` where the agents follow paths that the bank was built without."""
    if agents.requires_paths and not bank.has_agent_paths:
        raise PerlsimError(
            "this agent model follows lane paths, and the bank holds none",
            field="agents",
            remedy="build the bank with agent_paths=True",
        )


def chunk_size(config: RolloutConfig, count: int, num_devices: int, looked_up: bool = False) -> int:
    """Episodes simulated at once on one device; ``looked_up``: the bank tells what befalls the road users."""
    share = -(-count // num_devices)
    if config.chunk is not None:
        return min(config.chunk, share)
    if jax.default_backend() != "cpu":
        return share
    return min(CPU_CHUNK["ego" if looked_up else config.outcomes_for], share)


def _sharded(config, mesh, agents, policy, weights, bank, episodes, key) -> Result:
    count = episodes.start.shape[0]
    chunk = chunk_size(config, count, mesh.size, _looked_up(agents, bank))

    def on_device(agents, policy, weights, bank, episodes, key):
        def one(scenario_idx, start, number):
            scene = Scene(bank, scenario_idx)
            return run_episode(config, agents, policy, weights, scene, start, jax.random.fold_in(key, number))

        chunks = jax.tree.map(lambda leaf: leaf.reshape(-1, chunk), episodes)
        result = lax.map(lambda part: jax.vmap(one)(*part), chunks)
        return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * chunk, *leaf.shape[2:]), result)

    everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(everywhere, everywhere, everywhere, everywhere, split, everywhere),
        out_specs=split,
        check_vma=False,
    )(agents, policy, weights, bank, episodes, key)
