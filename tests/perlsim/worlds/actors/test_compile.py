"""Scenario types on the towns: each shows its point to an ego that drives straight on at one speed."""

from functools import cache

import numpy as np
import pytest
from ghost import drive

from perlsim.vocabulary import LightState
from perlsim.worlds import opendrive
from perlsim.worlds.actors.background import background_traffic
from perlsim.worlds.actors.compile import MAKERS, compile_scenario
from perlsim.worlds.light_plans import default_plan
from perlsim.worlds.routes import leaderboard2
from perlsim.worlds.routes.catalogue import SCENARIO_TYPES
from perlsim.worlds.routes.dense import densify
from perlsim.worlds.routes.graph import TownGraph
from perlsim.worlds.routes.load import Route
from perlsim.worlds.routes.placement import Places
from perlsim.worlds.routes.sites import Sites
from perlsim.worlds.routes.stations import read_stations

SPEEDS = (6.0, 8.0, 11.0)
# Routes of small towns, and how many of three speeds meet somebody at least. Flows have gaps: of four seeds.
CASES = {
    "24240": ("Accident", 3),
    "25857": ("AccidentTwoWays", 3),
    "24367": ("ConstructionObstacle", 3),
    "25381": ("HazardAtSideLane", 3),
    "25955": ("HazardAtSideLaneTwoWays", 3),
    "24757": ("ParkedObstacle", 3),
    "26456": ("HardBreakRoute", 3),
    "25358": ("StaticCutIn", 2),
    "24759": ("ParkingCutIn", 3),
    "24206": ("ParkingCrossingPedestrian", 3),
    "27515": ("PedestrianCrossing", 3),
    "27494": ("BlockedIntersection", 3),
    "26966": ("SignalizedJunctionRightTurn", 4),
    "27506": ("EnterActorFlow", 1),
    "28099": ("SignalizedJunctionLeftTurnEnterFlow", 4),
}
SLOW = np.repeat([4.0, 0.0], [25, 275])


@pytest.fixture(scope="module")
def places_of(real_data):
    @cache
    def places(town: str) -> Places:
        path = real_data / "maps" / "carla" / f"{town}.xodr.gz"
        read = opendrive.read(path, with_edges=False)
        return Places(Sites(read, TownGraph(read.road.lanes, read_stations(path, read.road.lanes))))

    return places


@pytest.fixture(scope="module")
def definitions(real_data):
    path = real_data / "benchmarks" / "bench2drive" / "bench2drive220_dev.xml"
    return {definition.route: definition for definition in leaderboard2.read(path)}


def _script(definition, places, seed=0, lights=None):
    dense = densify(definition, places.sites.graph)
    (scenario,) = definition.scenarios
    trigger = dense.position_of(scenario.trigger)
    route = Route(definition, dense, np.array([trigger]))
    return compile_scenario(scenario, route, trigger, places, seed, lights), dense


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_an_ego_that_does_not_react_meets_somebody(name, definitions, places_of):
    kind, least = CASES[name]
    definition = definitions[name]
    assert definition.scenarios[0].kind == kind
    places, is_flow = places_of(definition.town), "Flow" in kind or "Turn" in kind
    drives = []
    for seed in range(4 if is_flow else 1):
        script, dense = _script(definition, places, seed)
        drives += [drive(script, dense.points, speed, 300, origin=dense.points[0]) for speed in SPEEDS]
    assert sum(len(drove.touches_ego) > 0 for drove in drives) >= least
    assert all(drove.touch_each_other == [] for drove in drives)
    slow = drive(script, dense.points, SLOW, 300, origin=dense.points[0])
    assert not len(slow.touches_ego) and slow.touch_each_other == []


def test_a_parked_vehicle_stands_where_the_file_says(definitions, places_of):
    definition = definitions["24757"]
    script, dense = _script(definition, places_of(definition.town))
    scenario = definition.scenarios[0]
    distance = scenario.parameters.values["distance"]
    at = np.interp(dense.position_of(scenario.trigger) + distance, dense.along, np.arange(len(dense.along)))
    away = script.pose[0, :3] - dense.points[round(at)]
    assert 0.8 < np.hypot(*away[:2]) < 2.0
    assert script.is_there[0] and np.cos(script.pose[0, 3] - dense.heading[round(at)]) > 0.99


def test_the_same_seed_gives_the_same_script_and_another_one_another(definitions, places_of):
    definition = definitions["25857"]
    places = places_of(definition.town)
    one, again, other = (_script(definition, places, seed)[0].pose for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert one.shape != other.shape or not np.allclose(one, other)


def test_every_type_is_staged():
    assert set(MAKERS) == set(SCENARIO_TYPES)


def test_a_parking_exit_begins_between_two_parked_vehicles_beside_the_lane(definitions, places_of):
    definition = definitions["26435"]
    script, dense = _script(definition, places_of(definition.town))
    assert script.start is not None
    away = np.array(script.start[:2]) - dense.points[0, :2]
    aside = np.cos(dense.heading[0]) * away[1] - np.sin(dense.heading[0]) * away[0]
    assert -4.5 < aside < -1.5
    apart = np.hypot(*(script.pose[:2, :2] - np.array(script.start[:2])).T)
    np.testing.assert_allclose(apart, 9.0, atol=1.0)


def test_control_loss_disturbs_three_stretches_and_adds_nobody(definitions, places_of):
    definition = definitions["24340"]
    script, _ = _script(definition, places_of(definition.town))
    assert len(script) == 0 and len(script.disturbances) == 3
    begins = [one.begin for one in script.disturbances]
    np.testing.assert_allclose(np.diff(begins), [34.0, 26.0], atol=0.1)
    assert all(abs(one.steer) == 0.055 for one in script.disturbances)


def test_the_light_of_the_ego_turns_green_as_the_type_asks(definitions, places_of):
    definition = definitions["26966"]
    places = places_of(definition.town)
    plan = default_plan(places.sites.town)
    script, dense = _script(definition, places, lights=plan)
    lanes = set(dense.lane_idx[:40].tolist())
    rows = [n for n, row in enumerate(plan.rows) if int(places.sites.town.signals.lane_idx[row]) in lanes]
    times = np.minimum(np.arange(0.0, 60.0, 0.1), script.light_hold) + script.light_shift
    state = plan.programme(rows[0]).at(times)
    # Red when it comes, then green for good.
    assert state[0] == LightState.RED and (np.diff(state.astype(int)) != 0).sum() == 1
    assert state[-1] == LightState.GREEN and 50 < int((state == LightState.GREEN).argmax()) < 120


@pytest.mark.slow
def test_background_traffic_drives_without_touching_anybody(definitions, places_of):
    definition = definitions["28154"]
    places = places_of(definition.town)
    dense = densify(definition, places.sites.graph)
    route = Route(definition, dense, np.zeros(0))
    script = background_traffic(route, places, seed=1, density=20.0)
    assert 4 <= len(script) <= 12
    again = background_traffic(route, places, seed=1, density=20.0)
    np.testing.assert_array_equal(script.pose, again.pose)
    drove = drive(script, dense.points, 0.0, 600, origin=dense.points[0])
    assert not len(drove.touches_ego) and drove.touch_each_other == []
    assert (drove.speed[:, 1 : 1 + len(script)].max(0) > 3.0).all()
