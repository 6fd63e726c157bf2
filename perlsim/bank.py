"""Scenarios on the device: padded arrays of one size bucket, and what a step reads from them.

Rows of the tracks are laid out ``[time, feature, agent]``, so that one step of one scenario is one contiguous read
and every feature of all agents is one vector. Agent slot 0 is the ego of the log (invalid where there is none).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.geometry.boxes import Box
from perlsim.geometry.cells import CellTable

# Features of a track row.
X, Y, Z, COS, SIN, VX, VY, VALID = range(8)
# Rows of `ScenarioBank.stop_lines`; a line with half width 0 is padding.
LINE_X, LINE_Y, LINE_COS, LINE_SIN, LINE_HALF_WIDTH, LINE_Z, LINE_IS_SIGN = range(7)
# Columns of segments in the cell tables, after those that every table has. `MARKING_*` and `LANE_CODE` are int32 in
# float32 bits: sets ``1 << MarkingType`` by the side that the line is seen from, and 2 · lane index + in a junction.
MARKING_FROM_LEFT, MARKING_FROM_RIGHT = 6, 7
LANE_HALF_WIDTH, LANE_CODE = 6, 7
# Columns of points of `ScenarioBank.agent_paths`.
PATH_X, PATH_Y, PATH_HEADING, PATH_Z, PATH_LIMIT = range(5)
# Seconds between the steps of a bank (DESIGN: outcomes and agents at 10 Hz).
STEP = 0.1
# Spacing of points of routes and driven paths [m].
PATH_SPACING = 1.0
# Spacing of points of road users' paths [m].
AGENT_PATH_SPACING = 2.0


@dataclass(frozen=True)
class BankInfo:
    """What the host knows about a bank; static, compared by value.

    Attributes:
        scenario_ids: names of the scenarios, in order.
        sources: their formats.
        num_agents: slots for road users, ego included.
        dropped_agents: road users left out by an explicit limit.
        pad_fraction: share of the track slots that hold no road user or no step.
        overflowing_cells: cells of the lookups that hold more than their capacity.
        map_points: points of the maps before simplification, largest scenario.
    """

    scenario_ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    num_agents: int = 0
    dropped_agents: int = 0
    pad_fraction: float = 0.0
    overflowing_cells: int = 0
    map_points: int = 0


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "tracks",
        "boxes",
        "num_steps",
        "has_ego",
        "chassis",
        "log_path",
        "log_arc",
        "log_speed",
        "route",
        "goal_arc",
        "route_limit",
        "route_stops",
        "stop_lines",
        "light_state",
        "has_edges",
        "has_lanes",
        "edges",
        "markings",
        "lanes",
        "lane_pieces",
        "boundary_pieces",
        "agent_paths",
        "agent_arc",
        "agent_stops",
        "agent_reacts",
        "log_events",
        "log_poses",
        "once",
    ],
    meta_fields=[],
)
@dataclass(frozen=True)
class ScenarioBank:
    """Constant arrays of S scenarios; an episode refers to them by index and never copies them.

    Attributes:
        tracks: ``[S, T, 8, A]``: x, y, z [m], cos and sin of the heading, vx, vy [m/s], valid (0 or 1).
        boxes: ``[S, 3, A]``: half length, half width [m], `AgentType`.
        num_steps: int32 ``[S]``, logged steps of each scenario; the rest of T is padding.
        has_ego: bool ``[S]``.
        chassis: ``[S, 3]``: the ego's wheelbase [m], how far its box centre lies ahead of the rear axle [m], its
            acceleration at full throttle [m/s²].
        log_path: ``[S, P, 2]`` m, path driven by the ego of the log, every `PATH_SPACING`, extended straight.
        log_arc: ``[S, T]`` m, where on it the ego was at each step.
        log_speed: ``[S, T]`` m/s, its speed.
        route: ``[S, R, 2]`` m, the ego's route, every `PATH_SPACING`, extended straight.
        goal_arc: ``[S]`` m, arc on the route of the ego's last logged position; infinite if it hardly moved.
        route_limit: ``[S, R]`` m/s, speed limit at each point of the route, NaN unknown.
        route_stops: ``[S, M, 2]``: arc on the route [m] and index of the stop lines that govern it; −1 padding.
        stop_lines: ``[S, 7, L]``: where a light or a stop sign makes traffic stop; see ``LINE_*``.
        light_state: int8 ``[S, T', L]``, `LightState`; of stop signs UNKNOWN. T' is T, or longer where lights are
            known for longer than road users (`perlsim.worlds.suite`).
        has_edges: bool ``[S]``, whether the drivable area is known.
        has_lanes: bool ``[S]``, whether lanes are known.
        edges: lookup of road edges.
        markings: lookup of lane markings; see ``MARKING_*``.
        lanes: lookup of lane centre lines; see ``LANE_*``, half widths in m.
        lane_pieces, boundary_pieces: lookups of what an observation shows of the map; see
            `perlsim.sim.observe`.
        agent_paths: ``[S, A, P, 5]``: x, y [m], heading [rad, without jumps], z [m], desired speed [m/s],
            every `AGENT_PATH_SPACING` of each road user's lane path (`perlsim.agent_paths`). This and the
            next three are of size 1 in a bank built without them.
        agent_arc: ``[S, T, A]`` m, where on its path each was at each step.
        agent_stops: ``[S, A, M, 2]``: arc [m] and index of the stop lines of lights on the path; −1 padding.
        agent_reacts: bool ``[S, A]``, whether a road user follows its path; the others repeat the log.
        log_events: int32 ``[S, T, A]``, what befalls each logged road user at each step without the ego
            (`perlsim.sim.everyone.with_log_events`); of size 1 in a bank without it.
        log_poses: ``[S, T, A, 4]``: x, y [m], cos and sin of the heading of each logged road user, all 0 where it is
            not there: what histories are read from. Of size 1 in a bank without observations.
        once: int32, 1; see `perlsim.sim.kernels`.
    """

    tracks: jax.Array
    boxes: jax.Array
    num_steps: jax.Array
    has_ego: jax.Array
    chassis: jax.Array
    log_path: jax.Array
    log_arc: jax.Array
    log_speed: jax.Array
    route: jax.Array
    goal_arc: jax.Array
    route_limit: jax.Array
    route_stops: jax.Array
    stop_lines: jax.Array
    light_state: jax.Array
    has_edges: jax.Array
    has_lanes: jax.Array
    edges: CellTable
    markings: CellTable
    lanes: CellTable
    lane_pieces: CellTable
    boundary_pieces: CellTable
    agent_paths: jax.Array
    agent_arc: jax.Array
    agent_stops: jax.Array
    agent_reacts: jax.Array
    log_events: jax.Array
    log_poses: jax.Array
    once: jax.Array

    @property
    def has_agent_paths(self) -> bool:
        """Whether the bank holds the paths that reacting road users need."""
        return self.agent_paths.shape[2] > 1

    @property
    def has_log_events(self) -> bool:
        """Whether the bank holds what befalls the logged road users."""
        return self.log_events.shape[1] > 1

    @property
    def has_log_poses(self) -> bool:
        """Whether the bank holds the poses that histories are read from."""
        return self.log_poses.shape[1] > 1

    @property
    def num_scenarios(self) -> int:
        """Number of scenarios, S."""
        return self.tracks.shape[0]

    @property
    def num_agents(self) -> int:
        """Agent slots, A, the ego's included."""
        return self.tracks.shape[3]


class Scene(NamedTuple):
    """One scenario of a bank, by reference: what functions of one scene take.

    Under ``vmap`` the bank is not mapped (``in_axes=None``), only ``idx`` is.
    """

    bank: ScenarioBank
    idx: jax.Array

    def agents_at(self, step: jax.Array) -> jax.Array:
        """Logged road users at a step, ``[8, A]``; after the log's end those of its last step."""
        return self.bank.tracks[self.idx, jnp.minimum(step, self.bank.num_steps[self.idx] - 1)]

    def lights_at(self, step: jax.Array) -> jax.Array:
        """Light states at a step, int8 ``[L]``; after their end those of their last step."""
        return self.bank.light_state[self.idx, jnp.minimum(step, self.bank.light_state.shape[1] - 1)]

    def agent_boxes(self, agents: jax.Array) -> Box:
        """The boxes of road users ``[8, A]``."""
        sizes = self.bank.boxes[self.idx]
        return Box(agents[X], agents[Y], agents[COS], agents[SIN], sizes[0], sizes[1])


@dataclass(frozen=True)
class HostBank:
    """A bank with what only the host needs: names, origins, and where the ego is in the log.

    Attributes:
        bank: the arrays.
        info: facts about them.
        origins: float64 ``[S, 3]``, ``xyz_world = xyz_scenario + origin``.
        first_steps, last_steps: int ``[S]``, range of steps in which the ego is valid.
    """

    bank: ScenarioBank
    info: BankInfo
    origins: object
    first_steps: object
    last_steps: object
