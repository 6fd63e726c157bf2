"""Drives routes in closed loop until each has ended, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perlsim.bank import HostBank, Scene
from perlsim.errors import PerlsimError
from perlsim.policies import PrivilegedView
from perlsim.sim.core import SimConfig, halfway, init, step, with_ego
from perlsim.sim.noise import perceive
from perlsim.sim.rollout import RolloutConfig, observation_of, sim_config
from perlsim.sim.types import SimState
from perlsim.trace import OverEpisodes
from perlsim.worlds.suite.criteria import Judged, Rules, Seen, Status, Tick, begin, half_way, judge
from perlsim.worlds.suite.scene import MAX_STEPS, MAX_TICKS, Case

# Steps after which it is asked whether all have ended; MAX_STEPS is a multiple.
CHUNK = 50
# Most routes at once on a device.
BATCH = 128
# Controller and vehicle of an examination: Bench2Drive's, and CARLA's fitted car.
SIM = SimConfig(controller="bench2drive", vehicle="carla")


class Drives(NamedTuple):
    """What B routes saw.

    Attributes:
        judged: at the end, ``[B, …]``.
        ego: ``[B, MAX_STEPS, 5]``: x, y, z [m], heading [rad], speed [m/s] after each step; 0 after the end.
        seen: at each tick of 0.05 s, ``[B, MAX_TICKS]`` each.
        rows: float32 ``[B, MAX_STEPS, 8, A]``, all road users after each step in the layout of a bank's tracks, the
            ego in slot 0; None where they are not recorded.
    """

    judged: Judged
    ego: Any
    seen: Seen
    rows: Any = None


class Examination:
    """A compiled examination of one policy.

    Args:
        policy: ego policy.
        agents: model of the other road users.
        replan_every: steps of 0.1 s between plans, a divisor of `CHUNK`.
        record: whether to give the rows of all road users (`Drives.rows`): 50 KiB a second of drive and 100 of them.

    Raises:
        PerlsimError: for a policy that repeats the log, which routes do not have.
    """

    def __init__(self, policy: Any, agents: Any, replan_every: int = 5, *, record: bool = False):
        if policy.replays_log:
            raise PerlsimError("routes have no log to replay", field="--policy")
        if CHUNK % replan_every:
            raise PerlsimError(f"expected a divisor of {CHUNK}", field="--replan-every")
        config = RolloutConfig(sim=SIM, horizon=CHUNK, replan_every=replan_every)
        self.policy, self.agents = policy, agents
        self._config, self._record = config, record

    def __call__(
        self, cases: Sequence[Case], host: HostBank, seed: int = 0, numbers: Sequence[int] | None = None
    ) -> Drives:
        """Drives all routes.

        Args:
            cases: the routes.
            host: their bank.
            seed: of all randomness, together with each route's number.
            numbers: of the routes; their places by default.
        """
        # One batch on each device where they fit, and never more episodes than routes.
        size = min(-(-len(cases) // len(jax.devices())), BATCH)
        over = _over_routes(self._config, size, self._record)
        places = np.arange(len(cases), dtype=np.int32)
        episodes = places, places if numbers is None else np.array(numbers, np.int32), _rules_of(cases)
        return over((self.agents, self.policy, over.put(host.bank), jax.random.key(seed)), episodes)


@cache
def _over_routes(config: RolloutConfig, size: int, record: bool) -> OverEpisodes:
    """One for all policies that differ in numbers only: they share a compiled program."""
    return OverEpisodes(partial(_driven, config, record), chunk=size)


def _rules_of(cases: Sequence[Case]) -> Rules:
    """The rules of all routes."""
    stretches = [[s for s in case.stages if s.allows_oncoming] for case in cases]
    oncoming = np.full((len(cases), max(1, *map(len, stretches)), 2), (np.inf, -np.inf), np.float32)
    for row, stages in enumerate(stretches):
        for number, stage in enumerate(stages):
            oncoming[row, number] = stage.begin, stage.end
    return Rules(oncoming, np.array([case.emergency for case in cases], np.int32))


def _seen_by(policy: Any, config: RolloutConfig, scene: Scene, state: SimState) -> Any:
    """What a policy sees of a state: without privilege, nobody whom others hide, whatever its configuration says."""
    if policy.privileged:
        return PrivilegedView(scene, state)
    observation = replace(observation_of(config, policy), occlusion=True)
    return perceive(observation, config.noise, scene, state)


class _Loop(NamedTuple):
    state: Any
    carry: Any
    judged: Judged
    chunk: jax.Array
    ego: jax.Array
    seen: Seen
    rows: jax.Array | None


def _driven(config: RolloutConfig, record: bool, constants, episode) -> Drives:
    agents, policy, bank, key = constants
    idx, number, rules = episode
    scene, start = Scene(bank, idx), jnp.int32(0)
    sim_key, policy_key = jax.random.split(jax.random.fold_in(key, number))
    sim = sim_config(config, policy)
    rounds = CHUNK // config.replan_every

    def plan_and_drive(loop, round_idx):
        state, carry, judged = loop
        view = _seen_by(policy, config, scene, state)
        carry, plan = policy.act(carry, view, jax.random.fold_in(policy_key, round_idx))
        plan = plan.anchored(state.ego)

        def drive(inner, _):
            state, judged = inner
            following, _ = step(sim, agents, scene, state, plan)
            lights, middle = scene.lights_at(following.step), halfway(sim, scene, state, plan, agents)
            ticks = (
                (state.ego, Tick(middle, half_way(state.agents, following.agents), lights)),
                (middle, Tick(following.ego, following.agents, lights)),
            )
            # A loop: two copies of the criteria would take twice as long to compile.
            ticks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ticks)
            judged, seen = lax.scan(lambda judged, tick: judge(judged, scene, rules, *tick), judged, ticks)
            ego = following.ego
            pose = jnp.stack([ego.x, ego.y, ego.z, ego.heading, ego.speed])
            return (following, judged), (pose, seen, with_ego(following) if record else None)

        begun = replace(state, plan_age=jnp.int32(0)), judged
        (state, judged), steps = lax.scan(drive, begun, None, length=config.replan_every)
        return (state, carry, judged), steps

    def drive_chunk(loop: _Loop) -> _Loop:
        numbers = loop.chunk * rounds + jnp.arange(rounds)
        (state, carry, judged), steps = lax.scan(
            plan_and_drive, (loop.state, loop.carry, loop.judged), numbers
        )
        ego, seen, rows = steps

        def put(whole, parts, each=1):
            part = parts.reshape(each * CHUNK, *whole.shape[1:])
            return lax.dynamic_update_slice_in_dim(whole, part, loop.chunk * each * CHUNK, 0)

        return _Loop(
            state,
            carry,
            judged,
            loop.chunk + 1,
            put(loop.ego, ego),
            jax.tree.map(partial(put, each=MAX_TICKS // MAX_STEPS), loop.seen, seen),
            put(loop.rows, rows) if record else None,
        )

    def goes_on(loop: _Loop) -> jax.Array:
        return (loop.judged.status == Status.RUNNING) & (loop.chunk < MAX_STEPS // CHUNK)

    nothing = jnp.zeros(MAX_TICKS, jnp.int32)
    first = _Loop(
        init(sim, agents, scene, start, sim_key),
        policy.init(scene, start, policy_key),
        begin(),
        jnp.int32(0),
        jnp.zeros((MAX_STEPS, 5), jnp.float32),
        Seen(nothing, nothing - 1),
        jnp.zeros((MAX_STEPS, *bank.tracks.shape[2:]), jnp.float32) if record else None,
    )
    last = lax.while_loop(goes_on, drive_chunk, first)
    return Drives(last.judged, last.ego, last.seen, last.rows)
