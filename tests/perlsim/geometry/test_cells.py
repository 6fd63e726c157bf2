"""Lookups of the road against brute force over the map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shapely
from road_oracle import MARGIN, RoadOracle, footprint

from perlsim import backend
from perlsim.bank import Scene
from perlsim.bank_build import build_bank
from perlsim.geometry.cell_build import Grid, fill_cells, join_tables, mark_drivable, segments_of
from perlsim.geometry.cells import BLOCK, OUTSIDE_GRID, OVERFLOW, signed_edge_distance
from perlsim.readers import ReadOptions, guess_format
from perlsim.readers.synthetic import generate
from perlsim.scenario import Ragged
from perlsim.sim.outcomes import road_outcome
from perlsim.sim.types import Event, Pose
from perlsim.vocabulary import MarkingType as M

backend.setup(2)
EVENT_OF = {
    Event.CROSSES_BROKEN: {M.BROKEN, M.DOUBLE_BROKEN},
    Event.CROSSES_SOLID: {M.SOLID},
    Event.CROSSES_DOUBLE_SOLID: {M.DOUBLE_SOLID},
}
ONE_SIDED = {M.SOLID_BROKEN, M.BROKEN_SOLID}
POSES = 250


def poses_along(scenario, seed=0):
    """Poses near the lanes where the ego drives: x, y, z, heading ``[POSES]``."""
    random = np.random.default_rng(seed)
    ego = scenario.tracks.position[scenario.ego.idx][scenario.tracks.valid[scenario.ego.idx]]
    points = scenario.road.lanes.centre.values.astype(float)
    near = shapely.distance(shapely.points(points[:, :2]), shapely.LineString(ego[:, :2] + [[0, 0]])) < 25
    chosen = points[random.choice(np.flatnonzero(near), POSES)]
    place = chosen[:, :2] + random.normal(0, 3, (POSES, 2))
    heading = random.uniform(-np.pi, np.pi, POSES)
    return np.column_stack([place, chosen[:, 2], heading]).astype(np.float32)


@functools.cache
def program():
    def outcome(bank, idx, pose):
        x, y, z, heading = pose
        cos, sin = jnp.cos(heading), jnp.sin(heading)
        half = bank.boxes[idx, :2, 0]
        return road_outcome(
            Scene(bank, idx), Pose(x, y, z, heading, cos, sin, jnp.float32(0)), half[0], half[1]
        )

    return jax.jit(jax.vmap(outcome, (None, None, 0)))


def judge(scenario, seed=0):
    """Compares every lookup at `POSES` poses; gives how many of each could be judged."""
    bank = build_bank(
        [scenario.replace(lights=type(scenario.lights)(state=scenario.lights.state[:0]))], max_agents=1
    ).bank
    oracle, poses = RoadOracle(scenario), poses_along(scenario, seed)
    result = jax.tree.map(np.asarray, program()(bank, jnp.int32(0), poses))
    half = bank.boxes[0, :2, 0]
    judged = dict.fromkeys(("off road", "markings", "heights"), 0)
    for pose, events, height in zip(poses, result.events, result.z, strict=True):
        x, y, z, heading = map(float, pose)
        if Event(int(events)) & (Event.LEFT_MAP | Event.LOOKUP_OVERFLOW):
            continue
        shape = footprint(x, y, heading, *half)
        corners = shapely.get_coordinates(shape)[:4]
        distances = np.array([oracle.edge_distance(*corner, z) for corner in corners])
        if (np.abs(distances) > MARGIN).all():
            judged["off road"] += 1
            assert bool(events & int(Event.OFF_ROAD)) == bool((distances < 0).any()), (pose, distances)
        surely, maybe = oracle.touched(shape, z, -MARGIN), oracle.touched(shape, z, MARGIN)
        for event, kinds in EVENT_OF.items():
            if surely & kinds or not maybe & (kinds | ONE_SIDED):
                judged["markings"] += 1
                assert bool(events & int(event)) == bool(surely & kinds), (pose, event)
        heights = oracle.nearest_lane_heights(x, y, z)
        # Farther from every lane than the lookup reaches, the height is kept. Heights tell levels 3 m apart:
        # that of a segment thinned from several is their mean.
        if np.isfinite(heights).all() and np.abs(height - z) > 1e-6:
            judged["heights"] += 1
            assert np.abs(heights - height).min() < 0.3, (pose, heights, height)
    return judged


@pytest.mark.parametrize("family", ["parked_street", "roundabout", "signalised_junction"])
def test_lookups_on_made_up_maps_equal_brute_force(family):
    judged = judge(next(generate(1, 2, [family], duration=3.0)))
    assert judged["off road"] > 0.9 * POSES
    assert judged["markings"] > 2 * POSES


REAL = {
    "waymo": "logs/scenarionet/*.pkl",
    "argoverse": "logs/av2_sensor/*",
    "town": "logs/carla_recorder/*.log",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_lookups_on_real_maps_equal_brute_force(name, real_data):
    path = sorted(real_data.glob(REAL[name]))[0]
    options = ReadOptions(maps=real_data / "maps/carla")
    scenario = next(iter(guess_format(path).read(path, options)))
    judged = judge(scenario, seed=1)
    assert judged["markings"] > POSES


def edge_table(edges, low=(-20, -20), high=(20, 20), lanes=None, capacity=16):
    segments = segments_of(Ragged.from_rows(edges, width=3))
    cells = fill_cells(Grid.over(np.array(low, float), np.array(high, float), 2.0), segments, 0.0, capacity)
    mark_drivable(cells, segments, np.zeros((0, 5)) if lanes is None else lanes)
    return jax.device_put(join_tables([cells], -BLOCK * (-capacity // BLOCK)))


def distances(table, points, z=0.0):
    at = jax.jit(jax.vmap(lambda x, y: signed_edge_distance(table, jnp.int32(0), x, y, jnp.float32(z))))
    found, flags = at(*(jnp.asarray(column, jnp.float32) for column in np.asarray(points, float).T))
    return np.asarray(found), np.asarray(flags)


def test_distances_to_edges_that_cross_the_cell_are_exact():
    angles = np.linspace(0, 2 * np.pi, 80)
    ring = np.column_stack([8 * np.cos(angles), 8 * np.sin(angles), np.zeros(80)])
    points = np.random.default_rng(0).uniform(-12, 12, (2000, 2))
    found, _ = distances(edge_table([ring]), points)
    exact = shapely.distance(shapely.LineString(ring[:, :2]), shapely.points(points))
    inside = shapely.contains_xy(shapely.Polygon(ring[:, :2]), *points.T)
    near = np.isfinite(found)
    assert near.sum() > 300
    # Simplification may move an edge by 8 mm, and an edge of a neighbouring cell may be nearer than the own.
    corner = np.minimum(np.mod(points, 2.0), 2.0 - np.mod(points, 2.0)).min(1)
    complete = near & (exact <= corner)
    assert complete.sum() > 50
    np.testing.assert_allclose(np.abs(found)[complete], exact[complete], atol=0.01)
    clear = exact > MARGIN
    np.testing.assert_array_equal(found[clear] > 0, inside[clear])


def test_at_a_shared_vertex_the_farther_line_tells_the_side():
    # A wedge of 10°: beyond its tip both edges end in the nearest vertex.
    tip = np.array([[-10, 1, 0], [0, 0, 0], [-10, -1, 0]], float)[::-1]
    found, _ = distances(edge_table([tip]), [[0.5, 0.02], [0.5, -0.02], [-0.5, 0.0]])
    assert np.sign(found[0]) == np.sign(found[1]) == -np.sign(found[2])


def test_a_full_cell_raises_the_bit_and_points_outside_theirs():
    comb = [np.array([[0.1 * k, -1.0, 0], [0.1 * k, 1.0, 0]]) for k in range(20)]
    table = edge_table(comb, capacity=8)
    _, flags = distances(table, [[1.0, 0.5], [-9.0, 5.0], [50.0, 0.0]])
    assert flags[0] & OVERFLOW
    assert not flags[1] & (OVERFLOW | OUTSIDE_GRID)
    assert flags[2] & OUTSIDE_GRID


def test_edges_of_a_bridge_do_not_bound_the_road_below():
    ground = [np.array([[-20, -6, 0], [20, -6, 0]], float), np.array([[20, 6, 0], [-20, 6, 0]], float)]
    bridge = [np.array([[2, -20, 6], [2, 20, 6]], float), np.array([[-2, 20, 6], [-2, -20, 6]], float)]
    lanes = np.array([[-20, 0, 20, 0, 0], [0, -20, 0, 20, 6]], float)
    table = edge_table(ground + bridge, lanes=lanes)
    x = np.linspace(-19, 19, 77)
    below, _ = distances(table, np.column_stack([x, np.full(77, 0.5)]))
    assert (below > 0).all()
    above, _ = distances(table, np.column_stack([np.full(77, 0.5), x]), z=6.0)
    assert (above > 0).all()
    beside, _ = distances(table, [[2.5, 0.0], [-2.5, 0.5]], z=6.0)
    assert (beside < 0).all()


def test_a_lookup_costs_the_same_on_a_map_of_any_size():
    def flops(length):
        lines = [
            np.column_stack([np.linspace(0, length, length), np.full(length, y), np.zeros(length)])
            for y in (-6, 6)
        ]
        # Bent, so that simplification keeps every point.
        for bent in lines:
            bent[::2, 1] += 0.1
        grid = Grid.over(np.array([-20.0, -20.0]), np.array([length, 20.0]), 2.0)
        segments = segments_of(Ragged.from_rows(lines, width=3))
        table = jax.device_put(join_tables([fill_cells(grid, segments, 0.0, 8)], 8))
        lookup = jax.vmap(lambda x, y: signed_edge_distance(table, jnp.int32(0), x, y, jnp.float32(0)))
        shape = jax.ShapeDtypeStruct((64,), jnp.float32)
        return jax.jit(lookup).lower(shape, shape).cost_analysis()["flops"], table.segments.shape[0]

    (small, few), (large, many) = flops(500), flops(10_000)
    assert many > 15 * few
    assert large == small
