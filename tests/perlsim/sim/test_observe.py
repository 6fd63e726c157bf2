"""What the ego sees, against the logs themselves."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shapely
from made_scenes import CAR, line, mover, scene
from test_rollout import moved

from perlsim.bank import COS, SIN, VALID, Scene, X, Y
from perlsim.bank_build import build_bank
from perlsim.geometry.numerics import wrap_angle
from perlsim.readers.synthetic import generate
from perlsim.road_tables import PIECE_REACH, PIECE_TOLERANCE
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init, logged_pose, step
from perlsim.sim.observe import ObservationConfig, hidden, observe
from perlsim.sim.types import Plan
from perlsim.vocabulary import AgentType, LightState

CONFIG = ObservationConfig(num_agents=8)
TRUCK = (9.0, 2.6, 3.5)
ROUND, JUNCTION, MOVED, SHUFFLED, BESIDE, HIDING = range(6)
STEPS = (0, 7, 25)


def shuffled(scenario):
    """The road users in reverse order."""
    tracks = scenario.tracks
    order = np.arange(tracks.num_agents)[::-1]
    names = [f.name for f in dataclasses.fields(tracks) if f.name != "ids"]
    rows = {name: getattr(tracks, name)[order] for name in names}
    tracks = dataclasses.replace(tracks, ids=tuple(tracks.ids[k] for k in order), **rows)
    idx = tracks.num_agents - 1 - scenario.ego.idx
    return scenario.replace(tracks=tracks, ego=dataclasses.replace(scenario.ego, idx=idx))


@functools.cache
def logs():
    round_ = next(iter(generate(1, 3, ["roundabout"], duration=3.0)))
    junction = next(iter(generate(1, 3, ["signalised_junction"], duration=3.0)))
    person = {"kind": AgentType.PEDESTRIAN, "size": (0.5, 0.5, 1.7)}
    beside = scene("beside", mover(3.3, 1.0, speed=5.0), route=line(0, 0, 100, 0))
    truck = mover(15, 0, size=TRUCK)
    hiding = scene("hiding", mover(), truck, mover(25, 0, **person), mover(20, 9, **person), mover(-9, 0))
    return round_, junction, moved(round_, 2.2, (150.0, -400.0)), shuffled(round_), beside, hiding


@functools.cache
def joined():
    return build_bank(logs())


@functools.partial(jax.jit, static_argnums=0)
def look_all(config, bank, idx, steps):
    def look(idx, step_idx):
        here = Scene(bank, idx)
        sim = SimConfig(past_steps=config.past_steps)
        return observe(config, here, init(sim, LogAgents(), here, step_idx, jax.random.key(0)))

    return jax.vmap(look)(idx, steps)


@functools.cache
def seen(config=CONFIG, alone=False):
    """Observations of the logged ego in all scenes ``[6, 3, …]``, or in the first in a bank of its own."""
    host = build_bank(logs()[:1], max_agents=20) if alone else joined()
    count = host.bank.num_scenarios
    idx, steps = np.repeat(np.arange(count), len(STEPS)), np.tile(STEPS, count)
    result = look_all(config, host.bank, jnp.asarray(idx, jnp.int32), jnp.asarray(steps, jnp.int32))
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(count, len(STEPS), *leaf.shape[1:]), result)


def at(tree, *where):
    return jax.tree.map(lambda leaf: leaf[where], tree)


def ego_frame(scenario, step_idx, points):
    """Points ``[..., 2]`` of the scenario frame in that of the logged ego."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    heading = float(tracks.heading[ego, step_idx])
    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    return (np.asarray(points, float) - tracks.position[ego, step_idx, :2]) @ turn


def nearest(scenario, step_idx, radius=CONFIG.radius):
    """Road users that are there, nearest to the ego first."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    distance = np.hypot(*(tracks.position[:, step_idx] - tracks.position[ego, step_idx])[:, :2].T)
    there = tracks.valid[:, step_idx] & (distance < radius) & (np.arange(tracks.num_agents) != ego)
    return [k for k in np.argsort(distance) if there[k]][: CONFIG.num_agents]


WHERE = [(idx, k) for idx in (ROUND, JUNCTION, MOVED) for k in range(len(STEPS))]


@pytest.mark.parametrize(("idx", "k"), WHERE)
def test_the_nearest_road_users_are_seen_in_the_ego_frame_nearest_first(idx, k):
    scenario, now, view = logs()[idx], STEPS[k], at(seen(), idx, k)
    tracks, who = scenario.tracks, nearest(scenario, STEPS[k])
    assert view.agents_valid.sum() == len(who) > 0
    rows = view.agents[view.agents_valid]
    heading = tracks.heading[who, now] - tracks.heading[scenario.ego.idx, now]
    here = tracks.position[scenario.ego.idx, now, :2]
    velocity = ego_frame(scenario, now, tracks.velocity[who, now] + here)
    np.testing.assert_allclose(
        rows[:, :2], ego_frame(scenario, now, tracks.position[who, now, :2]), atol=2e-3
    )
    np.testing.assert_allclose(rows[:, 2:4].T, [np.cos(heading), np.sin(heading)], atol=1e-4)
    np.testing.assert_allclose(rows[:, 4:6], velocity, atol=1e-3)
    np.testing.assert_allclose(rows[:, 6:8], tracks.size[who, :2], atol=1e-5)
    np.testing.assert_array_equal(rows[:, 8], tracks.kind[who])
    assert (view.agents[~view.agents_valid] == 0).all()


@pytest.mark.parametrize(("idx", "k"), WHERE)
def test_the_past_is_the_logs_in_the_frame_of_now(idx, k):
    scenario, now, view = logs()[idx], STEPS[k], at(seen(), idx, k)
    tracks, who = scenario.tracks, nearest(scenario, now)
    for frame in range(CONFIG.history):
        then = now - CONFIG.history_stride * (frame + 1)
        valid = tracks.valid[who, then] if then >= 0 else np.zeros(len(who), bool)
        np.testing.assert_array_equal(view.past_valid[: len(who), frame], valid)
        assert (view.past[: len(who), frame][~valid] == 0).all()
        assert (view.past[len(who) :, frame] == 0).all()
        if valid.any():
            place = ego_frame(scenario, now, tracks.position[who, then, :2])
            np.testing.assert_allclose(view.past[: len(who), frame, :2][valid], place[valid], atol=2e-3)
            turn = tracks.heading[who, then] - tracks.heading[scenario.ego.idx, now]
            np.testing.assert_allclose(view.past[: len(who), frame, 2][valid], np.cos(turn[valid]), atol=1e-4)


def test_a_scene_that_is_turned_and_shifted_looks_the_same():
    original, turned = at(seen(), ROUND), at(seen(), MOVED)
    for name in ("ego", "agents", "agents_valid", "past", "past_valid", "stop_lines", "route"):
        np.testing.assert_allclose(getattr(turned, name), getattr(original, name), atol=1e-3, err_msg=name)


def test_the_order_in_which_road_users_are_listed_does_not_matter():
    jax.tree.map(np.testing.assert_array_equal, at(seen(), SHUFFLED), at(seen(), ROUND))


def test_padding_does_not_matter():
    assert joined().info.num_agents > 20 > logs()[ROUND].tracks.num_agents
    first, second = at(seen(alone=True), 0)._asdict(), at(seen(), ROUND)._asdict()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=1e-5, err_msg=name)


def pieces_as_lines(rows):
    ends = [rows[:, :2] - rows[:, 2:4] * rows[:, 4:5], rows[:, :2] + rows[:, 2:4] * rows[:, 4:5]]
    return shapely.linestrings(np.stack(ends, 1))


@pytest.mark.parametrize(("idx", "k"), [(ROUND, 0), (JUNCTION, 0), (JUNCTION, 2), (MOVED, 1)])
@pytest.mark.parametrize("part", ["lanes", "boundaries"])
def test_the_nearest_pieces_of_the_map_are_seen(idx, k, part):
    scenario, view = logs()[idx], at(seen(), idx, k)
    road = scenario.road
    lines = road.lanes.centre.rows() if part == "lanes" else road.markings.line.rows() + road.edges.rows()
    whole = shapely.MultiLineString([ego_frame(scenario, STEPS[k], row[:, :2]) for row in lines])
    valid = getattr(view, f"{part}_valid")
    rows = getattr(view, part)[valid]
    pieces = pieces_as_lines(rows)
    assert len(rows) > 10
    # Nothing is seen that is not there.
    along = shapely.line_interpolate_point(pieces[:, None], np.linspace(0, 1, 5), normalized=True)
    assert shapely.distance(along, whole).max() < PIECE_TOLERANCE + 0.01
    # Nothing nearer than the farthest that is seen is missing; nearness is that to the middle of the cell.
    table = joined().bank.lane_pieces if part == "lanes" else joined().bank.boundary_pieces
    place = scenario.tracks.position[scenario.ego.idx, STEPS[k], :2]
    cell = np.floor((place - table.origin[idx]) / table.cell_size)
    middle = ego_frame(scenario, STEPS[k], table.origin[idx] + (cell + 0.5) * table.cell_size)
    distance = shapely.distance(shapely.Point(middle), pieces)
    assert (np.diff(distance) > -0.01).all()
    limit = distance.max() if valid.all() else PIECE_REACH
    near = whole.intersection(shapely.Point(middle).buffer(limit - 2 * PIECE_TOLERANCE))
    assert near.length > 10
    assert near.difference(shapely.union_all(pieces).buffer(PIECE_TOLERANCE + 0.01)).length < 0.01


def test_lanes_are_seen_in_driving_direction_with_their_type():
    scenario, view = logs()[JUNCTION], at(seen(), JUNCTION, 0)
    lanes = scenario.road.lanes
    lines = [ego_frame(scenario, 0, row[:, :2]) for row in lanes.centre.rows()]
    for row in view.lanes[view.lanes_valid]:
        ends = row[:2] - row[2:4] * row[4], row[:2] + row[2:4] * row[4]
        fits = [
            k
            for k, points in enumerate(lines)
            if max(shapely.distance(shapely.LineString(points), shapely.Point(end)) for end in ends) < 0.11
            and np.diff(
                [shapely.line_locate_point(shapely.LineString(points), shapely.Point(e)) for e in ends]
            )
            > 0
        ]
        assert any(row[6] == lanes.kind[k] + 16 * lanes.in_junction[k] for k in fits)


def test_stop_lines_are_seen_with_their_lights_nearest_first():
    scenario = logs()[JUNCTION]
    for k, now in enumerate(STEPS):
        view = at(seen(), JUNCTION, k)
        place = ego_frame(scenario, now, scenario.lights.position[:, :2])
        order = np.argsort(np.hypot(*place.T))[: CONFIG.num_stop_lines]
        rows = view.stop_lines[view.stop_lines_valid]
        assert len(rows) == len(order) > 1
        np.testing.assert_allclose(np.hypot(*rows[:, :2].T), np.hypot(*place[order].T), atol=2e-3)
        for row in rows:
            same = np.hypot(*(place - row[:2]).T) < 5e-3
            assert row[5] in scenario.lights.state[same, now]
    assert {int(LightState(int(s))) for s in seen().stop_lines[JUNCTION, ..., 5].ravel()} > {0}


def test_the_route_starts_at_the_ego_and_its_offset_is_positive_to_the_left():
    view = at(seen(), BESIDE, 0)
    np.testing.assert_allclose(view.route[:, 1], -1.0, atol=1e-4)
    np.testing.assert_allclose(np.diff(view.route[:, 0]), CONFIG.route_spacing, atol=1e-4)
    assert -1.0 < view.route[0, 0] <= 0.5
    speed, length, width, wheelbase, offset, _, cos, sin = view.ego
    np.testing.assert_allclose([speed, length, width, wheelbase], [5.0, *CAR[:2], 2.7], atol=1e-5)
    np.testing.assert_allclose([offset, cos, sin], [1.0, 1.0, 0.0], atol=1e-4)


def test_a_truck_hides_the_pedestrian_behind_it_and_not_the_one_beside_it():
    def people(view):
        rows = view.agents[view.agents_valid]
        return {(round(x), round(y)) for x, y, *_, kind in rows if kind == AgentType.PEDESTRIAN}

    assert people(at(seen(), HIDING, 0)) == {(25, 0), (20, 9)}
    occluded = at(seen(dataclasses.replace(CONFIG, occlusion=True)), HIDING, 0)
    assert people(occluded) == {(20, 9)}
    assert occluded.agents_valid.sum() == 3


def test_who_is_hidden_agrees_with_lines_of_sight_in_random_scenes():
    host, scenes = joined(), 60
    sizes = np.asarray(host.bank.boxes[JUNCTION])
    slots = sizes.shape[1]
    random = np.random.default_rng(0)
    rows = np.zeros((scenes, 8, slots), np.float32)
    rows[:, [X, Y]] = random.uniform(-25, 25, (scenes, 2, slots))
    angle = random.uniform(-np.pi, np.pi, (scenes, slots))
    rows[:, COS], rows[:, SIN] = np.cos(angle), np.sin(angle)
    rows[:, VALID] = (random.random((scenes, slots)) < 0.8) & (np.arange(slots) < 24)
    here = Scene(host.bank, jnp.int32(JUNCTION))
    pose = logged_pose(here, jnp.int32(0))._replace(x=jnp.float32(1.0), y=jnp.float32(-2.0))
    found = np.asarray(jax.jit(jax.vmap(lambda r: hidden(here, r, pose, 0)))(rows))
    opaque = ~np.isin(sizes[2], [AgentType.PEDESTRIAN, AgentType.CYCLIST]) & (np.arange(slots) != 0)
    outline = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    compared = hidden_count = 0
    for scene_rows, result in zip(rows.astype(float), found, strict=True):
        turn = np.array([[scene_rows[COS], -scene_rows[SIN]], [scene_rows[SIN], scene_rows[COS]]])
        local = outline[:, None] * sizes[:2].T[None]
        corners = np.einsum("ijk,ckj->cki", turn, local) + scene_rows[[X, Y]].T
        boxes = shapely.polygons(corners.transpose(1, 0, 2))
        valid = scene_rows[VALID] > 0
        targets = np.concatenate([scene_rows[[X, Y]].T[None], corners])
        sights = shapely.linestrings(np.stack([np.broadcast_to([1.0, -2.0], targets.shape), targets], 2))
        for k in np.flatnonzero(valid):
            others = valid & opaque & (np.arange(slots) != k)
            # Only where a millimetre more or less of everyone's box does not change the answer.
            answers = [
                shapely.intersects(sights[:, k, None], shapely.buffer(boxes[others], grown)).any(1).all()
                for grown in (-1e-3, 1e-3)
            ]
            if k and answers[0] == answers[1]:
                compared += 1
                hidden_count += answers[0]
                assert result[k] == answers[0]
    assert compared > 500
    assert 50 < hidden_count < compared - 50


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RememberedLog(LogAgents):
    """Road users that repeat the log without saying so."""

    replays_log = False


def test_a_driven_past_is_where_everyone_was():
    host = joined()
    here = Scene(host.bank, jnp.int32(ROUND))
    sim, steps, start = SimConfig(past_steps=CONFIG.past_steps), 12, 5
    path = jnp.stack([jnp.arange(20.0), jnp.zeros(20)], 1)

    @jax.jit
    def drive(bank):
        here = Scene(bank, jnp.int32(ROUND))
        state = init(sim, RememberedLog(), here, jnp.int32(start), jax.random.key(0))
        plan = Plan.ahead(path, 1.0, jnp.full(1, 6.0)).anchored(state.ego)

        def one(state, _):
            return step(sim, RememberedLog(), here, state, plan)[0], state.ego

        state, egos = jax.lax.scan(one, state, None, length=steps)
        return state, egos

    state, egos = drive(host.bank)
    past = np.asarray(state.past)
    assert state.step == start + steps
    then = np.arange(start + steps - CONFIG.past_steps, start + steps)
    tracks = np.asarray(here.bank.tracks)[ROUND, then]
    valid = tracks[:, VALID, 1:] > 0
    for row, feature in enumerate((X, Y, COS, SIN)):
        np.testing.assert_allclose(past[:, row, 1:][valid], tracks[:, feature, 1:][valid], atol=1e-5)
    assert (past[:, 2:, 1:].transpose(0, 2, 1)[~valid] == 0).all()
    np.testing.assert_allclose(past[:, 0, 0], np.asarray(egos.x)[-CONFIG.past_steps :], atol=1e-5)
    heading = wrap_angle(np.arctan2(past[:, 3, 0], past[:, 2, 0]))
    np.testing.assert_allclose(heading, np.asarray(egos.heading)[-CONFIG.past_steps :], atol=1e-5)


@pytest.mark.parametrize("latency", [0, 3])
def test_a_past_read_from_the_log_is_the_past_that_a_state_would_remember(latency):
    host = joined()
    config = dataclasses.replace(CONFIG, latency=latency)
    sim = SimConfig(past_steps=config.past_steps)

    @functools.partial(jax.jit, static_argnums=2)
    def seen(bank, start, agents):
        here = Scene(bank, jnp.int32(ROUND))
        state = init(sim, agents, here, start, jax.random.key(0))
        plan = Plan.ahead(jnp.stack([jnp.arange(20.0), jnp.zeros(20)], 1), 1.0, jnp.full(1, 6.0))
        plan = plan.anchored(state.ego)
        state = jax.lax.fori_loop(0, 6, lambda _, s: step(sim, agents, here, s, plan)[0], state)
        return observe(config, here, state), state.past.shape[0]

    for start in (0, 3, 40):
        read, rows = seen(host.bank, jnp.int32(start), LogAgents())
        remembered, kept = seen(host.bank, jnp.int32(start), RememberedLog())
        assert (rows, kept) == (0, config.past_steps)
        for one, other in zip(read, remembered, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
        assert read.past_valid.any()
