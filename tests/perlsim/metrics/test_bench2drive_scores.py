"""Bench2Drive's numbers, from hand-built records and from real ones."""

import json
import math
from pathlib import Path

import pytest

from perlsim.errors import FormatError
from perlsim.metrics import bench2drive
from perlsim.metrics.bench2drive import ABILITIES, Attempt, Drive, abilities, gather, read_results, score

# Texts as CARLA's Leaderboard writes them, with what they cost.
COSTS = {
    "collisions_pedestrian": (
        "Agent collided against object with type=walker and id=7 at (x=1, y=2, z=0)",
        0.5,
    ),
    "collisions_vehicle": (
        "Agent collided against object with type=vehicle and id=8 at (x=1, y=2, z=0)",
        0.6,
    ),
    "collisions_layout": (
        "Agent collided against object with type=static.pole and id=0 at (x=1, y=2, z=0)",
        0.65,
    ),
    "red_light": ("Agent ran a red light 34 at (x=1.0, y=3.0, z=0.1)", 0.7),
    "stop_infraction": ("Agent ran a stop with id=9 at (x=1.0, y=3.0, z=0.1)", 0.8),
    "scenario_timeouts": ("Agent timed out a scenario", 0.7),
    "yield_emergency_vehicle_infractions": ("Agent failed to yield to an emergency vehicle", 0.7),
    "outside_route_lanes": (
        "Agent went outside its route lanes for about 12.5 meters (25.0% of the completed route)",
        0.75,
    ),
    "min_speed_infractions": ("Average speed is 40.5% of the surrounding traffic's one", 1.0),
    "route_dev": ("Agent deviated from the route at (x=1, y=2, z=0)", 1.0),
    "vehicle_blocked": ("Agent got blocked at (x=1, y=2, z=0)", 1.0),
    "route_timeout": ("Route timeout.", 1.0),
}


def record(
    route="100", scenario="ParkingExit", completion=100.0, status="Completed", penalty=None, **infractions
):
    kinds = {kind: [] for kind in COSTS} | infractions
    scores = {"score_route": completion} | ({} if penalty is None else {"score_penalty": penalty})
    return {
        "index": 0,
        "route_id": f"RouteScenario_{route}_rep0",
        "scenario_name": f"{scenario}_1",
        "town_name": "Town99",
        "status": status,
        "infractions": kinds,
        "scores": scores,
        "meta": {"route_length": 99.0},
    }


def write(path: Path, *records, progress=None) -> Path:
    content = {"_checkpoint": {"records": list(records), "progress": progress or [len(records)] * 2}}
    path.write_text(json.dumps(content))
    return path


def read_one(tmp_path, **arguments):
    return read_results(write(tmp_path / "one.json", record(**arguments))).records[0]


@pytest.mark.parametrize("kind", COSTS)
def test_each_infraction_costs_its_factor_once_for_each_time(tmp_path, kind):
    text, factor = COSTS[kind]
    once = read_one(tmp_path, completion=80.0, **{kind: [text]})
    assert once.penalty == pytest.approx(factor)
    assert once.score == pytest.approx(80.0 * factor)
    assert read_one(tmp_path, **{kind: [text] * 3}).penalty == pytest.approx(factor**3)


def test_penalties_of_different_kinds_multiply(tmp_path):
    kinds = {kind: [text] for kind, (text, _) in COSTS.items()}
    expected = 0.5 * 0.6 * 0.65 * 0.7 * 0.8 * 0.7 * 0.7 * 0.75
    assert read_one(tmp_path, **kinds).penalty == pytest.approx(expected)


@pytest.mark.parametrize("kind", COSTS)
def test_any_infraction_but_that_of_the_minimum_speed_spoils_a_success(tmp_path, kind):
    assert read_one(tmp_path, **{kind: [COSTS[kind][0]]}).success == (kind == "min_speed_infractions")


@pytest.mark.parametrize(
    ("status", "success"),
    [
        ("Completed", True),
        ("Perfect", True),
        ("Failed", False),
        ("Failed - Agent got blocked", False),
        ("Started", False),
    ],
)
def test_only_a_completed_route_is_a_success(tmp_path, status, success):
    assert read_one(tmp_path, status=status).success == success


def test_efficiency_is_the_mean_ratio_of_speeds_without_those_above_a_thousand_percent(tmp_path):
    texts = [
        f"Average speed is {ratio}% of the surrounding traffic's one"
        for ratio in (50, 150.5, 1000.0, 1000.01)
    ]
    assert read_one(tmp_path, min_speed_infractions=texts).efficiency == pytest.approx(
        (50 + 150.5 + 1000) / 3
    )


def test_a_route_without_usable_checkpoints_has_no_efficiency(tmp_path):
    assert math.isnan(read_one(tmp_path).efficiency)
    too_fast = ["Average speed is 5000.0% of the surrounding traffic's one"]
    assert math.isnan(read_one(tmp_path, min_speed_infractions=too_fast).efficiency)


def test_the_scores_are_means_over_the_given_routes(tmp_path):
    ratio = "Average speed is {}% of the surrounding traffic's one"
    file = write(
        tmp_path / "all.json",
        record("1", min_speed_infractions=[ratio.format(100)]),
        record("2", completion=50.0, status="Failed", min_speed_infractions=[ratio.format(50)] * 9),
        record("3", collisions_vehicle=[COSTS["collisions_vehicle"][0]]),
        progress=[3, 4],
    )
    gathered = gather([read_results(file)])
    scores = score(gathered.drives)
    assert len(gathered.drives) == 4
    assert scores.driving_score == pytest.approx((100 + 50 + 60 + 0) / 4)
    assert scores.success_rate == pytest.approx(25.0)
    assert scores.efficiency == pytest.approx((100 + 50) / 2)  # routes count alike, checkpoints do not
    assert math.isnan(scores.comfort)


def test_a_file_that_only_says_started_is_one_route_that_scores_zero(tmp_path):
    done = write(tmp_path / "1.json", record("1"))
    begun = write(tmp_path / "77.json", progress=[0, 1])
    gathered = gather([read_results(done), read_results(begun)])
    assert gathered.without_record == [(str(begun), 1)]
    assert [drive.route for drive in gathered.drives if drive.record is None] == ["77"]
    assert score(gathered.drives).driving_score == pytest.approx(50.0)


def test_a_crashed_run_that_was_repeated_into_another_file_is_not_missing(tmp_path):
    begun = write(tmp_path / "77.json", progress=[0, 1])
    again = write(tmp_path / "again.json", record("77"))
    assert score(gather([read_results(begun), read_results(again)]).drives).driving_score == 100.0


def test_a_route_in_several_files_counts_once_and_is_reported(tmp_path):
    first = write(tmp_path / "a.json", record("1"), record("2"))
    second = write(tmp_path / "b.json", record("2", completion=10.0, status="Failed"))
    gathered = gather([read_results(first), read_results(second)])
    assert [drive.route for drive in gathered.drives] == ["1", "2"]
    assert score(gathered.drives).driving_score == 100.0
    (duplicate,) = gathered.duplicates
    assert (duplicate.route, duplicate.counted, duplicate.left_out) == ("2", str(first), str(second))
    assert not duplicate.same_score


def test_a_record_that_ended_counts_before_one_that_only_started(tmp_path):
    first = write(tmp_path / "a.json", record("1", completion=0.0, status="Started", penalty=0))
    second = write(tmp_path / "b.json", record("1"))
    gathered = gather([read_results(first), read_results(second)])
    assert score(gathered.drives).driving_score == 100.0
    assert gathered.duplicates[0].left_out == str(first)


def test_repetitions_of_a_route_are_no_duplicates(tmp_path):
    again = record("1", completion=50.0, status="Failed") | {"route_id": "RouteScenario_1_rep1"}
    gathered = gather([read_results(write(tmp_path / "a.json", record("1"), again))])
    assert not gathered.duplicates
    assert score(gathered.drives).driving_score == pytest.approx(75.0)


def test_a_file_that_contradicts_its_own_infractions_is_found(tmp_path):
    red = COSTS["red_light"][0]
    file = write(
        tmp_path / "a.json",
        record("1", penalty=0.7, red_light=[red]),
        record("2", penalty=0.9, red_light=[red]),
        record("3", red_light=[red]),
    )
    assert [d.route for d in gather([read_results(file)]).drives if d.disagrees] == ["2"]


def drive(scenario, success, completion=100.0, passed=None, **infractions):
    status = "Completed" if success else "Failed"
    texts = {kind: tuple(lines) for kind, lines in infractions.items()}
    made = bench2drive.RouteRecord(
        "1",
        0,
        scenario,
        "",
        status,
        completion,
        texts,
        length=100.0,
        stated_penalty=1.0,
        save_name="",
        file="",
    )
    return Attempt(scenario, made, passed)


def test_abilities_are_success_rates_over_types_of_scenarios_with_an_unweighted_mean():
    rates = abilities(
        [
            drive("Accident", True),
            drive("ParkedObstacle", False),
            drive("VehicleOpensDoorTwoWays", True),
            drive("HighwayExit", True),
            drive("StaticCutIn", False),
            drive("InvadingTurn", True),
            drive("YieldToEmergencyVehicle", False),
            drive("T_Junction", True),
            # Merging and Traffic Signs.
            drive("EnterActorFlow", False, red_light=["ran"]),
        ]
    )
    assert {name: rate.count for name, rate in rates.items()} == {
        "Overtaking": 3,
        "Merging": 2,
        "Emergency Brake": 1,
        "Give Way": 2,
        "Traffic Signs": 2,
        "mean": 10,
    }
    assert rates["Overtaking"].value == pytest.approx(200 / 3)
    assert rates["Merging"].value == pytest.approx(50)
    assert rates["Emergency Brake"].value == 0
    assert rates["Give Way"].value == pytest.approx(50)
    assert rates["Traffic Signs"].value == pytest.approx(50)
    assert rates["mean"].value == pytest.approx((200 / 3 + 50 + 0 + 50 + 50) / 5)


def test_a_failed_drive_counts_for_the_traffic_signs_alone_where_it_passed_the_junction():
    rates = abilities(
        [drive("EnterActorFlow", False, 90.0, passed=True), drive("EnterActorFlow", False, 5.0, passed=False)]
    )
    assert rates["Traffic Signs"].value == pytest.approx(50)
    assert rates["Merging"].value == 0


@pytest.mark.parametrize("sign", ["red_light", "stop_infraction"])
def test_a_drive_that_ran_a_sign_is_not_rescued_by_its_junction(sign):
    rates = abilities([drive("T_Junction", False, passed=True, **{sign: ["ran"]})])
    assert rates["Traffic Signs"].value == 0


def test_traffic_signs_are_not_available_where_the_junction_is_unknown():
    rates = abilities([drive("T_Junction", True), drive("T_Junction", False, 60.0)])
    assert math.isnan(rates["Traffic Signs"].value) and math.isnan(rates["mean"].value)
    assert (rates["Traffic Signs"].low, rates["Traffic Signs"].high) == (50.0, 100.0)


def test_an_ability_without_routes_is_not_available_and_not_in_the_mean():
    rates = abilities([drive("InvadingTurn", True)])
    assert math.isnan(rates["Merging"].value)
    assert rates["mean"].value == 100.0


def test_a_route_without_a_record_fails_its_ability_but_not_in_the_compatible_form():
    drives = [
        Drive("1", 0, "InvadingTurn"),
        Drive("2", 0, "InvadingTurn", record=drive("InvadingTurn", True).record),
    ]
    scores = score(drives)
    assert scores.abilities["Give Way"].value == 50.0
    assert scores.abilities_compat["Give Way"].value == 100.0


def test_the_five_abilities_have_as_many_types_as_the_benchmark_lists():
    assert {name: len(types) for name, types in ABILITIES.items()} == {
        "Overtaking": 9,
        "Merging": 16,
        "Emergency Brake": 12,
        "Give Way": 2,
        "Traffic Signs": 19,
    }


@pytest.mark.parametrize(("completion", "passed"), [(39.9, False), (40.1, True)])
def test_a_junction_is_passed_eight_waypoints_behind_its_first(completion, passed):
    # Of 100 waypoints 1 m apart the 32nd is the first in the junction: 40 % of the route.
    assert bench2drive.passed_junction(completion, junction=31.0, length=99.0) == passed
    assert not bench2drive.passed_junction(100.0, junction=None, length=99.0)


def broken(**changes):
    return {key: value for key, value in (record() | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ('{"_checkpoint": {"records": [{"route_id": "RouteSc', "cut off"),
        ('{"_checkpoint": {"records": [],', "cut off"),
        ('{"_checkpoint": }', "is not JSON"),
        ("[1, 2]", "not a Leaderboard result file"),
        ('{"_checkpoint": {"records": 3}}', "not a Leaderboard result file"),
        ('{"_checkpoint": {"records": [3]}}', "expected a record"),
        ('{"_checkpoint": {"records": [{"route_id": NaN}]}}', "found NaN"),
        ({"scores": None}, "_checkpoint.records[0].scores"),
        ({"scores": {"score_route": 101}}, "completion"),
        ({"scores": {"score_route": "100"}}, "completion"),
        ({"route_id": None}, "route_id"),
        ({"infractions": None}, "infractions"),
        ({"infractions": {"red_light": 1}}, "infractions.red_light"),
        ({"infractions": {"outside_route_lanes": ["somewhere"]}}, "percentage"),
        ({"infractions": {"outside_route_lanes": ["(200% of the completed route)"]}}, "percentage"),
        ({"infractions": {"min_speed_infractions": ["slow"]}}, "percentage"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name_and_the_reason(tmp_path, content, says):
    path = tmp_path / "bad.json"
    path.write_text(
        content if isinstance(content, str) else json.dumps({"_checkpoint": {"records": [broken(**content)]}})
    )
    with pytest.raises(FormatError) as caught:
        read_results(path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_the_penalty_of_every_real_record_is_reproduced(real_data):
    files = [read_results(path) for path in sorted((real_data / "known_answers/bench2drive").glob("*.json"))]
    records = [record for file in files for record in file.records]
    assert (len(files), len(records)) == (113, 110)
    for one in records:
        assert one.penalty == pytest.approx(one.stated_penalty, abs=1e-4), one.file
    # The product of the stated numbers, rounded in the files, gives the same mean score.
    gathered = gather(files)
    assert len(gathered.without_record) == 3 and len(gathered.drives) == 113
    stated = sum(one.completion * one.stated_penalty for one in records) / 113
    assert score(gathered.drives).driving_score == pytest.approx(stated, abs=1e-3)
    assert {drive.score for drive in gathered.drives if drive.record is None} == {0.0}
