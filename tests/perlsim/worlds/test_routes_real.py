"""Every route of the public benchmarks, on the towns, against real result records."""

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest

from perlsim.worlds import opendrive
from perlsim.worlds.routes import leaderboard2
from perlsim.worlds.routes.catalogue import BENCH2DRIVE_TYPES, SCENARIO_TYPES
from perlsim.worlds.routes.dense import densify
from perlsim.worlds.routes.graph import TownGraph
from perlsim.worlds.routes.load import load, read
from perlsim.worlds.routes.stations import read_stations

SMALL_TOWNS = ("Town01", "Town02", "Town03", "Town04", "Town05", "Town06", "Town07", "Town10HD")
BENCH2DRIVE = ("bench2drive/bench2drive220_dev.xml", "bench2drive/dev10.xml")
LEADERBOARD = tuple(f"leaderboard2/routes_{name}.xml" for name in ("training", "validation", "devtest"))


@pytest.fixture(scope="module")
def graph_of(real_data):
    @cache
    def graph(town: str) -> TownGraph:
        path = real_data / "maps" / "carla" / f"{town}.xodr.gz"
        lanes = opendrive.read(path, with_edges=False).road.lanes
        return TownGraph(lanes, read_stations(path, lanes))

    return graph


@pytest.fixture(scope="module")
def recorded_lengths(real_data) -> dict[str, float]:
    lengths = {}
    for path in (real_data / "known_answers" / "bench2drive").glob("*.json"):
        for record in json.loads(path.read_text())["_checkpoint"]["records"]:
            if record["meta"]["route_length"] > 0:
                lengths[record["route_id"].split("_")[1]] = record["meta"]["route_length"]
    return lengths


def test_all_routes_are_read(real_data):
    benchmarks = real_data / "benchmarks"
    counts = [len(read(benchmarks / name)) for name in (*BENCH2DRIVE, *LEADERBOARD)]
    assert counts == [132, 10, 90, 20, 2]
    assert [len(read(path)) for path in sorted((benchmarks / "dos").glob("*.xml"))] == [13] * 4


def test_every_parameter_of_every_scenario_is_used_or_refused_for_a_known_reason(real_data):
    refused, kinds = Counter(), Counter()
    for name in (*BENCH2DRIVE, *LEADERBOARD):
        for route in read(real_data / "benchmarks" / name):
            for scenario in route.scenarios:
                kind = SCENARIO_TYPES[scenario.kind]
                kinds[kind.name] += 1
                assert set(scenario.parameters.values) == {parameter.name for parameter in kind.parameters}
                refused.update((kind.name, parameter) for parameter in scenario.parameters.refused)
    assert set(BENCH2DRIVE_TYPES) <= set(kinds)
    unread = {(kind.name, name) for kind in SCENARIO_TYPES.values() for name in kind.unused}
    # One side, three times in the training file, is a number.
    assert set(refused) - unread == {("ParkingCutIn", "direction")}


def test_bench2drive_routes_survive_writing_and_reading(real_data, tmp_path):
    before = leaderboard2.read(real_data / "benchmarks" / BENCH2DRIVE[0])
    leaderboard2.write(before, tmp_path / "again.xml")
    for one, two in zip(before, leaderboard2.read(tmp_path / "again.xml"), strict=True):
        np.testing.assert_allclose(two.waypoints, one.waypoints, atol=1e-9)
        assert [s.kind for s in two.scenarios] == [s.kind for s in one.scenarios]
        assert two.scenarios[0].parameters.values.keys() == one.scenarios[0].parameters.values.keys()
        assert not two.scenarios[0].parameters.refused


def test_dos_routes_run_along_lanes_and_meet_their_triggers(real_data, graph_of):
    without = []
    for path in sorted((real_data / "benchmarks" / "dos").glob("*.xml")):
        routes = load(path, graph_of)
        assert max(route.dense.deviation.max() for route in routes) < 0.65
        for route in routes:
            kinds = [scenario.kind for scenario in route.definition.scenarios]
            if kinds:
                assert kinds == [path.name[:6]] and np.isfinite(route.triggers).all()
            else:
                without.append((path.name[:6], route.definition.route))
    # Its trigger definition faces against the traffic: CARLA finds no scenario either.
    assert without == [("DOS_04", "6")]


def _dense(routes, graph_of, reach: float) -> dict:
    """Dense routes by id, with all triggers that lie off them by name."""
    dense, missed = {}, []
    for route in routes:
        dense[route.route] = found = densify(route, graph_of(route.town))
        assert found.deviation.max() < reach, route.route
        missed += [
            f"{route.route} {s.name}" for s in route.scenarios if np.isnan(found.position_of(s.trigger))
        ]
    return {"routes": dense, "missed": missed}


def _assert_lengths(dense, recorded_lengths, at_least: int) -> None:
    compared = {name: route for name, route in dense["routes"].items() if name in recorded_lengths}
    assert len(compared) >= at_least
    for name, route in compared.items():
        assert route.length == pytest.approx(recorded_lengths[name], rel=0.01), name


def test_routes_of_the_small_towns_are_as_long_as_in_real_records(real_data, graph_of, recorded_lengths):
    routes = leaderboard2.read(real_data / "benchmarks" / BENCH2DRIVE[0])
    dense = _dense([route for route in routes if route.town in SMALL_TOWNS], graph_of, 0.65)
    assert not dense["missed"]
    _assert_lengths(dense, recorded_lengths, 11)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCH2DRIVE)
def test_all_bench2drive_routes_are_as_long_as_in_real_records(real_data, graph_of, recorded_lengths, name):
    dense = _dense(leaderboard2.read(real_data / "benchmarks" / name), graph_of, 0.65)
    assert not dense["missed"]
    _assert_lengths(dense, recorded_lengths, 60 if name == BENCH2DRIVE[0] else 1)


@pytest.mark.slow
def test_leaderboard_routes_meet_all_their_triggers_but_one(real_data, graph_of):
    missed = []
    for name in LEADERBOARD:
        missed += _dense(leaderboard2.read(real_data / "benchmarks" / name), graph_of, 1.3)["missed"]
    # One trigger, on a route that the file holds three times, faces against the traffic.
    assert missed == [f"{route} OppositeVehicleRunningRedLight_1" for route in (25, 55, 85)]
