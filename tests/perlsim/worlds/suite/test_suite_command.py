"""``perlsim eval --suite`` on routes of a small made town."""

import json
import re

import pytest
from test_suite import ROUTE, SCENARIO, TOWN

from perlsim import suite_report
from perlsim.cli import main

# A vehicle that has broken down, with traffic on the lane beside it.
ACCIDENT = (
    '<scenario name="ParkedObstacleTwoWays_1" type="ParkedObstacleTwoWays">'
    '<trigger_point x="20" y="1.75" z="0" yaw="0"/>'
    '<distance value="20"/><frequency from="20" to="80"/></scenario>'
)


@pytest.fixture
def files(tmp_path):
    """A folder with the town ``Small``, and a file of three routes on it: a free one between two blocked ones."""
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "Small.xodr").write_text(TOWN % "")
    routes = tmp_path / "routes.xml"
    texts = (ROUTE.format(1, 110, ACCIDENT), ROUTE.format(2, 90, SCENARIO), ROUTE.format(3, 110, ACCIDENT))
    routes.write_text(f"<routes>{''.join(texts)}</routes>")
    return maps, routes


def command(*args):
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    return caught.value.code


def suite(maps, routes, *options):
    named = ("--routes", *(routes if isinstance(routes, tuple) else (routes,)))
    return command("eval", "--suite", "bench2drive-vector", *named, "--maps", maps, *options)


def test_a_run_is_kept_scored_watched_and_not_run_again(files, tmp_path, capsys):
    maps, routes = files
    run, policies = tmp_path / "run", ("--policy", "idm_route,constant_velocity")
    assert suite(maps, routes, *policies, "-o", run) == 0
    printed = capsys.readouterr().out
    results = json.loads((run / "results.json").read_text())
    own = results["policies"]["idm_route"]
    assert [failure["route"] for failure in own["failures"]] == ["1", "3"]
    assert own["failures"][0]["reasons"][0]["what"] == "blocked"
    assert own["types"]["ParkedObstacleTwoWays"]["success_rate"] == 0.0
    assert f"route 1 ParkedObstacleTwoWays: blocked at {own['failures'][0]['time']:.2f} s" in printed
    # Each link leads to a scene of a page of the run.
    for failure in own["failures"]:
        page, scene = re.fullmatch(r"(view/idm_route\.html)#scene=(\d+)&t=[\d.]+", failure["link"]).groups()
        assert failure["route"] == ["1", "3"][int(scene)] and (run / page).is_file()
        assert failure["link"].replace("&", "&amp;") in (run / "results.html").read_text()
    # The viewer shows the drives of both policies beside each other.
    assert command("view", run, "--policy", "idm_route,constant_velocity", "-o", tmp_path / "page.html") == 0
    assert "3 scenes" in capsys.readouterr().out
    for name in ("idm_route", "constant_velocity"):
        assert command("score", run / name, "--json", tmp_path / "score.json") == 0
        scored = json.loads((tmp_path / "score.json").read_text())["driving_score"]
        assert scored == results["policies"][name]["driving_score"]
    capsys.readouterr()
    assert suite(maps, routes, *policies, "-o", run) == 0
    assert "finished before" in capsys.readouterr().out
    assert suite(maps, routes, *policies, "-o", run, "--seed", "1") == 2
    assert "seed = 0" in capsys.readouterr().err


def test_a_run_that_was_killed_goes_on_with_the_policies_that_are_left(files, tmp_path, capsys, monkeypatch):
    maps, routes = files
    run, policies = tmp_path / "run", ("--policy", "idm_route,constant_velocity")

    def fails(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(suite_report, "finish", fails)
        assert suite(maps, routes, *policies, "-o", run) == 130
    (run / "parts" / "constant_velocity.json").unlink()
    capsys.readouterr()
    assert suite(maps, routes, *policies, "-o", run) == 0
    printed = capsys.readouterr().out
    assert "idm_route: taken from the run folder" in printed
    assert "constant_velocity: driven in" in printed


def test_batches_give_what_all_routes_at_once_give(files, tmp_path):
    maps, routes = files
    for name, batch in (("whole", "9"), ("parts", "2")):
        assert suite(maps, routes, "--policy", "idm_route", "--batch", batch, "--json", tmp_path / name) == 0
    rows = []
    for name in ("whole", "parts"):
        own = json.loads((tmp_path / name).read_text())["policies"]["idm_route"]
        rows.append([{key: row[key] for key in row if key != "file"} for row in own["routes"]])
    assert len(rows[0]) == 3 and rows[0] == rows[1]


def test_routes_are_chosen_by_type_and_number_and_files_are_told_apart(files, tmp_path, capsys):
    maps, routes = files
    assert (
        suite(maps, routes, "--policy", "idm_route", "--types", "ControlLoss", "--json", tmp_path / "a") == 0
    )
    (row,) = json.loads((tmp_path / "a").read_text())["policies"]["idm_route"]["routes"]
    assert row["route"] == "2"
    other = tmp_path / "other.xml"
    other.write_text(routes.read_text())
    options = ("--policy", "idm_route", "--limit", "4", "--json", tmp_path / "b")
    assert suite(maps, (routes, other), *options) == 0
    rows = json.loads((tmp_path / "b").read_text())["policies"]["idm_route"]["routes"]
    assert {row["route"] for row in rows} == {"routes.1", "routes.2", "routes.3", "other.1"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--types", "Acident"), "did you mean"),
        (("--types", "Accident"), "no route has a scenario"),
        (("--limit", "0"), "--limit"),
        (("--batch", "0"), "--batch"),
    ],
)
def test_options_that_cannot_hold_are_refused(files, options, says, capsys):
    assert suite(*files, "--policy", "idm_route", *options) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "<routes></routes>", "<OpenDRIVE></OpenDRIVE>", '{"a": 1}'])
def test_files_that_are_no_routes_are_named(files, tmp_path, content, capsys):
    wrong = tmp_path / "wrong.xml"
    wrong.write_text(content)
    assert suite(files[0], wrong, "--policy", "idm_route") == 2
    assert "wrong.xml" in capsys.readouterr().err
