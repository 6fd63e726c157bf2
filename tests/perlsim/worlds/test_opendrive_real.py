"""OpenDRIVE: CARLA's towns and the conformance maps."""

import json
import time

import numpy as np
import pytest

from perlsim.geometry.polylines import project
from perlsim.vocabulary import LaneType
from perlsim.worlds import opendrive

# Traffic lanes and links between them in CARLA's own map of each town, counted with carla.Map (0.9.16).
# Town03 has twelve two-way lanes besides, and one link that jumps sideways by a lane, which is dropped.
TOWNS = {"Town01": (124, 160), "Town03": (417 + 24, 503 - 1), "Town04": (463, 559), "Town05": (486, 604)}


@pytest.mark.parametrize("town", TOWNS)
def test_the_towns_have_the_lanes_and_links_of_carlas_own_map(real_data, town):
    start = time.process_time()
    read = opendrive.read(real_data / "maps" / "carla" / f"{town}.xodr.gz")
    assert time.process_time() - start < 10
    lanes = read.road.lanes
    traffic = np.isin(lanes.kind, [LaneType.DRIVING, LaneType.FREEWAY])
    links = sum(int(traffic[lanes.successors[i]].sum()) for i in np.flatnonzero(traffic))
    assert (int(traffic.sum()), links) == TOWNS[town]
    gaps = [
        np.linalg.norm(lanes.centre[i][-1] - lanes.centre[j][0])
        for i in range(len(lanes))
        for j in lanes.successors[i]
    ]
    assert max(gaps) < 0.05
    assert np.isfinite(lanes.centre.values).all() and (lanes.width >= 0).all()


@pytest.mark.parametrize("town", ["Town01", "Town02", "Town10HD"])
def test_stop_points_lie_on_the_public_stop_lines(real_data, town):
    signals = opendrive.read(real_data / "maps" / "carla" / f"{town}.xodr.gz", with_edges=False).signals
    lights = signals.kind[signals.lane_signal_idx] == opendrive.SignalKind.LIGHT
    lines = json.loads((real_data / "maps" / "carla_signals" / f"carla_{town}_stoplines.json").read_text())
    for line in (line for line in lines if line["agent_type"] == "traffic_light"):
        gap = np.linalg.norm(signals.stop[lights][:, :2] - [line["x"], -line["y"]], axis=1)
        nearest = gap.argmin()
        assert gap[nearest] < 0.5
        turn = signals.heading[lights][nearest] + line["orientation"]
        assert abs((turn + np.pi) % (2 * np.pi) - np.pi) < 0.05


def test_every_conformance_map_is_read(real_data):
    for path in sorted((real_data / "maps" / "opendrive").glob("*.xodr")):
        lanes = opendrive.read(path).road.lanes
        assert len(lanes) and np.isfinite(lanes.centre.values).all(), path.name


def test_left_hand_traffic_mirrors_the_same_road(real_data):
    folder = real_data / "maps" / "opendrive"
    right = opendrive.read(folder / "e6mini.xodr").road.lanes
    left = opendrive.read(folder / "e6mini-lht.xodr").road.lanes
    for a, b in zip(right.centre.rows(), left.centre.rows(), strict=True):
        assert project(a, b).distance.max() < 0.05
        assert np.linalg.norm(a[0] - b[-1]) < 0.05


def test_the_edges_of_a_cropped_part_are_those_of_the_whole_inside_the_box(real_data):
    read = opendrive.read(real_data / "maps" / "carla" / "Town01.xodr.gz")
    box = (60.0, -100.0, 160.0, 0.0)
    part, _ = read.around(box)
    inner = np.array([80.0, -80.0]), np.array([140.0, -20.0])

    def inside(edges):
        points = np.concatenate([0.5 * (row[1:] + row[:-1]) for row in edges.rows()])
        return points[((points[:, :2] > inner[0]) & (points[:, :2] < inner[1])).all(1)]

    whole = read.road.edges.rows()
    for point in inside(part.edges)[::5]:
        assert min(project(row, point[None]).distance[0] for row in whole) < 0.01
    assert len(inside(part.edges)) > 20
