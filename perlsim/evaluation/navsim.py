"""NAVSIM's protocol: a policy makes one plan of 4 s, which is driven and scored; a second stage follows from there.

What road users do may depend on the plan (NAVSIM v2's reactive traffic): the agent model moves them along the ego's
motion. The human of EPDMS's filter is the log, among logged road users.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import COS, SIN, VALID, Scene, X, Y
from perlsim.evaluation.scenes import HISTORY, Bucket
from perlsim.metrics.pdm.score import score_candidates
from perlsim.metrics.pdm.tracking import drive_candidates, history_of
from perlsim.metrics.pdm.two_stage import two_stage_score
from perlsim.metrics.pdm.types import HORIZON, PdmConfig, PdmScore, Previous
from perlsim.policies.pdm_closed import PdmClosed
from perlsim.policies.proposals import proposal_of, propose_from_plan
from perlsim.policies.simple import LogReplay
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import init, logged_pose
from perlsim.sim.rollout import Episodes, RolloutConfig, sim_config, view_of
from perlsim.sim.types import Pose
from perlsim.trace import OverEpisodes, agents_along

# Steps of 0.1 s that must be logged after the start of a scene.
PROTOCOL_STEPS = HORIZON
# Sub-scores that results hold, beside the two totals.
SUB_SCORES = (
    "epdms",
    "pdms",
    "no_at_fault_collisions",
    "drivable_area_compliance",
    "driving_direction_compliance",
    "traffic_light_compliance",
    "ego_progress",
    "time_to_collision",
    "lane_keeping",
    "history_comfort",
    "comfort",
    "extended_comfort",
)


class StageTwo(NamedTuple):
    """Starts of the second stage of one scene.

    Attributes:
        step: of the log.
        poses: ``[M, 4]``: x, y [m] of the box centre, heading [rad], speed [m/s], scenario frame.
    """

    step: int
    poses: np.ndarray


class _Plans(NamedTuple):
    """What is scored, ``[B, …]``: a policy's plan ``[H, 3]``, and the one it would have made a little earlier."""

    now: Any
    before: Any


class _Standard(NamedTuple):
    """What a plan is measured by, ``[B]``: progress of PDM-Closed [m], and the human's score."""

    progress: Any
    human: PdmScore


class _Scored(NamedTuple):
    """Scores ``[1]`` of one plan and where it ends: x, y [m] of the box centre."""

    score: PdmScore
    end: Any


class Navsim:
    """Scores policies; what all of them are measured by is found once for each bucket.

    Args:
        agents: agent model.
        seed: of all randomness.
        stage_two: starts of the second stage, by name of the scene; scenes without have no score in two stages.
        config: of the scorer.
    """

    def __init__(
        self, agents: Any, seed: int, stage_two: Mapping[str, StageTwo], config: PdmConfig | None = None
    ):
        self.agents, self.key, self.stage_two = agents, jax.random.key(seed), stage_two
        self.config = config or PdmConfig()
        self._plan = OverEpisodes(_planned)
        # The scorer skips what is far away.
        self._score = OverEpisodes(partial(_scored, self.config), in_turn=True)
        self._standards: dict[tuple[int, bool], _Standard] = {}

    def score(self, policy: Any, bucket: Bucket, bank: Any) -> list[dict[str, float]]:
        """Metrics of each scene of a bucket, NaN where not available.

        Args:
            policy: ego policy.
            bucket: the scenes.
            bank: its bank, on the devices.
        """
        own = self._scored(policy, bucket, bank, bucket.episodes, None)
        rows = [
            {name: float(getattr(own.score, name)[k, 0]) for name in SUB_SCORES}
            for k in range(len(bucket.scenes))
        ]
        if self.stage_two:
            for row, more in zip(rows, self._two_stages(policy, bucket, bank, own), strict=True):
                row |= more
        return rows

    def _two_stages(self, policy: Any, bucket: Bucket, bank: Any, own: _Scored) -> list[dict[str, float]]:
        """Scores in two stages of each scene."""
        starts = [self.stage_two.get(scene.scene_id) for scene in bucket.scenes]
        owner = np.array([k for k, start in enumerate(starts) for _ in (start.poses if start else ())], int)
        if not len(owner):
            return [dict.fromkeys(("two_stage_epdms", "two_stage_pdms"), float("nan")) for _ in starts]
        poses = np.concatenate([start.poses for start in starts if start])
        steps = np.concatenate([np.full(len(start.poses), start.step) for start in starts if start])
        idx, _, number = (np.asarray(part)[owner] for part in bucket.episodes)
        # Every start draws its own numbers.
        number = (number + (1 + np.arange(len(owner))) * 1_000_003) % 2**31
        episodes = Episodes(idx, steps.astype(np.int32), number.astype(np.int32))
        later = self._scored(policy, bucket, bank, episodes, _pose_of(poses))
        distance = np.hypot(*(own.end[owner] - poses[:, :2]).T)
        return [
            {
                f"two_stage_{total}": float(
                    two_stage_score(
                        jnp.asarray(getattr(own.score, total)[k, 0]),
                        jnp.asarray(getattr(later.score, total)[owner == k, 0]),
                        jnp.asarray(distance[owner == k]),
                    )
                )
                for total in ("epdms", "pdms")
            }
            for k in range(len(starts))
        ]

    def _scored(self, policy, bucket: Bucket, bank, episodes: Episodes, ego: Pose | None) -> _Scored:
        """Scores of a policy's plans from given starts."""
        stage = (id(bucket), ego is None)
        if stage not in self._standards:
            self._standards[stage] = self._standard(bank, episodes, ego)
        plans = self._plans(policy, bank, episodes, ego)
        return self._score((self.agents, bank, self.key), (episodes, ego, plans, self._standards[stage]))

    def _plans(self, policy: Any, bank: Any, episodes: Episodes, ego: Pose | None) -> _Plans:
        constants = (policy, bank, self.key)
        now = self._plan(constants, (episodes, ego))
        if ego is not None:
            # Nothing was driven before a start that was made up: extended comfort is unknown.
            return _Plans(now, None)
        before = episodes._replace(start=np.asarray(episodes.start) - np.int32(self.config.replan_steps))
        return _Plans(now, self._plan(constants, (before, None)))

    def _standard(self, bank, episodes: Episodes, ego: Pose | None) -> _Standard:
        """Progress of PDM-Closed where it fails no multiplier, and the human's score, among logged road users.

        Nobody drove from starts that were made up: there the human's score is unknown, and nothing is filtered.
        """
        count = len(np.asarray(episodes.start))
        nan = np.full((count, 1), np.nan, np.float32)
        unknown = PdmScore(*[cast(jax.Array, nan)] * len(PdmScore._fields))
        constants = (LogAgents(), bank, self.key)

        def score(policy: Any) -> PdmScore:
            plans = self._plans(policy, bank, episodes, ego)
            nothing = _Standard(np.full(count, np.nan, np.float32), unknown)
            return self._score(constants, (episodes, ego, plans, nothing)).score

        best = score(PdmClosed())
        multiplier = best.no_at_fault_collisions * np.nan_to_num(best.drivable_area_compliance, nan=1.0)
        human = score(LogReplay()) if ego is None else unknown
        # Of one type for all, so that known and unknown share one program.
        human = jax.tree.map(lambda part: np.asarray(part, np.float32).reshape(count, -1)[:, :1], human)
        return _Standard((best.progress * multiplier)[:, 0], human)


def _planned(constants, episode) -> jax.Array:
    """What a policy proposes in one scene, ``[H, 3]``; what it sees is the log's, but for the ego."""
    policy, bank, key = constants
    (idx, start, number), ego = episode
    scene = Scene(bank, idx)
    key = jax.random.fold_in(key, number)
    ego = _at_height(ego, logged_pose(scene, start))
    config = RolloutConfig()
    agents: Any = LogAgents()
    state = init(sim_config(config, policy), agents, scene, start, key, ego)
    if policy.privileged:
        return proposal_of(policy, scene, state, key)
    _, plan = policy.act(policy.init(scene, start, key), view_of(config, policy, scene, state), key)
    return propose_from_plan(scene, plan)


def _scored(config: PdmConfig, constants, episode) -> _Scored:
    """One plan of one scene, scored among road users that react to it."""
    agents, bank, key = constants
    (idx, start, number), ego, plans, standard = episode
    scene = Scene(bank, idx)
    logged = logged_pose(scene, start)
    own = _at_height(ego, logged)
    past = _moved(past_of(scene, start), logged, own)
    chassis = bank.chassis[idx]
    history = history_of(own, past, chassis[1])
    driven = drive_candidates(config, own, history, chassis[0], chassis[1], plans.now[None])
    heading = jnp.arctan2(driven.sin, driven.cos)
    poses = jnp.stack([driven.x, driven.y, heading], -1)[1:, 0]
    rows = agents_along(agents, scene, start, poses, jax.random.fold_in(key, number), own)
    lights = jax.vmap(scene.lights_at)(start + jnp.arange(HORIZON + 1))
    previous = None
    if plans.before is not None:
        before = start - config.replan_steps
        previous = Previous(logged_pose(scene, before), past_of(scene, before), plans.before)
    score = score_candidates(
        config,
        scene,
        own,
        past,
        plans.now[None],
        rows,
        lights,
        standard.progress,
        previous=previous,
        human=standard.human,
    )
    return _Scored(score, poses[-1, :2])


def _at_height(ego: Pose | None, logged: Pose) -> Pose:
    """Where the ego begins: in the log, or elsewhere at the log's height."""
    return logged if ego is None else ego._replace(z=logged.z)


def past_of(scene: Scene, start: jax.Array) -> jax.Array:
    """The logged ego's past as the scorer takes it, ``[HISTORY, 4]``."""
    steps = start - jnp.arange(HISTORY, 0, -1)
    rows = scene.bank.tracks[scene.idx, jnp.maximum(steps, 0), :, 0]
    known = (rows[:, VALID] > 0) & (steps >= 0)
    return jnp.stack([rows[:, X], rows[:, Y], rows[:, COS] * known, rows[:, SIN] * known], 1)


def _moved(past: jax.Array, logged: Pose, own: Pose) -> jax.Array:
    """The past, moved as a whole with the ego from where the log has it to where it is."""
    cos = logged.cos * own.cos + logged.sin * own.sin
    sin = logged.cos * own.sin - logged.sin * own.cos
    dx, dy = past[:, 0] - logged.x, past[:, 1] - logged.y
    return jnp.stack(
        [
            own.x + cos * dx - sin * dy,
            own.y + sin * dx + cos * dy,
            cos * past[:, 2] - sin * past[:, 3],
            sin * past[:, 2] + cos * past[:, 3],
        ],
        1,
    )


def _pose_of(poses: np.ndarray) -> Pose:
    """Poses ``[M]`` from ``[M, 4]``: x, y, heading, speed; heights are the log's."""
    x, y, heading, speed = poses.T.astype(np.float32)
    return Pose(x, y, np.zeros_like(x), heading, np.cos(heading), np.sin(heading), speed)
