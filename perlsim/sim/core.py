"""`init` and `step` of one scene: pure functions that callers vmap and scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import COS, PATH_SPACING, SIN, STEP, VALID, VX, VY, Scene, X, Y, Z
from perlsim.geometry.boxes import Box
from perlsim.geometry.numerics import safe_norm, wrap_angle
from perlsim.sim.agents import AgentModel, EgoFuture
from perlsim.sim.control import control, controller_of, point_on_path, project_on_path
from perlsim.sim.outcomes import bits, contact_outcome, overlapping, road_outcome, stop_line_events
from perlsim.sim.types import TERMINAL, Event, Outcome, Plan, Pose, SimState, has
from perlsim.sim.vehicle import PHYSICS_STEP, Vehicle, carla_vehicle, drive, logged_vehicle

SUBSTEPS = round(STEP / PHYSICS_STEP)
# Bench2Drive: slower than this [m/s] for this long [s] is blocked; so far from the route [m] is off it.
BLOCKED_SPEED, BLOCKED_TIME = 0.1, 60.0
OFF_ROUTE_DISTANCE = 30.0
# The log's end counts as reached within this distance along the route [m, S].
GOAL_TOLERANCE = 1.0
# RAD's limits of deviation from the logged ego [m, rad].
DEVIATION_LIMIT, TURN_LIMIT = 2.0, 0.6981317
# Points of the route looked at in a step: enough for 6 m, 60 m/s.
_ROUTE_WINDOW = 8


@dataclass(frozen=True)
class SimConfig:
    """Choices of a simulation; hashable, so a compiled program belongs to one of them.

    Attributes:
        controller: name in `perlsim.sim.control.CONTROLLERS`.
        vehicle: "log" for the chassis of the log's ego, "carla" for CARLA's fitted car.
        past_steps: steps of 0.1 s that a state remembers, for observations with history.
    """

    controller: str = "bench2drive"
    vehicle: str = "log"
    past_steps: int = 0


def ego_vehicle(config: SimConfig, scene: Scene) -> Vehicle:
    """The vehicle that the ego drives."""
    if config.vehicle == "carla":
        return carla_vehicle()
    chassis = scene.bank.chassis[scene.idx]
    return logged_vehicle(chassis[0], chassis[1], chassis[2])


def logged_pose(scene: Scene, step: jax.Array) -> Pose:
    """Pose of the log's ego at a step."""
    row = scene.agents_at(step)[:, 0]
    speed = jnp.maximum(row[VX] * row[COS] + row[VY] * row[SIN], 0.0)
    return Pose(row[X], row[Y], row[Z], jnp.arctan2(row[SIN], row[COS]), row[COS], row[SIN], speed)


def init(
    config: SimConfig,
    agents: AgentModel,
    scene: Scene,
    start: jax.Array,
    key: jax.Array,
    ego: Pose | None = None,
) -> SimState:
    """The state of an episode that begins at a step of the log.

    Args:
        config: choices.
        agents: model of the other road users.
        scene: scenario.
        start: int32, step of the log.
        key: random key of the episode.
        ego: where the ego begins; where the log has it by default.
    """
    key, agent_key = jax.random.split(key)
    start = jnp.asarray(start, jnp.int32)
    ego = logged_pose(scene, start) if ego is None else ego
    rows = scene.agents_at(start)
    sizes = scene.bank.boxes[scene.idx]
    own = Box(ego.x, ego.y, ego.cos, ego.sin, sizes[0, 0], sizes[1, 0])
    overlaps = overlapping(rows, scene.agent_boxes(rows), own, ego.z, 0)
    zero, nothing = jnp.float32(0.0), jnp.int32(0)
    return SimState(
        ego=ego,
        control=controller_of(config.controller).memory(),
        agents=rows,
        past=logged_past(scene, start - jnp.arange(0 if agents.replays_log else config.past_steps, 0, -1)),
        memory=agents.init(scene, start, agent_key),
        collided=overlaps,
        events=nothing,
        happened=nothing,
        step=start,
        plan_age=nothing,
        route_arc=_nearest_route_arc(scene, ego),
        since_stop=zero,
        standing=zero,
        done=jnp.bool_(False),
        key=key,
        past_is_logged=agents.replays_log,
    )


def step(
    config: SimConfig, agents: AgentModel, scene: Scene, state: SimState, plan: Plan
) -> tuple[SimState, Outcome]:
    """Moves one scene by 0.1 s along the plan in force.

    An episode that is done goes on moving; its outcomes are for the caller to mask.
    """
    ego, memory_control = _drive(config, agents, scene, state, plan)
    # Keyed by step, not by a chain of splits: what a model draws does not depend on who else drew before.
    agent_key = jax.random.fold_in(state.key, state.step)
    future = EgoFuture(5 * (ego.x - state.ego.x), 5 * (ego.y - state.ego.y))
    memory, rows = agents.act(state.memory, scene, state, future, agent_key)
    sizes = scene.bank.boxes[scene.idx]
    half_length, half_width = sizes[0, 0], sizes[1, 0]
    road = road_outcome(scene, ego, half_length, half_width)
    ego = ego._replace(z=road.z)
    exposed = road.over_line | has(road.events, Event.OFF_ROAD)
    contact = contact_outcome(scene, rows, ego, half_length, half_width, 0, state.collided, exposed)
    lights = scene.lights_at(state.step + 1)
    lines = stop_line_events(scene, lights, state.ego, ego, half_length, state.since_stop)
    route_arc, route_distance = follow_route(scene, ego, state.route_arc)
    stands = ego.speed < BLOCKED_SPEED
    standing = jnp.where(stands, state.standing + STEP, 0.0)
    moved = safe_norm(ego.x - state.ego.x, ego.y - state.ego.y)
    log_ended = state.step + 1 >= scene.bank.num_steps[scene.idx] - 1
    finite = jnp.isfinite(ego.x + ego.y + ego.heading + ego.speed)
    log_distance, log_turn = _against_log(scene, ego, state.step + 1)
    events = (
        road.events
        | bits(log_distance > DEVIATION_LIMIT, Event.DEVIATED)
        | bits(log_turn > TURN_LIMIT, Event.TURNED_AWAY)
        | contact.events
        | lines
        | bits(standing >= BLOCKED_TIME, Event.BLOCKED)
        | bits(route_distance > OFF_ROUTE_DISTANCE, Event.OFF_ROUTE)
        | bits(route_arc >= scene.bank.goal_arc[scene.idx] - GOAL_TOLERANCE, Event.FINISHED)
        | bits(log_ended, Event.LOG_ENDED)
        | bits(~finite, Event.NON_FINITE)
    )
    terminated = has(events, TERMINAL) & ~state.done
    outcome = Outcome(
        events=events,
        begun=events & ~state.events,
        hit_agent=contact.hit_agent,
        progress=route_arc - state.route_arc,
        log_distance=log_distance,
        log_heading_error=log_turn,
        terminated=terminated,
        truncated=log_ended & ~terminated & ~state.done,
    )
    following = SimState(
        ego=ego,
        control=memory_control,
        agents=rows,
        past=_remember(state),
        memory=memory,
        collided=state.collided | contact.overlaps,
        events=events,
        happened=state.happened | events,
        step=state.step + 1,
        plan_age=state.plan_age + 1,
        route_arc=route_arc,
        since_stop=jnp.where(stands, 0.0, state.since_stop + moved),
        standing=standing,
        done=state.done | terminated,
        key=state.key,
        past_is_logged=state.past_is_logged,
    )
    return following, outcome


def halfway(
    config: SimConfig, scene: Scene, state: SimState, plan: Plan, agents: AgentModel | None = None
) -> Pose:
    """The ego after the first physics step of the two that `step` makes of 0.1 s; its z is that of the state."""
    pose, _ = _drive(config, agents, scene, state, plan, 1)
    return pose


def _drive(
    config: SimConfig,
    agents: AgentModel | None,
    scene: Scene,
    state: SimState,
    plan: Plan,
    substeps: int = SUBSTEPS,
) -> tuple[Pose, Any]:
    """The ego after some physics steps, and the controllers' memory.

    A model of road users may also have ``disturbed(scene, state, controls) -> controls``: what lies on the road, and
    puts the ego's controls off.
    """
    disturbed = getattr(agents, "disturbed", None)
    controller, vehicle = controller_of(config.controller), ego_vehicle(config, scene)
    last = plan.target_speed.shape[0] - 1
    target_speed = plan.target_speed[jnp.minimum(state.plan_age, last)]

    def physics(carry, _):
        pose, memory = carry
        controls, memory = control(controller, memory, pose, plan, target_speed)
        if disturbed is not None:
            controls = disturbed(scene, state, controls)
        return (drive(pose, controls, vehicle), memory), None

    # A loop, not unrolled: it keeps physics and outcomes in kernels of their own, which compile and run faster.
    (pose, memory), _ = lax.scan(physics, (state.ego, state.control), None, length=substeps)
    return pose, memory


def logged_past(scene: Scene, steps: jax.Array) -> jax.Array:
    """Road users at some steps of the log, ``[len(steps), 4, A]`` as in `SimState.past`; before it nobody is there."""
    rows = scene.bank.tracks[scene.idx, jnp.clip(steps, 0, scene.bank.num_steps[scene.idx] - 1)]
    known = (rows[:, VALID] > 0) & (steps[:, None] >= 0)
    return jnp.stack([rows[:, X], rows[:, Y], rows[:, COS] * known, rows[:, SIN] * known], 1)


def _remember(state: SimState) -> jax.Array:
    """The past with the present added, newest last."""
    if not state.past.shape[0]:
        return state.past
    rows = with_ego(state)
    known = rows[VALID]
    now = jnp.stack([rows[X], rows[Y], rows[COS] * known, rows[SIN] * known])
    return jnp.concatenate([state.past[1:], now[None]])


def with_ego(state: SimState) -> jax.Array:
    """Road users ``[8, A]`` with the simulated ego in slot 0."""
    ego = state.ego
    own = jnp.stack(
        [ego.x, ego.y, ego.z, ego.cos, ego.sin, ego.speed * ego.cos, ego.speed * ego.sin, jnp.float32(1.0)]
    )
    return jnp.where(jnp.arange(state.agents.shape[1]) == 0, own[:, None], state.agents)


def follow_route(scene: Scene, ego: Pose, arc: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Arc on the route [m], searched near the last one, and distance from the route [m]."""
    route = scene.bank.route
    window = min(_ROUTE_WINDOW, route.shape[1])
    first = jnp.clip(jnp.floor(arc / PATH_SPACING).astype(jnp.int32) - 1, 0, route.shape[1] - window)
    points = lax.dynamic_slice(route, (scene.idx, first, jnp.int32(0)), (1, window, 2))[0]
    place = project_on_path(points, PATH_SPACING, ego.x, ego.y)
    near_x, near_y = point_on_path(points, place)
    return (first + place) * PATH_SPACING, safe_norm(ego.x - near_x, ego.y - near_y)


def _nearest_route_arc(scene: Scene, ego: Pose) -> jax.Array:
    """Arc of the route's point nearest to the ego [m]."""
    route = scene.bank.route[scene.idx]
    squared = (route[:, 0] - ego.x) ** 2 + (route[:, 1] - ego.y) ** 2
    return jnp.argmin(squared).astype(jnp.float32) * PATH_SPACING


def _against_log(scene: Scene, ego: Pose, step_idx: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Distance [m] and angle [rad] from the logged ego; 0 where it is unknown."""
    bank = scene.bank
    row = bank.tracks[scene.idx, jnp.minimum(step_idx, bank.num_steps[scene.idx] - 1), :, 0]
    valid = row[VALID] > 0
    turn = jnp.abs(wrap_angle(ego.heading - jnp.arctan2(row[SIN], row[COS])))
    return jnp.where(valid, safe_norm(ego.x - row[X], ego.y - row[Y]), 0.0), jnp.where(valid, turn, 0.0)
