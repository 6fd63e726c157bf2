"""Closed-loop rollouts that emit what happened at every step, and rollouts made into scenarios.

`perlsim.sim.rollout` reduces an episode to totals; this is for the few thousand episodes that one wants to look
at, measure step by step, or keep as logs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from perlsim import backend
from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, ScenarioBank, Scene, X, Z
from perlsim.bank_build import agent_order
from perlsim.errors import PerlsimError
from perlsim.readers.mend_road import wrapped32
from perlsim.scenario import Lights, Scenario, Tracks
from perlsim.sim.agents import EgoFuture
from perlsim.sim.core import SimConfig, init, step, with_ego
from perlsim.sim.rollout import (
    Episodes,
    RolloutConfig,
    check_horizon,
    need_paths,
    sim_config,
    view_of,
)
from perlsim.sim.types import Event, Plan, Pose, SimState, has

_AXIS = "episodes"
# Episodes at once on a device: a trace of 256 road users over 80 steps then takes 42 MiB of scratch.
CHUNK = 64
OUTPUTS = ("ego", "agents", "events", "plans")
# Columns of `Trace.ego`.
EGO_X, EGO_Y, EGO_Z, EGO_HEADING, EGO_SPEED = range(5)


class Happened(NamedTuple):
    """What happened at each step, ``[B, T]``.

    Attributes:
        events: int32 `Event` set, 0 at the start.
        begun: int32, those of them that were not in the step before.
        hit_agent: int32 slot of the road user newly hit, −1 none.
        over: bool, the episode was over before this step: by a terminal event or the log's end.
        route_arc: m along the route.
    """

    events: Any
    begun: Any
    hit_agent: Any
    over: Any
    route_arc: Any


class Trace(NamedTuple):
    """Chosen outputs of B episodes, T = horizon + 1 steps from the start on; None where not chosen.

    Attributes:
        ego: ``[B, T, 5]``: x, y, z of the box centre [m], heading [rad], speed [m/s], scenario frame.
        agents: ``[B, T, 8, A]`` in the layout of a bank's tracks; slot 0 is the simulated ego.
        events: see `Happened`.
        plans: anchored plans, ``[B, R, …]``, one for each of the R times of planning.
    """

    ego: Any = None
    agents: Any = None
    events: Happened | None = None
    plans: Plan | None = None

    def episode(self, number: int) -> Trace:
        """One of them, without the axis B."""
        return jax.tree.map(lambda leaf: leaf[number], self)


def trace_episode(
    config: RolloutConfig,
    agents: Any,
    policy: Any,
    outputs: tuple[str, ...],
    scene: Scene,
    start: jax.Array,
    key: jax.Array,
    ego: Pose | None = None,
) -> Trace:
    """One episode in closed loop; the same course of events as `perlsim.sim.rollout.run_episode`.

    Args:
        config: static choices.
        agents: agent model.
        policy: ego policy.
        outputs: which fields of `Trace` to emit.
        scene: the scene.
        start: int32 step of the log.
        key: random key of the episode.
        ego: where the ego begins; where the log has it by default.
    """
    sim_key, policy_key = jax.random.split(key)
    sim = sim_config(config, policy)
    state = init(sim, agents, scene, start, sim_key, ego)
    carry = policy.init(scene, start, policy_key)

    def plan_and_drive(loop, round_idx):
        state, carry = loop
        carry, plan = policy.act(
            carry, view_of(config, policy, scene, state), jax.random.fold_in(policy_key, round_idx)
        )
        plan = plan.anchored(state.ego)

        def drive(state, _):
            over = state.done | has(state.events, Event.LOG_ENDED)
            following, outcome = step(sim, agents, scene, state, plan)
            return following, _emitted(outputs, following, outcome.begun, outcome.hit_agent, over)

        state, steps = lax.scan(
            drive, replace(state, plan_age=jnp.int32(0)), None, length=config.replan_every
        )
        return (state, carry), (steps, plan if "plans" in outputs else None)

    rounds = jnp.arange(config.horizon // config.replan_every)
    _, (steps, plans) = lax.scan(plan_and_drive, (state, carry), rounds)
    steps = jax.tree.map(lambda leaf: leaf.reshape(config.horizon, *leaf.shape[2:]), steps)
    first = _emitted(outputs, state, jnp.int32(0), jnp.int32(-1), jnp.bool_(False))
    whole = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest]), first, steps)
    return whole._replace(plans=plans)


def _emitted(outputs, state: SimState, begun, hit_agent, over) -> Trace:
    ego = state.ego
    own = jnp.stack([ego.x, ego.y, ego.z, ego.heading, ego.speed])
    return Trace(
        ego=own if "ego" in outputs else None,
        agents=with_ego(state) if "agents" in outputs else None,
        events=Happened(state.events, begun, hit_agent, over, state.route_arc)
        if "events" in outputs
        else None,
    )


def agents_along(
    agents: Any, scene: Scene, start: jax.Array, poses: jax.Array, key: jax.Array, ego: Pose | None = None
) -> jax.Array:
    """The other road users as they react to an ego that moves as told, whatever they do.

    Args:
        agents: agent model.
        scene: the scene.
        start: int32 step of the log.
        poses: ``[H, 3]``: x, y [m] of the box centre and heading [rad], scenario frame, every `STEP` from one step
            after the start on.
        key: random key.
        ego: where the ego begins; where the log has it by default.

    Returns:
        ``[H + 1, 8, A]`` road users from the start on, slot 0 the ego.
    """
    sim = SimConfig()
    state = init(sim, agents, scene, start, key, ego)
    x = jnp.concatenate([state.ego.x[None], poses[:, 0]])
    y = jnp.concatenate([state.ego.y[None], poses[:, 1]])
    speed = jnp.hypot(jnp.diff(x), jnp.diff(y)) / STEP
    # Road users may know the plan for the next 0.5 s (DESIGN §5); past its end the ego goes on as it was.
    ahead = round(0.5 / STEP)
    size = poses.shape[0]
    goes_on = [jnp.concatenate([v, v[-1] + (v[-1] - v[-2]) * jnp.arange(1, ahead + 1)]) for v in (x, y)]
    future = EgoFuture(*(v[ahead : size + ahead] - v[:size] for v in goes_on))

    def move(state, inputs):
        (px, py, heading), speed, future = inputs
        agent_key = jax.random.fold_in(state.key, state.step)
        memory, rows = agents.act(state.memory, scene, state, future, agent_key)
        pose = Pose(px, py, state.ego.z, heading, jnp.cos(heading), jnp.sin(heading), speed)
        following = replace(state, ego=pose, agents=rows, memory=memory, step=state.step + 1)
        return following, with_ego(following)

    _, rows = lax.scan(move, state, (tuple(poses.T), speed, future))
    return jnp.concatenate([with_ego(state)[None], rows])


class Tracer:
    """A compiled `trace_episode`: construct once, call for many banks of one shape and many sets of episodes.

    Args:
        config: static choices.
        agents: agent model.
        policy: ego policy.
        outputs: which fields of `Trace` to emit.
        devices: devices to spread episodes over; None takes all of this process.
    """

    def __init__(
        self,
        config: RolloutConfig,
        agents: Any,
        policy: Any,
        outputs: tuple[str, ...] = OUTPUTS,
        devices=None,
    ):
        check_horizon(config)
        if unknown := set(outputs) - set(OUTPUTS):
            raise PerlsimError(f"unknown outputs {sorted(unknown)}, expected some of {', '.join(OUTPUTS)}")
        self.agents, self.policy = agents, policy
        self._over = OverEpisodes(partial(_traced, config, outputs), devices)
        self.put = self._over.put

    @property
    def batch(self) -> int:
        """Episodes at once on all devices."""
        return self._over.batch

    def __call__(
        self, bank: ScenarioBank, episodes: Episodes, seed: int = 0, ego: Pose | None = None
    ) -> Trace:
        """Runs the episodes.

        Args:
            bank: on the devices (see `put`).
            episodes: ``[B]``, any number.
            seed: keys all randomness, together with each episode's number.
            ego: ``[B]``, where egos begin; where the log has them by default.

        Returns:
            Numpy arrays.

        Raises:
            PerlsimError: where the agents follow paths that the bank was built without.
        """
        need_paths(self.agents, bank)
        key = jax.random.key(seed)
        return self._over((self.agents, self.policy, bank, key), (episodes, ego))


def _traced(config, outputs, constants, episode) -> Trace:
    agents, policy, bank, key = constants
    (scenario_idx, start, number), ego = episode
    key = jax.random.fold_in(key, number)
    return trace_episode(config, agents, policy, outputs, Scene(bank, scenario_idx), start, key, ego)


class OverEpisodes:
    """A function of one episode, compiled for many: sharded over devices, a batch at a time.

    Args:
        one: ``one(constants, episode) -> result``, pure.
        devices: None takes all of this process.
        chunk: most episodes at once on a device.
        in_turn: whether a CPU runs the episodes of a chunk one after the other: for functions that skip work by
            conditions, which a vectorised batch cannot.
    """

    def __init__(self, one, devices=None, chunk: int = CHUNK, in_turn: bool = False):
        self.devices, self.chunk = list(devices or jax.local_devices()), chunk
        self.mesh = Mesh(np.array(self.devices), (_AXIS,), axis_types=(AxisType.Auto,))
        on_cpu = self.devices[0].platform == "cpu"
        options = backend.compiler_options(self.devices[0].platform)
        self._run = jax.jit(partial(_sharded, one, self.mesh, in_turn and on_cpu), compiler_options=options)

    def put(self, bank: ScenarioBank) -> ScenarioBank:
        """The bank, copied to every device."""
        return jax.device_put(bank, NamedSharding(self.mesh, PartitionSpec()))

    @property
    def batch(self) -> int:
        """Most episodes at once on all devices."""
        return len(self.devices) * self.chunk

    def __call__(self, constants: Any, episodes: Any) -> Any:
        """Results as numpy arrays ``[B, …]``, of episodes whose leaves are ``[B, …]``.

        Batches are padded to one size, so that they share one compiled program.
        """
        count = len(jax.tree.leaves(episodes)[0])
        size = min(self.batch, -(-count // len(self.devices)) * len(self.devices))
        parts = []
        for begin in range(0, count, size):
            chosen = np.minimum(np.arange(begin, begin + size), count - 1)
            part = jax.tree.map(lambda leaf, chosen=chosen: np.asarray(leaf)[chosen], episodes)
            result = self._run(constants, part)
            parts.append(jax.tree.map(lambda leaf, n=count - begin: np.asarray(leaf)[:n], result))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _sharded(one, mesh, in_turn, constants, episodes):
    def on_device(constants, episodes):
        of_episode = partial(one, constants)
        return lax.map(of_episode, episodes) if in_turn else jax.vmap(of_episode)(episodes)

    everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(everywhere, split), out_specs=split, check_vma=False
    )(constants, episodes)


def simulated_scenario(
    scenario: Scenario,
    trace: Trace,
    start: int,
    *,
    scenario_id: str | None = None,
    made_by: str = "",
    until_over: bool = False,
) -> Scenario:
    """A rollout as a log of its own: the same road, lights and route, with the tracks as simulated.

    Steps after the log's end are left out, since nothing is known of the others there.

    Args:
        scenario: that was simulated; it must have an ego.
        trace: of one episode, with agents (and with events where the log may end).
        start: step of the log, of `STEP` each, at which the episode began.
        scenario_id: of the result; by default that of the scenario with ``@start``.
        made_by: what drove, for `Scenario.repairs`, such as "policy log_replay, agents idm".
        until_over: whether to stop at the step in which a terminal event happened.

    Returns:
        A validated scenario at intervals of `STEP`.

    Raises:
        PerlsimError: without an ego, or from a trace without agents.
        FormatError: where a simulated number is not finite.
    """
    if not scenario.has_ego or trace.agents is None:
        raise PerlsimError(
            f"scenario {scenario.scenario_id}: a rollout needs an ego and a trace with agents to become a log"
        )
    rows = np.asarray(trace.agents)[: _num_steps(scenario, trace, start, until_over)]
    # Slots of a bank hold the road users in this order, the ego first; those without a slot were left out.
    order = agent_order(scenario)[: rows.shape[2]]
    seen = rows[:, VALID, : len(order)].any(0)
    slots = np.flatnonzero(seen)[np.argsort(order[seen], kind="stable")]
    kept = order[slots]
    valid = rows[:, VALID, slots].T > 0
    tracks = Tracks(
        position=_masked(rows[:, X : Z + 1, slots].transpose(2, 0, 1), valid),
        heading=_masked(wrapped32(np.arctan2(rows[:, SIN, slots].T, rows[:, COS, slots].T)), valid),
        velocity=_masked(rows[:, VX : VY + 1, slots].transpose(2, 0, 1), valid),
        size=scenario.tracks.size[kept],
        kind=scenario.tracks.kind[kept],
        valid=valid,
        ids=tuple(scenario.tracks.ids[i] for i in kept),
    )
    lights = scenario.lights
    if len(lights.position):
        times = np.round((start + np.arange(len(rows))) * STEP / scenario.dt - 1e-4).astype(int)
        state = lights.state[:, np.clip(times, 0, lights.state.shape[1] - 1)]
    else:
        state = np.zeros((0, len(rows)), np.int8)
    note = f"the tracks are simulated from step {start} on{f': {made_by}' if made_by else ''}"
    return scenario.replace(
        scenario_id=scenario_id or f"{scenario.scenario_id}@{start}",
        dt=STEP,
        tracks=tracks,
        ego=replace(scenario.ego, idx=int(np.flatnonzero(slots == 0)[0])),
        lights=Lights(lights.position, lights.heading, lights.lane_idx, state),
        start_time=scenario.start_time + start * STEP,
        repairs=(*scenario.repairs, note),
    ).validate()


def _num_steps(scenario: Scenario, trace: Trace, start: int, until_over: bool) -> int:
    logged = int(np.floor(scenario.duration / STEP + 1e-6)) + 1 - start
    if until_over and trace.events is not None:
        # A step is over when one before it ended the episode.
        logged = min(logged, int((~np.asarray(trace.events.over)).sum()))
    return min(logged, len(trace.agents))


def _masked(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    mask = valid.reshape(*valid.shape, *([1] * (values.ndim - 2)))
    return np.where(mask, values, np.float32(0)).astype(np.float32)
