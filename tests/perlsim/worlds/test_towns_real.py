"""All of CARLA's towns: their size, their lights, the time they take."""

import json
import time
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree

from perlsim.geometry.polylines import arc_lengths, interpolate, wrap
from perlsim.scenario import Scenario, Tracks
from perlsim.vocabulary import LaneType, LightState
from perlsim.worlds import opendrive, towns
from perlsim.worlds.given_lights import given_plan
from perlsim.worlds.light_plans import default_plan, light_rows

# Traffic lanes, links between them, and lanes in junctions; counted against carla.Map (see test_town_oracle).
SMALL = {
    "Town01": (124, 160, 72),
    "Town02": (88, 112, 48),
    "Town03": (441, 502, 245),
    "Town04": (463, 559, 266),
    "Town05": (486, 604, 268),
    "Town06": (467, 489, 212),
    "Town07": (282, 360, 168),
    "Town10HD": (168, 200, 82),
    "Town15": (915, 1032, 399),
}
LARGE = {"Town11": (2357, 3163, 1392), "Town12": (7810, 10396, 5152), "Town13": (9290, 12458, 6108)}
GIVEN = ("Town01", "Town02", "Town03", "Town04", "Town06", "Town07", "Town10HD")
# Junction of Town03 in which a light that no file names fits into no phase.
KEEPS_DEFAULT = {"Town03": {"1352"}}

ALL = [*SMALL, *(pytest.param(town, marks=pytest.mark.slow) for town in LARGE)]


@pytest.fixture(scope="module", params=ALL)
def found(request, real_data):
    """Each town in turn."""
    return opendrive.read(real_data / "maps" / "carla" / f"{request.param}.xodr.gz", with_edges=False)


@pytest.fixture
def programmes(real_data):
    return real_data / "maps" / "carla_signals"


def test_a_town_has_its_lanes_links_and_junctions(found):
    lanes = found.road.lanes
    traffic = np.isin(lanes.kind, [LaneType.DRIVING, LaneType.FREEWAY])
    links = sum(int(traffic[lanes.successors[i]].sum()) for i in np.flatnonzero(traffic))
    expected = (SMALL | LARGE)[found.name]
    assert (int(traffic.sum()), links, int(lanes.in_junction[traffic].sum())) == expected
    assert [bool(name) for name in found.junctions] == lanes.in_junction.tolist()


def test_neighbours_lie_side_by_side_run_the_same_way_and_know_each_other(found):
    lanes, sides = found.road.lanes, found.sides
    for idx in range(len(lanes)):
        points = slice(lanes.centre.offsets[idx], lanes.centre.offsets[idx + 1])
        for other in lanes.left[idx]:
            beside = slice(lanes.centre.offsets[other], lanes.centre.offsets[other + 1])
            np.testing.assert_allclose(sides.left[points], sides.right[beside], atol=1e-6)
            assert sides.left_change[points].any()
            assert idx in lanes.right[other] or not sides.right_change[beside].any()


def ways_on(lanes, lane):
    """Lanes of the junction from ``lane`` on."""
    found, ahead = [], [int(lane)]
    while ahead:
        here = ahead.pop()
        if lanes.in_junction[here] and here not in found:
            found.append(here)
            ahead += lanes.successors[here].tolist()
    return found


class Ways:
    """Conflicts by sampled points: another way to tell them than the plans' own."""

    def __init__(self, lanes):
        self.lanes = lanes
        self.dense = {}

    def points(self, lane):
        if lane not in self.dense:
            line = self.lanes.centre[lane]
            length = arc_lengths(line)[-1]
            self.dense[lane] = interpolate(line, np.linspace(0, length, max(int(length / 0.2), 2)))
        return self.dense[lane]

    def meet(self, first, second):
        """Whether the middles of ways that begin apart come closer than half a metre."""
        ways = [ways_on(self.lanes, lane) for lane in (first, second)]
        for a in ways[0]:
            for b in ways[1]:
                p, q = self.points(a), self.points(b)
                if a == b or np.linalg.norm(p[0] - q[0]) < 0.5:
                    continue
                if cKDTree(p).query(q, distance_upper_bound=0.5)[0].min() < 0.5:
                    return True
        return False

    def oncoming(self, first, second):
        p, q = (self.lanes.centre[lane][:2, :2] for lane in (first, second))
        headings = [np.arctan2(*(line[1] - line[0])[::-1]) for line in (p, q)]
        return abs(wrap(headings[0] - headings[1])) > np.deg2rad(135)


def meetings(town, plan):
    """Pairs of governed lanes that conflict, by lights of the same junction, and whether they go together."""
    signals, lanes = town.signals, town.road.lanes
    ways = Ways(lanes)
    lane = signals.lane_idx[plan.rows]
    light = signals.lane_signal_idx[plan.rows]
    places = np.array([town.junctions[i] for i in lane])
    times = np.arange(0.25, 240.0, 0.5)
    goes = np.isin(plan.at(times), [LightState.GREEN, LightState.YELLOW])
    for place in np.unique(places):
        rows = np.flatnonzero(places == place)
        for a in rows:
            for b in rows[rows > a]:
                if light[a] != light[b] and ways.meet(lane[a], lane[b]):
                    yield place, (lane[a], lane[b]), bool((goes[a] & goes[b]).any()), ways


def test_by_default_no_two_conflicting_movements_are_ever_green_together(found):
    plan = default_plan(found)
    assert len(plan.rows) == len(light_rows(found)) > 0
    pairs = list(meetings(found, plan))
    assert pairs, "no movements conflict: the test sees nothing"
    assert [(place, lanes) for place, lanes, together, _ in pairs if together] == []


def test_given_programmes_let_only_oncoming_traffic_go_together(found, programmes):
    plan = given_plan(found, programmes)
    assert (plan is not None) == (found.name in GIVEN)
    if plan is None:
        return
    assert len(plan.rows) == len(light_rows(found))
    places = np.array([found.junctions[i] for i in found.signals.lane_idx[plan.rows]])
    assert set(places[~plan.given]) == KEEPS_DEFAULT.get(found.name, set())
    pairs = list(meetings(found, plan))
    assert pairs
    for place, lanes, together, ways in pairs:
        assert not together or ways.oncoming(*lanes), f"junction {place}"


def test_every_light_goes_from_green_over_yellow_to_red_and_every_lane_has_its_green(found, programmes):
    times = np.arange(0, 240.0, 0.5)
    for row in default_plan(found).at(times):
        changes = row[np.flatnonzero(np.diff(row, prepend=-1))].tolist()
        after = {LightState.GREEN: LightState.YELLOW, LightState.YELLOW: LightState.RED}
        assert set(row.tolist()) == {LightState.GREEN, LightState.YELLOW, LightState.RED}
        assert all(after.get(a, LightState.GREEN) == b for a, b in pairwise(changes))
    # Programmes from files hold a few lanes on green for good, which nothing crosses.
    given = given_plan(found, programmes)
    assert given is None or (given.at(times) == LightState.GREEN).any(1).all()


def test_stop_signs_stand_where_public_stop_lines_say(found, programmes):
    path = programmes / f"carla_{found.name}_stoplines.json"
    lines = json.loads(path.read_text()) if path.is_file() else []
    signs = found.road.stop_signs
    gaps = []
    for line in (line for line in lines if line["agent_type"] == "stop_sign" and found.name != "Town06"):
        same_way = np.abs(wrap(signs.heading + line["orientation"])) < 0.5
        gap = np.linalg.norm(signs.position[:, :2] - [line["x"], -line["y"]], axis=1)
        gaps.append(gap[same_way].min())
    # Town06 has one that OpenDRIVE does not show.
    assert not gaps or (np.median(gaps) < 1.0 and max(gaps) < 6.0)


def test_every_conformance_map_makes_a_valid_road_with_sides(real_data):
    paths = sorted((real_data / "maps" / "opendrive").glob("*.xodr"))
    assert paths
    nobody = Tracks(
        np.zeros((0, 1, 3)),
        np.zeros((0, 1)),
        np.zeros((0, 1, 2)),
        np.zeros((0, 3)),
        np.zeros(0, np.int8),
        np.zeros((0, 1), bool),
        (),
    )
    for path in paths:
        town = opendrive.read(path)
        Scenario(path.name, "opendrive", 0.1, nobody, road=town.road).validate()
        centre = 0.5 * (town.sides.left + town.sides.right)
        np.testing.assert_allclose(centre, town.road.lanes.centre.values, atol=1e-6, err_msg=path.name)


def test_the_banked_turns_of_the_velodrome_rise_outwards(real_data):
    town = opendrive.read(real_data / "maps" / "opendrive" / "velodrome.xodr")
    slope = town.sides.left[:, 2] - town.sides.right[:, 2]
    across = np.linalg.norm(town.sides.left - town.sides.right, axis=1)
    np.testing.assert_allclose(across, town.road.lanes.width, atol=1e-6)
    # 60 degrees is the largest superelevation in the file.
    assert np.max(np.abs(slope) / across) == pytest.approx(np.sin(np.pi / 3), abs=1e-3)


@pytest.mark.slow
def test_the_largest_town_is_read_in_a_minute_and_loaded_in_two_seconds(real_data, tmp_path):
    path = real_data / "maps" / "carla" / "Town13.xodr.gz"
    start = time.process_time()
    first = towns.load_town(path, cache=tmp_path)
    assert time.process_time() - start < 60
    start = time.process_time()
    town = towns.load_town(path, cache=tmp_path)
    assert time.process_time() - start < 2
    assert town.map.road.lanes.ids == first.map.road.lanes.ids
    # A route's surroundings.
    lane = town.map.road.lanes.centre[len(town.map.road.lanes) // 2]
    route = lane[0, :2] + np.array([[-150.0, -100.0], [0.0, 0.0], [150.0, 100.0]])
    start = time.process_time()
    part, _ = town.crop(opendrive.boxes_along(route, 60.0))
    assert time.process_time() - start < 1
    assert 0 < len(part.map.road.lanes) < 1000 and len(part.map.road.edges)
