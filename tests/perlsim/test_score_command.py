"""``perlsim score``: result files in, numbers and exit codes out."""

import json
import shutil
from pathlib import Path

import pytest

from perlsim.cli import main

SUB_SCORES = (
    "no_at_fault_collisions,drivable_area_compliance,driving_direction_compliance,traffic_light_compliance,"
    "ego_progress,time_to_collision_within_bound,lane_keeping,history_comfort"
)


def score(*arguments):
    """Exit code of the command."""
    with pytest.raises(SystemExit) as ended:
        main(["score", *map(str, arguments)])
    return ended.value.code


def result(path: Path, *routes, total=None, **changes):
    records = [
        {
            "route_id": f"RouteScenario_{route}_rep0",
            "scenario_name": "InvadingTurn_1",
            "town_name": "Town99",
            "status": "Completed",
            "save_name": f"drive_{route}",
            "infractions": {"red_light": [], "min_speed_infractions": ["Average speed is 120.0% of …"]},
            "scores": {"score_route": 100.0, "score_penalty": 1.0},
            **changes,
        }
        for route in routes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"_checkpoint": {"records": records, "progress": [len(records), total or len(records)]}}
    path.write_text(json.dumps(content))
    return path


def table(path: Path, *rows):
    path.write_text("\n".join([f"token,valid,{SUB_SCORES},score", *rows]) + "\n")
    return path


def test_numbers_of_result_files_are_printed_and_written(tmp_path, capsys):
    first, second = result(tmp_path / "a.json", "1", total=2), result(tmp_path / "b.json", "2")
    assert score(first, second, "--json", tmp_path / "out.json") == 0
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["driving_score"] == pytest.approx(200 / 3)
    assert out["success_rate"] == pytest.approx(200 / 3)
    assert out["efficiency"] == 120.0
    assert out["comfort"] is None
    assert out["abilities"]["Give Way"] == 100.0 and out["abilities"]["Merging"] is None
    assert out["without_record"] == [{"file": str(first), "routes": 1}]
    assert [row["score"] for row in out["routes"]] == [100.0, 100.0, 0.0]
    shown = capsys.readouterr().out
    assert "66.67" in shown and f"{first} (1 missing)" in shown and "n/a" in shown


def test_the_score_of_one_table_stands_at_the_top_and_of_several_only_in_their_rows(tmp_path):
    one = table(tmp_path / "a.csv", "s1,True,1,1,1,1,1,1,1,1,1.0", "s2,True,1,1,0.5,1,1,1,1,1,0.5")
    two = table(tmp_path / "b.csv", "s1,True,0,1,1,1,1,1,1,1,0.0")
    out = tmp_path / "out.json"
    assert score(one, "--json", out) == 0
    read = json.loads(out.read_text())
    assert (read["epdms"], read["pdms"]) == (0.75, None)
    assert read["tables"][0]["scores"] == {"s1": 1.0, "s2": 0.5}
    assert score(one, two, "--json", out) == 0
    read = json.loads(out.read_text())
    assert read["epdms"] is None
    assert [row["epdms"] for row in read["tables"]] == [0.75, 0.0]


def test_a_wrong_score_in_a_table_is_named_and_ends_with_one(tmp_path, capsys):
    path = table(tmp_path / "a.csv", "s1,True,1,1,1,1,1,1,1,1,0.9")
    assert score(path) == 1
    assert f"{path} line 2 (s1) column score: 0.9, expected 1.0" in capsys.readouterr().out


def test_a_wrong_penalty_in_a_record_is_named_and_ends_with_one(tmp_path, capsys):
    path = result(tmp_path / "a.json", "5", scores={"score_route": 100.0, "score_penalty": 0.6})
    assert score(path, "--json", tmp_path / "out.json") == 1
    assert f"5: 0.6 in {path}, expected 1.0" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["driving_score"] == 100.0


def test_a_damaged_result_file_counts_as_a_route_without_record_and_ends_with_one(tmp_path, capsys):
    good, bad = result(tmp_path / "a.json", "1"), result(tmp_path / "b.json", "2")
    bad.write_text(bad.read_text()[:-30])
    empty = tmp_path / "c.json"
    empty.write_text("")
    assert score(tmp_path, "--json", tmp_path / "out.json") == 1
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["driving_score"] == pytest.approx(100 / 3)
    assert [row["file"] for row in out["unreadable"]] == [str(bad), str(empty)]
    shown = capsys.readouterr().out
    assert "cut off" in shown and "is empty" in shown and str(good) not in shown


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", '{"_checkpoint": {"rec', "cut off"),
        ("a.json", "", "empty"),
        ("a.json", "{}", "not a Leaderboard result file"),
        ("a.csv", "", "empty"),
        ("a.csv", "x,y\n1,2\n", "lacks the columns"),
        ("a.csv", f"token,{SUB_SCORES}\ns,1,1,1,1,nan,1,1,1\n", "line 2, column ego_progress"),
        ("a.csv", f"token,{SUB_SCORES}\ns,1,1,1,1,1.5,1,1,1\n", "line 2, column ego_progress"),
        ("a.txt", "nothing", "is not JSON"),
    ],
)
def test_where_nothing_can_be_scored_it_ends_with_two_and_says_why(tmp_path, capsys, name, content, says):
    path = tmp_path / name
    path.write_text(content)
    assert score(path, "--json", tmp_path / "out.json") == 2
    said = capsys.readouterr().err
    assert str(path) in said and says in said
    assert not (tmp_path / "out.json").exists()


def test_wrong_usage_ends_with_two(tmp_path):
    file = result(tmp_path / "a.json", "1")
    assert score() == 2
    assert score(tmp_path / "absent.json") == 2
    assert score(tmp_path / "*.csv") == 2
    (tmp_path / "folder").mkdir()
    assert score(tmp_path / "folder") == 2
    assert score(file, "--maps", tmp_path / "absent") == 2
    assert score(file, "--routes", file) == 2
    assert score(file, "--json", file / "out.json") == 2


def test_folders_are_searched_for_results_and_tables_and_other_files_ignored(tmp_path):
    result(tmp_path / "runs" / "deep" / "a.json", "1")
    table(tmp_path / "runs" / "b.csv", "s1,True,1,1,1,1,1,1,1,1,1.0")
    (tmp_path / "runs" / "config.json").write_text("{}")
    (tmp_path / "runs" / "losses.csv").write_text("step,loss\n1,2\n")
    # The same files again, by another way.
    assert score(tmp_path / "runs", tmp_path / "runs/*/*.json", "--json", tmp_path / "out.json") == 0
    out = json.loads((tmp_path / "out.json").read_text())
    assert (out["num_routes"], out["epdms"], out["ignored_files"]) == (1, 1.0, 2)
    assert out["duplicates"] == []


def test_a_route_in_two_files_counts_once_and_is_shown(tmp_path, capsys):
    first = result(tmp_path / "a.json", "1")
    second = shutil.copy(first, tmp_path / "b.json")
    assert score(first, second, "--json", tmp_path / "out.json") == 0
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["num_routes"] == 1 and out["duplicates"][0]["left_out"] == str(second)
    assert f"{second} left out" in capsys.readouterr().out


def test_routes_that_the_route_file_names_and_no_file_holds_score_zero(tmp_path):
    place = '<waypoints><position x="0" y="0" z="0"/><position x="9" y="0" z="0"/></waypoints>'
    routes = "".join(
        f'<route id="{name}" town="T">{place}<scenarios><scenario type="{kind}"/></scenarios></route>'
        for name, kind in (("1", "Accident"), ("2", "Accident"))
    )
    (tmp_path / "r.xml").write_text(f"<routes>{routes}</routes>")
    file = result(tmp_path / "a.json", "1", "3")
    out = tmp_path / "out.json"
    assert score(file, "--routes", tmp_path / "r.xml", "--json", out) == 0
    read = json.loads(out.read_text())
    assert (read["driving_score"], read["missing_routes"]) == (50.0, ["2"])
    assert read["unexpected_routes"] == [{"route": "3", "file": str(file)}]
    # The route file's type of scenario counts, of missing routes too.
    assert read["abilities"]["Overtaking"] == 50.0
    assert read["bench2drive_compat"]["abilities"]["Overtaking"] == 100.0


@pytest.mark.parametrize("beside", [True, False])
def test_comfort_comes_from_motion_logs_beside_the_file_or_in_a_named_folder(tmp_path, beside):
    file = result(tmp_path / "runs" / "a.json", "1", "2")
    folder = file.parent if beside else tmp_path / "motion"
    calm = {
        "acceleration": [0.0, 0.0, 0.0],
        "angular_velocity": [0.0, 0.0, 10.0],
        "forward_vector": [1.0, 0.0, 0.0],
        "right_vector": [0.0, 1.0, 0.0],
    }
    (folder / "drive_1").mkdir(parents=True)
    (folder / "drive_1" / "metric_info.json").write_text(json.dumps({str(i): calm for i in range(45)}))
    out = tmp_path / "out.json"
    assert score(file, "--json", out, *([] if beside else ["--metric-info", folder])) == 0
    read = json.loads(out.read_text())
    # 10 °/s is gentle; taken for radians it is not.
    assert (read["comfort"], read["bench2drive_compat"]["comfort"]) == (100.0, 0.0)
    assert [row["comfort"] for row in read["routes"]] == [100.0, None]


def test_the_real_result_files_are_scored_whole(real_data, tmp_path):
    out = tmp_path / "out.json"
    assert score(real_data / "known_answers" / "bench2drive", "--json", out) == 0
    read = json.loads(out.read_text())
    assert (read["num_routes"], read["num_records"]) == (113, 110)
    assert len(read["without_record"]) == 3 and set(read["missing_routes"]) == {"25381", "26393", "26956"}
    assert read["driving_score"] == pytest.approx(sum(row["score"] for row in read["routes"]) / 113)
    assert not any(row.get("disagrees") for row in read["routes"])


@pytest.mark.parametrize(("completion", "rate"), [(40.0, 0.0), (60.0, 100.0)])
def test_a_failed_drive_counts_for_the_traffic_signs_from_behind_its_junction_on(
    real_data, tmp_path, completion, rate
):
    # A right turn in Town05, 74 m long, whose junction begins at 30.5 m.
    turn = {"scenario_name": "SignalizedJunctionRightTurn_1", "status": "Failed - Agent got blocked"}
    scores = {"score_route": completion, "score_penalty": 1.0}
    file = result(tmp_path / "a.json", "26966", **turn, scores=scores)
    routes, out = real_data / "benchmarks/bench2drive/bench2drive220_dev.xml", tmp_path / "out.json"
    assert score(file, "--routes", routes, "--maps", real_data / "maps/carla", "--json", out) == 0
    read = json.loads(out.read_text())
    (row,) = [row for row in read["routes"] if row["file"]]
    assert row["passed_junction"] == (rate == 100.0)
    assert read["bench2drive_compat"]["abilities"]["Traffic Signs"] == rate


@pytest.mark.slow
def test_maps_decide_which_failed_drives_count_for_the_traffic_signs(real_data, tmp_path):
    out = tmp_path / "out.json"
    routes = real_data / "benchmarks/bench2drive/bench2drive220_dev.xml"
    files = real_data / "known_answers" / "bench2drive"
    assert score(files, "--routes", routes, "--json", out) == 0
    low, high = json.loads(out.read_text())["ability_bounds"]["Traffic Signs"]
    assert score(files, "--routes", routes, "--maps", real_data / "maps/carla", "--json", out) == 0
    assert low < high and low <= json.loads(out.read_text())["abilities"]["Traffic Signs"] <= high
