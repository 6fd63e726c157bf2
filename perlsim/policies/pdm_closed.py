"""PDM-Closed: proposals along the route, forecast, simulated, scored; the best is driven.

After the published description of Dauner et al. 2023, "Parting with Misconceptions about Learning-based Vehicle
Motion Planning": lateral offsets from the route times fractions of the speed limit, each driven by an IDM behind
leaders and lights; the others forecast with constant velocity; every proposal simulated (LQR, bicycle) and scored
with the sub-scores of PDMS; an emergency brake where even the best collides soon. Ours, where that is silent: the
law of `perlsim.policies.idm_route`, which also heeds stop signs, and a preference for the middle of the lane with
the weight that EPDMS gives to lane keeping.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import STEP, VALID, VX, VY, Scene, X, Y
from perlsim.metrics.pdm.score import score_candidates
from perlsim.metrics.pdm.types import PdmConfig, PdmScore, SubScore
from perlsim.policies import PrivilegedView
from perlsim.policies.corridor import FORECAST_STEP, occupied
from perlsim.policies.idm_route import (
    ANTICIPATED,
    IdmRoute,
    acceleration_so_far,
    logged_before,
    targets,
)
from perlsim.policies.route_path import RoutePath, path_ahead, plan_on, trajectory_on
from perlsim.policies.simple import PROPOSED_STEPS, SPEED_STEPS
from perlsim.sim.agents import agents_of
from perlsim.sim.core import SimConfig, init, logged_past
from perlsim.sim.types import Plan, SimState

# Weights of progress, time to collision, comfort (PDMS) and of staying in the middle (EPDMS's lane keeping).
_PROGRESS, _CLEARANCE, _COMFORT, _MIDDLE = 5.0, 5.0, 2.0, 2.0
# What the weighted part counts where the multipliers are 0 for all: enough to choose by.
_TIE = 1e-3
# NAVSIM's history: 1.5 s.
_HISTORY = 15
_SCORING = PdmConfig(extended=False, ignore_initial_overlaps=True)


class Chosen(NamedTuple):
    """What is to be driven.

    Attributes:
        path: the path of the proposal.
        speed: ``[41]`` m/s at each step from now on.
        candidate: ``[40, 3]``, its poses as `perlsim.metrics.pdm` takes them.
        emergency: bool, it is the emergency brake.
        number: int32, offset number times the number of fractions, plus fraction number.
    """

    path: RoutePath
    speed: jax.Array
    candidate: jax.Array
    emergency: jax.Array
    number: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["driver", "brake_deceleration", "brake_time"],
    meta_fields=["offsets", "fractions"],
)
@dataclass(frozen=True)
class PdmClosed:
    """See the module.

    Attributes:
        driver: follows each path.
        brake_deceleration: m/s² of the emergency brake.
        brake_time: s; it is applied where the best proposal collides sooner.
        offsets: m to the left of the route (static).
        fractions: of the speed limit (static).
    """

    driver: IdmRoute = field(default_factory=IdmRoute)
    brake_deceleration: jax.Array | float = 6.0
    brake_time: jax.Array | float = 2.0
    offsets: tuple[float, ...] = (-1.0, 0.0, 1.0)
    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    privileged: ClassVar[bool] = True
    replays_log: ClassVar[bool] = False

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> jax.Array:
        """The speed at the start [m/s]."""
        return self.driver.init(scene, start, key)

    def act(self, carry: jax.Array, observation: PrivilegedView, key: jax.Array) -> tuple[jax.Array, Plan]:
        """A plan of 2 s."""
        scene, state = observation
        chosen = self.choose(scene, state, carry, jnp.zeros((0, 4)))
        speed = targets(chosen.speed[: SPEED_STEPS + 1])
        # An emergency brake is the pedal pressed, not a speed to come down to.
        speed = jnp.where(chosen.emergency, 0.0, speed)
        return carry, plan_on(chosen.path, state.ego, scene.bank.chassis[scene.idx, 1], speed)

    def propose(self, scene: Scene, state: SimState, key: jax.Array) -> jax.Array:
        """Poses ``[40, 3]`` of the rear axle over 4 s, in its present frame."""
        return self.choose_at_start(scene, state).candidate

    def choose_at_start(self, scene: Scene, state: SimState) -> Chosen:
        """As `choose`, at the start of an episode: what the log tells of the ego's motion before is known."""
        past = logged_past(scene, state.step - jnp.arange(_HISTORY, 0, -1))[:, :, 0]
        past = past * logged_before(scene, state)
        return self.choose(scene, state, state.ego.speed, past, acceleration_so_far(scene, state))

    def choose(
        self,
        scene: Scene,
        state: SimState,
        initial_speed: jax.Array,
        past: jax.Array,
        acceleration: jax.Array | None = None,
    ) -> Chosen:
        """The best proposal, or the emergency brake.

        Args:
            scene: scene.
            state: of it.
            initial_speed: m/s at the start of the episode.
            past: ``[P, 4]`` of the ego, as `score_candidates` takes it; P may be 0.
            acceleration: m/s² so far, from which proposals change it smoothly; None where it may jump.
        """
        to_centre = scene.bank.chassis[scene.idx, 1]
        offsets = jnp.asarray(self.offsets, jnp.float32)
        paths = jax.vmap(lambda offset: path_ahead(scene, state, offset))(offsets)
        places, speeds = jax.vmap(lambda path: self._driven(scene, state, path, initial_speed, acceleration))(
            paths
        )
        fractions, steps = len(self.fractions), PROPOSED_STEPS + 1
        place, speed = places.reshape(-1, steps), speeds.reshape(-1, steps)
        of_each = jax.tree.map(lambda leaf: jnp.repeat(leaf, fractions, 0), paths)
        candidates = jax.vmap(lambda path, place: trajectory_on(path, state.ego, to_centre, place[1:]))(
            of_each, place
        )
        score = self._score(scene, state, past, candidates)
        best = jnp.argmax(self._totals(score)).astype(jnp.int32)
        collides = score.failure_time[best, SubScore.NO_AT_FAULT_COLLISIONS] <= self.brake_time
        path = jax.tree.map(lambda leaf: leaf[best // fractions], paths)
        brake_place, brake_speed = self._brake(state.ego.speed)
        braked = trajectory_on(path, state.ego, to_centre, brake_place[1:])
        return Chosen(
            path,
            jnp.where(collides, brake_speed, speed[best]),
            jnp.where(collides, braked, candidates[best]),
            collides,
            best,
        )

    def _driven(self, scene: Scene, state: SimState, path: RoutePath, initial_speed: jax.Array, acceleration):
        """Places and speeds ``[fractions, 41]`` along one path."""
        driver = self.driver
        forecasts = round(PROPOSED_STEPS * STEP / FORECAST_STEP) + ANTICIPATED
        leaders = occupied(scene, state, path, forecasts, driver.margin, driver.num_leaders)
        stop = driver.stop(scene, state, path)

        def at(fraction: jax.Array):
            desired = driver.desired(path, initial_speed, fraction)
            return driver.follow(scene, state, desired, leaders, stop, PROPOSED_STEPS, acceleration)

        return jax.vmap(at)(jnp.asarray(self.fractions, jnp.float32))

    def _score(self, scene: Scene, state: SimState, past: jax.Array, candidates: jax.Array) -> PdmScore:
        """Scores against the forecasts."""
        times = STEP * jnp.arange(PROPOSED_STEPS + 1, dtype=jnp.float32)[:, None]
        rows = state.agents
        forecast = jnp.broadcast_to(rows, (PROPOSED_STEPS + 1, *rows.shape))
        forecast = forecast.at[:, X].add(times * rows[VX]).at[:, Y].add(times * rows[VY])
        # Slot 0 is nobody.
        forecast = forecast.at[:, VALID, 0].set(0.0)
        lights = jnp.broadcast_to(
            scene.lights_at(state.step), (PROPOSED_STEPS + 1, scene.bank.light_state.shape[2])
        )
        return _scored(scene.bank, scene.idx, state.ego, past, candidates, forecast, lights)

    def _totals(self, score: PdmScore) -> jax.Array:
        """What proposals are compared by; what the map does not tell is taken as fulfilled."""
        multiplier = score.no_at_fault_collisions * jnp.nan_to_num(score.drivable_area_compliance, nan=1.0)
        made = multiplier * score.progress
        middle = (jnp.abs(jnp.asarray(self.offsets)) < 0.5).repeat(len(self.fractions))
        weighted = (
            _PROGRESS * made / jnp.maximum(made.max(), 1.0)
            + _CLEARANCE * score.time_to_collision
            + _COMFORT * score.comfort
            + _MIDDLE * middle
        )
        return (multiplier + _TIE) * weighted

    def _brake(self, speed: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Places [m] and speeds [m/s] ``[41]`` of an emergency brake."""
        times = STEP * jnp.arange(PROPOSED_STEPS + 1, dtype=jnp.float32)
        speeds = jnp.maximum(speed - self.brake_deceleration * times, 0.0)
        gone = 0.5 * STEP * (speeds[1:] + speeds[:-1])
        return jnp.concatenate([jnp.zeros(1), jnp.cumsum(gone)]), speeds


def _scored(bank, idx, ego, past, candidates, agents, lights) -> PdmScore:
    """Scores of proposals. The scorer skips what is far away, which works one scene at a time only: on a CPU,
    scenes of a batch therefore wait for each other."""

    def one(bank, idx, ego, past, candidates, agents, lights):
        scene = Scene(bank, idx)
        return score_candidates(_SCORING, scene, ego, past, candidates, agents, lights, jnp.float32(jnp.nan))

    if jax.default_backend() == "cpu":
        one = jax.custom_batching.sequential_vmap(one)
    return one(bank, idx, ego, past, candidates, agents, lights)


def reference_progress(
    policy: PdmClosed, scene: Scene, start: jax.Array, key: jax.Array, config: PdmConfig = _SCORING
) -> jax.Array:
    """Progress [m] that PDM-Closed's proposal makes from a step of the log on: the standard of ego progress.

    The proposal is scored against the log; where it fails a multiplier of PDMS its progress counts for nothing, as
    in NAVSIM.

    Args:
        policy: whose proposal it is.
        scene: scene.
        start: int32, step of the log.
        key: random key.
        config: of the scorer that the progress is for.
    """
    state = init(SimConfig(), agents_of("log"), scene, start, key)
    candidate = policy.propose(scene, state, key)
    steps = jnp.minimum(start + jnp.arange(PROPOSED_STEPS + 1), scene.bank.num_steps[scene.idx] - 1)
    agents, lights = scene.bank.tracks[scene.idx, steps], scene.bank.light_state[scene.idx, steps]
    score = score_candidates(
        config, scene, state.ego, jnp.zeros((0, 4)), candidate[None], agents, lights, jnp.float32(jnp.nan)
    )
    multiplier = score.no_at_fault_collisions * jnp.nan_to_num(score.drivable_area_compliance, nan=1.0)
    return (score.progress * multiplier)[0]
