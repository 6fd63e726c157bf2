"""Scores of the candidates of many scenes: compiled once, chunked, spread over devices."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from perlsim import backend
from perlsim.bank import COS, SIN, VALID, ScenarioBank, Scene, X, Y
from perlsim.errors import PerlsimError
from perlsim.metrics.pdm.score import score_candidates
from perlsim.metrics.pdm.types import PdmConfig, PdmScore, Previous
from perlsim.sim.core import logged_pose
from perlsim.sim.types import Pose

_AXIS = "scenes"
# NAVSIM's history of 1.5 s.
HISTORY_STEPS = 15
# Scenes at once on a CPU core: one, so that the loop over road users ends where each scene's does.
CPU_CHUNK = 1


class _Request(NamedTuple):
    """What is asked of each scene, ``[B]`` each; None for what the log or nothing provides."""

    scenario_idx: jax.Array
    start: jax.Array
    candidates: jax.Array
    reference_progress: jax.Array
    agents: jax.Array | None
    lights: jax.Array | None
    ego: Pose | None
    past: jax.Array | None
    previous: Previous | None
    human: PdmScore | None


class PdmScorer:
    """A compiled scorer: construct once, call for many banks of one shape.

    Args:
        config: static choices.
        devices: devices to spread scenes over; None takes all of this process.
        chunk: scenes at once on one device; None chooses by backend.

    Raises:
        PerlsimError: where the config names no tracker.
    """

    def __init__(self, config: PdmConfig | None = None, devices=None, chunk: int | None = None):
        self.config = config or PdmConfig()
        if self.config.tracker not in ("lqr", "none"):
            raise PerlsimError(
                f"unknown tracker {self.config.tracker!r}", field="tracker", remedy='choose "lqr" or "none"'
            )
        self.chunk = chunk
        self.devices = list(devices or jax.local_devices())
        self.mesh = Mesh(np.array(self.devices), (_AXIS,), axis_types=(AxisType.Auto,))
        options = backend.compiler_options(self.devices[0].platform)
        self._run = jax.jit(
            partial(_sharded, self.config, self.mesh), static_argnums=0, compiler_options=options
        )

    def put(self, bank: ScenarioBank) -> ScenarioBank:
        """The bank, copied to every device."""
        return jax.device_put(bank, NamedSharding(self.mesh, PartitionSpec()))

    def __call__(
        self,
        bank: ScenarioBank,
        starts,
        candidates,
        reference_progress=None,
        agents=None,
        *,
        lights=None,
        ego: Pose | None = None,
        past=None,
        previous: Previous | None = None,
        human: PdmScore | None = None,
    ) -> PdmScore:
        """Scores N candidates of each of B scenes.

        Args:
            bank: on the devices (see `put`).
            starts: anything with ``scenario_idx`` and ``start`` ``[B]``, such as `Episodes`.
            candidates: ``[B, N, H, 3]``, see `score_candidates`.
            reference_progress: ``[B]`` m; None for no reference.
            agents: ``[B, ≥ H + 1, 8, A]``; None for those of the log.
            lights: int8 ``[B, H + 1, L]``; None for those of the log.
            ego: box centre at the start, fields ``[B]``; None for the log's.
            past: ``[B, P, 4]``; None for the log's 1.5 s.
            previous: plan before, fields ``[B, …]``.
            human: scores of the human, ``[B, 1]`` as this scorer returns them for one candidate.

        Returns:
            Scores ``[B, N]``.

        Raises:
            PerlsimError: where the candidates' shape does not fit.
        """
        candidates = jnp.asarray(candidates, jnp.float32)
        count = len(starts.scenario_idx)
        if candidates.ndim != 4 or candidates.shape[0] != count or candidates.shape[3] != 3:
            raise PerlsimError(
                f"expected candidates of shape [{count}, N, H, 3], found {list(candidates.shape)}",
                field="candidates",
                remedy="give one set of candidates (x, y, heading at every 0.1 s) for each start",
            )
        if candidates.shape[2] < 15:
            raise PerlsimError(
                f"candidates of {candidates.shape[2]} steps are too short for the filters of comfort",
                field="candidates",
                remedy="give at least 15 poses at 0.1 s; perlsim.metrics.pdm.every_step fills in coarser ones",
            )
        if reference_progress is None:
            reference_progress = np.full(count, np.nan, np.float32)
        request = _Request(
            jnp.asarray(starts.scenario_idx, jnp.int32),
            jnp.asarray(starts.start, jnp.int32),
            candidates,
            jnp.asarray(reference_progress, jnp.float32),
            agents,
            lights,
            ego,
            past,
            previous,
            human,
        )
        request = jax.tree.map(jnp.asarray, request)
        chunk = self._chunk(count)
        padding = -count % (len(self.devices) * chunk)
        if padding:
            rows = np.resize(np.arange(count), padding)
            request = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[rows]]), request)
        score = self._run(chunk, bank, request)
        return jax.tree.map(lambda leaf: leaf[:count], score) if padding else score

    @property
    def num_traces(self) -> int:
        """How many programs have been compiled."""
        return self._run._cache_size()  # pyright: ignore[reportAttributeAccessIssue]

    def _chunk(self, count: int) -> int:
        share = -(-count // len(self.devices))
        if self.chunk is not None:
            return min(self.chunk, share)
        return min(CPU_CHUNK, share) if self.devices[0].platform == "cpu" else share


def as_reward(scorer: PdmScorer, bank: ScenarioBank, *, extended: bool = False, unknown: float | None = None):
    """The scorer as a reward function for trainers of other frameworks.

    Args:
        scorer: the scorer.
        bank: on its devices.
        extended: whether the reward is EPDMS; else PDMS.
        unknown: reward where the score is not available; None leaves NaN, for the trainer to mask.

    Returns:
        ``reward(starts, candidates [B, N, H, 3], **inputs) -> float32 [B, N]`` as a numpy array; ``inputs`` are those
        of `PdmScorer.__call__`, such as ``reference_progress``, without which progress always counts in full.
    """

    def reward(starts, candidates, **inputs) -> np.ndarray:
        score = scorer(bank, starts, candidates, **inputs)
        value = np.asarray(score.epdms if extended else score.pdms)
        return value if unknown is None else np.nan_to_num(value, nan=unknown)

    return reward


def _sharded(config: PdmConfig, mesh: Mesh, chunk: int, bank: ScenarioBank, request: _Request) -> PdmScore:
    def on_device(bank, request):
        one = partial(_one_scene, config, bank)
        if chunk == 1:
            return lax.map(one, request)
        chunks = jax.tree.map(lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), request)
        scores = lax.map(jax.vmap(one), chunks)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), scores)

    everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(everywhere, split), out_specs=split, check_vma=False
    )(bank, request)


def _one_scene(config: PdmConfig, bank: ScenarioBank, request: _Request) -> PdmScore:
    scene, start = Scene(bank, request.scenario_idx), request.start
    steps = start + jnp.arange(request.candidates.shape[1] + 1 + config.extra_steps)
    last = bank.num_steps[scene.idx] - 1
    logged = jnp.minimum(steps, last)
    agents, lights = request.agents, request.lights
    if agents is None:
        agents = bank.tracks[scene.idx, logged]
        # What is not logged any more is not there.
        agents = agents.at[:, 7].multiply((steps <= last)[:, None])
    if lights is None:
        lights = bank.light_state[scene.idx, logged]
    ego = logged_pose(scene, start) if request.ego is None else request.ego
    past = _logged_past(scene, start) if request.past is None else request.past
    return score_candidates(
        config,
        scene,
        ego,
        past,
        request.candidates,
        agents,
        lights,
        request.reference_progress,
        previous=request.previous,
        human=request.human,
    )


def _logged_past(scene: Scene, start: jax.Array) -> jax.Array:
    """The logged ego before the start, ``[P, 4]``; cos = sin = 0 where it was not there."""
    steps = start - jnp.arange(HISTORY_STEPS, 0, -1)
    rows = scene.bank.tracks[scene.idx, jnp.maximum(steps, 0), :, 0]
    known = rows[:, VALID] * (steps >= 0)
    return jnp.stack([rows[:, X], rows[:, Y], rows[:, COS] * known, rows[:, SIN] * known], 1)
