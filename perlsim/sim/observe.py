"""What a road user sees of its scene: fixed-size arrays with masks, all in its own frame.

The same function serves the ego and, in multi-agent simulation, everyone else. Content and sizes are those that
learned planners take (PerlAD: 50 agents, 100 map elements); the defaults hold 32 agents with history and 64 pieces
of lanes.

Frames: x ahead, y left of the observer's box centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import (
    COS,
    LINE_COS,
    LINE_HALF_WIDTH,
    LINE_IS_SIGN,
    LINE_SIN,
    LINE_X,
    LINE_Y,
    PATH_SPACING,
    SIN,
    STEP,
    VALID,
    VX,
    VY,
    Scene,
    X,
    Y,
    Z,
)
from perlsim.geometry.boxes import corners, segment_touches_box
from perlsim.geometry.cells import (
    DIR_X,
    DIR_Y,
    HALF_LENGTH,
    HEIGHT,
    LEVEL_HEIGHT,
    MID_X,
    MID_Y,
    NO_KEY,
    CellTable,
    lookup,
    segments_of_cell,
    sort_key,
)
from perlsim.geometry.numerics import rotate, to_frame
from perlsim.sim.core import logged_past
from perlsim.sim.types import Pose, SimState
from perlsim.vocabulary import AgentType

# Columns of a piece of the map, after its segment's (see `perlsim.geometry.cells`).
PIECE_KIND, PIECE_LIMIT = 6, 7
# Squared distance that stands for "none" [m²].
_FAR = 1e12


@dataclass(frozen=True)
class ObservationConfig:
    """Sizes of an observation; static.

    Attributes:
        num_agents: nearest road users, K.
        history: past frames of each, H.
        history_stride: steps of 0.1 s between those frames.
        num_stop_lines: nearest lights and stop signs.
        route_points: points of the route ahead.
        route_spacing: metres between them, a multiple of `PATH_SPACING`.
        radius: m, farther road users are masked.
        occlusion: whether road users hidden by others are masked.
        latency: steps of 0.1 s by which other road users are seen late: at the place where they were then, as it
            lies from where the observer is now.
    """

    num_agents: int = 32
    history: int = 5
    history_stride: int = 2
    num_stop_lines: int = 8
    route_points: int = 20
    route_spacing: int = 2
    radius: float = 100.0
    occlusion: bool = False
    latency: int = 0

    @property
    def past_steps(self) -> int:
        """Steps that a state has to remember."""
        # A late velocity is a difference of two late positions.
        return self.latency + max(self.history * self.history_stride, int(self.latency > 0))


class Observation(NamedTuple):
    """What one road user sees. Invalid rows are zero.

    Attributes:
        ego: ``[8]``: speed [m/s], length, width [m], wheelbase [m], lateral offset from the route [m], limit of
            speed on the nearest lane [m/s, 0 unknown], cos and sin of the route's heading.
        agents: ``[K, 9]``: x, y [m], cos, sin of the heading, vx, vy [m/s], length, width [m], `AgentType`;
            nearest first.
        agents_valid: bool ``[K]``.
        past: ``[K, H, 4]``: x, y, cos, sin of each at earlier frames, newest first, in the *present* frame.
        past_valid: bool ``[K, H]``.
        lanes: ``[M, 8]``: middle x, y [m], direction x, y, half length [m], height above the observer [m],
            `LaneType` (+ 16 in junctions), speed limit [m/s, 0 unknown].
        lanes_valid: bool ``[M]``.
        boundaries: ``[N, 8]``: as lanes, with `MarkingType` or 16 for a road edge.
        boundaries_valid: bool ``[N]``.
        stop_lines: ``[L, 6]``: x, y [m], cos, sin, half width [m], `LightState` (16 for a stop sign).
        stop_lines_valid: bool ``[L]``.
        route: ``[R, 2]`` m.
    """

    ego: jax.Array
    agents: jax.Array
    agents_valid: jax.Array
    past: jax.Array
    past_valid: jax.Array
    lanes: jax.Array
    lanes_valid: jax.Array
    boundaries: jax.Array
    boundaries_valid: jax.Array
    stop_lines: jax.Array
    stop_lines_valid: jax.Array
    route: jax.Array

    def flat(self) -> jax.Array:
        """All numbers and masks as one float32 vector, for networks that take one."""
        return jnp.concatenate([jnp.ravel(part).astype(jnp.float32) for part in self])


def observe(config: ObservationConfig, scene: Scene, state: SimState) -> Observation:
    """What the ego of a state sees. The state must remember ``config.past_steps`` steps."""
    sizes = scene.bank.boxes[scene.idx]
    ahead = route_ahead(scene, state, config.route_points, config.route_spacing)
    ego = state.ego
    rows, frames = _perceived(config, scene, state)
    seen = observe_from(config, scene, rows, frames, state.step, ego, 0)
    heading = jnp.stack([ahead[1, 0] - ahead[0, 0], ahead[1, 1] - ahead[0, 1]])
    heading = heading * lax.rsqrt(jnp.maximum(heading[0] ** 2 + heading[1] ** 2, 1e-9))
    # The first point is the route's nearest, so its place across the route is the offset.
    offset = heading[1] * ahead[0, 0] - heading[0] * ahead[0, 1]
    own = jnp.stack(
        [
            ego.speed,
            2 * sizes[0, 0],
            2 * sizes[1, 0],
            scene.bank.chassis[scene.idx, 0],
            offset,
            seen.lanes[0, PIECE_LIMIT],
            heading[0],
            heading[1],
        ]
    )
    return seen._replace(ego=own, route=ahead)


def observe_from(
    config: ObservationConfig,
    scene: Scene,
    rows: jax.Array,
    frames: jax.Array | None,
    step: jax.Array,
    pose: Pose,
    slot: jax.Array | int,
) -> Observation:
    """What the road user in a slot sees; without route, ``ego`` holds its speed and size only.

    Args:
        config: sizes.
        scene: the scene.
        rows, frames: road users now and before, as `perceived` gives them; without frames, those before are read
            from the bank's log.
        step: int32, step of the log, for the lights.
        pose: the observer.
        slot: the observer's own slot.
    """
    sizes = scene.bank.boxes[scene.idx]
    idx, valid = nearest_agents(config, scene, rows, pose, slot)
    agents = _agents(rows, sizes, pose, idx, valid)
    if frames is None:
        before, before_valid = _past_in_log(config, scene, step, pose, idx, valid)
    else:
        before, before_valid = _past(frames, pose, idx, valid)
    lanes, lanes_valid = _pieces(scene, scene.bank.lane_pieces, pose)
    boundaries, boundaries_valid = _pieces(scene, scene.bank.boundary_pieces, pose)
    lines, lines_valid = _stop_lines(config, scene, scene.lights_at(step), pose)
    zero = jnp.float32(0.0)
    own = jnp.stack(
        [pose.speed, 2 * sizes[0, slot], 2 * sizes[1, slot], zero, zero, lanes[0, PIECE_LIMIT], zero, zero]
    )
    return Observation(
        ego=own,
        agents=agents,
        agents_valid=valid,
        past=before,
        past_valid=before_valid,
        lanes=lanes,
        lanes_valid=lanes_valid,
        boundaries=boundaries,
        boundaries_valid=boundaries_valid,
        stop_lines=lines,
        stop_lines_valid=lines_valid,
        route=jnp.zeros((config.route_points, 2), jnp.float32),
    )


def perceived(config: ObservationConfig, rows: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Road users as they are seen at this step, after the latency.

    Args:
        config: sizes.
        rows: ``[8, A]`` road users now.
        past: ``[P, 4, A]`` as in `SimState`, P at least ``config.past_steps``.

    Returns:
        Rows ``[8, A]``; frames ``[H, 4, A]``, newest first: x, y, cos, sin, with cos = sin = 0 where invalid.
    """
    if config.latency:
        rows, past = _late(config, rows, past)
    newest = past.shape[0] - config.history_stride
    if newest < config.history_stride * (config.history - 1):
        raise ValueError(f"the state remembers {past.shape[0]} steps, {config.past_steps} are observed")
    return rows, past[newest :: -config.history_stride][: config.history]


def _perceived(
    config: ObservationConfig, scene: Scene, state: SimState
) -> tuple[jax.Array, jax.Array | None]:
    """What `perceived` gives, for the ego of a state; no frames where they are better read from the log."""
    if not state.past_is_logged:
        return perceived(config, state.agents, state.past)
    if scene.bank.has_log_poses and not config.latency:
        return state.agents, None
    past = logged_past(scene, state.step - jnp.arange(config.past_steps, 0, -1))
    return perceived(config, state.agents, past)


def _late(config: ObservationConfig, rows: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Road users and their past as they were ``config.latency`` steps ago."""
    last = past.shape[0] - config.latency
    then, before = past[last], past[last - 1]
    known = (then[2] != 0) | (then[3] != 0)
    moved = (before[2] != 0) | (before[3] != 0)
    vx = jnp.where(moved, (then[0] - before[0]) / STEP, rows[VX])
    vy = jnp.where(moved, (then[1] - before[1]) / STEP, rows[VY])
    late = jnp.stack([then[0], then[1], rows[Z], then[2], then[3], vx, vy, known.astype(rows.dtype)])
    return late, past[:last]


def nearest_agents(config, scene: Scene, rows, pose: Pose, slot) -> tuple[jax.Array, jax.Array]:
    """Slots of the road users that an observer in a slot sees, nearest first ``[K]``, and whether there is one."""
    dx, dy = rows[X] - pose.x, rows[Y] - pose.y
    squared = dx * dx + dy * dy
    slots = jnp.arange(rows.shape[1])
    seen = (rows[VALID] > 0) & (slots != slot) & (squared < config.radius**2)
    if config.occlusion:
        seen &= ~hidden(scene, rows, pose, slot)
    # Rank by counting integers: for tens of road users faster than a sort, and the same on every device.
    key = sort_key(jnp.where(seen, squared, _FAR), slots, (rows.shape[1] - 1).bit_length())
    rank = (key[None, :] < key[:, None]).sum(1)
    count = min(config.num_agents, rows.shape[1])
    chosen = jnp.where(rank[None, :] == jnp.arange(count)[:, None], slots, 0).sum(1)
    idx = jnp.pad(chosen, (0, config.num_agents - count))
    return idx, seen[idx] & (jnp.arange(config.num_agents) < count)


def _agents(rows, sizes, pose: Pose, idx, valid) -> jax.Array:
    """The chosen road users in the observer's frame."""
    x, y = to_frame(rows[X], rows[Y], pose.x, pose.y, pose.cos, pose.sin)
    cos, sin = rotate(rows[COS], rows[SIN], pose.cos, -pose.sin)
    vx, vy = rotate(rows[VX], rows[VY], pose.cos, -pose.sin)
    now = jnp.stack([x, y, cos, sin, vx, vy, 2 * sizes[0], 2 * sizes[1], sizes[2]])
    return jnp.where(valid[:, None], now[:, idx].T, 0.0)


def _past(frames, pose: Pose, idx, valid) -> tuple[jax.Array, jax.Array]:
    """The past of the chosen road users in the observer's frame, and where they were there."""
    x, y = to_frame(frames[:, 0], frames[:, 1], pose.x, pose.y, pose.cos, pose.sin)
    cos, sin = rotate(frames[:, 2], frames[:, 3], pose.cos, -pose.sin)
    known = (frames[:, 2] != 0) | (frames[:, 3] != 0)
    before = jnp.stack([x, y, cos, sin], 1)[:, :, idx]
    before_valid = known[:, idx].T & valid[:, None]
    return jnp.where(before_valid[..., None], before.transpose(2, 0, 1), 0.0), before_valid


def _past_in_log(config, scene: Scene, step, pose: Pose, idx, valid) -> tuple[jax.Array, jax.Array]:
    """What `_past` gives where the road users repeat the log: read for the chosen ones alone."""
    steps = step - config.history_stride * jnp.arange(1, config.history + 1)
    kept = jnp.clip(steps, 0, scene.bank.num_steps[scene.idx] - 1)
    poses = scene.bank.log_poses[scene.idx, kept[None, :], idx[:, None]]
    known = ((poses[..., 2] != 0) | (poses[..., 3] != 0)) & (steps >= 0) & valid[:, None]
    # Columns stay interleaved: x' = x·cos + y·sin, y' = y·cos − x·sin, and the same of cos and sin.
    swapped = poses.reshape(*poses.shape[:-1], 2, 2)[..., ::-1].reshape(poses.shape)
    here = jnp.stack([pose.x, pose.y, jnp.float32(0.0), jnp.float32(0.0)])
    there = jnp.stack([pose.y, pose.x, jnp.float32(0.0), jnp.float32(0.0)])
    across = jnp.stack([pose.sin, -pose.sin, pose.sin, -pose.sin])
    before = (poses - here) * pose.cos + (swapped - there) * across
    return jnp.where(known[..., None], before, 0.0), known


def _pieces(scene: Scene, table: CellTable, pose: Pose) -> tuple[jax.Array, jax.Array]:
    """The pieces of the map nearest to the middle of the observer's cell."""
    cell = lookup(table, scene.idx, pose.x, pose.y)
    columns, own = segments_of_cell(table, cell)
    x, y = to_frame(columns[MID_X], columns[MID_Y], pose.x, pose.y, pose.cos, pose.sin)
    dir_x, dir_y = rotate(columns[DIR_X], columns[DIR_Y], pose.cos, -pose.sin)
    height = columns[HEIGHT] - pose.z
    valid = own & (jnp.abs(height) < LEVEL_HEIGHT)
    seen = jnp.stack(
        [x, y, dir_x, dir_y, columns[HALF_LENGTH], height, columns[PIECE_KIND], columns[PIECE_LIMIT]], -1
    )
    return jnp.where(valid[..., None], seen, 0.0).reshape(table.capacity, -1), valid.reshape(-1)


def _stop_lines(config, scene: Scene, lights, pose: Pose) -> tuple[jax.Array, jax.Array]:
    """The nearest stop lines and their lights."""
    lines = scene.bank.stop_lines[scene.idx]
    x, y = to_frame(lines[LINE_X], lines[LINE_Y], pose.x, pose.y, pose.cos, pose.sin)
    cos, sin = rotate(lines[LINE_COS], lines[LINE_SIN], pose.cos, -pose.sin)
    state = jnp.where(lines[LINE_IS_SIGN] > 0, 16.0, lights.astype(jnp.float32))
    columns = jnp.stack([x, y, cos, sin, lines[LINE_HALF_WIDTH], state], 1)
    squared = jnp.where(lines[LINE_HALF_WIDTH] > 0, x * x + y * y, _FAR)
    count = min(config.num_stop_lines, columns.shape[0])
    low_bits = max(1, (columns.shape[0] - 1).bit_length())
    keys = sort_key(squared, jnp.arange(columns.shape[0]), low_bits)
    # One minimum of integers after the other: for a few of tens faster than a sort. In rows of 32, since XLA takes
    # longer ones in two goes.
    keys = jnp.pad(keys, (0, -keys.shape[0] % 32), constant_values=NO_KEY).reshape(-1, 32)
    nearest = [keys.min()]
    for _ in range(count - 1):
        nearest.append(jnp.where(keys > nearest[-1], keys, NO_KEY).min())
    nearest = jnp.stack(nearest)
    idx = nearest & ((1 << low_bits) - 1)
    valid = squared[idx] < config.radius**2
    columns = jnp.pad(columns[idx], ((0, config.num_stop_lines - count), (0, 0)))
    valid = jnp.pad(valid, (0, config.num_stop_lines - count))
    return jnp.where(valid[:, None], columns, 0.0), valid


def route_ahead(scene: Scene, state: SimState, num_points: int, spacing: int) -> jax.Array:
    """Points of the route from the nearest one on, in the ego frame ``[num_points, 2]``, every ``spacing`` m."""
    route = scene.bank.route
    stride = max(1, round(spacing / PATH_SPACING))
    size = min(stride * (num_points - 1) + 1, route.shape[1])
    first = jnp.clip(jnp.floor(state.route_arc / PATH_SPACING).astype(jnp.int32), 0, route.shape[1] - size)
    points = lax.dynamic_slice(route, (scene.idx, first, jnp.int32(0)), (1, size, 2))[0, ::stride]
    points = jnp.pad(points, ((0, num_points - points.shape[0]), (0, 0)), mode="edge")
    ego = state.ego
    x, y = to_frame(points[:, 0], points[:, 1], ego.x, ego.y, ego.cos, ego.sin)
    return jnp.stack([x, y], 1)


def hidden(scene: Scene, rows: jax.Array, pose: Pose, slot: jax.Array | int) -> jax.Array:
    """Which road users the observer cannot see because others stand in the way, bool ``[A]``.

    A road user is hidden when the lines of sight to its centre and its four corners all cross the boxes of other
    road users. Pedestrians and cyclists hide nobody.
    """
    boxes = scene.agent_boxes(rows)
    kind = scene.bank.boxes[scene.idx, 2]
    slots = jnp.arange(rows.shape[1])
    opaque = (
        (rows[VALID] > 0) & (slots != slot) & ~((kind == AgentType.PEDESTRIAN) | (kind == AgentType.CYCLIST))
    )
    targets = [(boxes.x, boxes.y), *corners(boxes)]

    def crossed(x: jax.Array, y: jax.Array) -> jax.Array:
        """Whether something blocks the line to each target, ``[A]``."""
        half_x, half_y = 0.5 * (x - pose.x), 0.5 * (y - pose.y)
        blocks = segment_touches_box(
            (pose.x + half_x)[:, None], (pose.y + half_y)[:, None], half_x[:, None], half_y[:, None], boxes
        )
        return (blocks & opaque[None, :] & (slots[:, None] != slots[None, :])).any(1)

    result = jnp.ones(rows.shape[1], bool)
    for x, y in targets:
        result &= crossed(x, y)
    return result
