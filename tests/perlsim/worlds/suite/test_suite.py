"""Examinations on routes of small made maps: criteria, records, and the command."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import VALID, Scene, X
from perlsim.cli import main
from perlsim.errors import PerlsimError
from perlsim.metrics.bench2drive import read_results
from perlsim.output import as_json
from perlsim.policies import policy_of
from perlsim.sim.agents import agents_of
from perlsim.sim.types import Plan
from perlsim.vocabulary import AgentType, LightState
from perlsim.worlds.actors import Script
from perlsim.worlds.actors.script import standing
from perlsim.worlds.actors.scripted import stack_scripts
from perlsim.worlds.routes import load
from perlsim.worlds.routes.graph import TownGraph
from perlsim.worlds.suite.criteria import CHECKPOINTS, Infraction, Status
from perlsim.worlds.suite.drive import Examination
from perlsim.worlds.suite.records import record_of, result_file, speed_ratios
from perlsim.worlds.suite.scene import MAX_STEPS, bank_of, case_of
from perlsim.worlds.towns import load_town

LANE = (
    '<lane id="{0}" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>'
    '<roadMark sOffset="0" type="solid"/></lane>'
)
LIGHT = (
    '<signals><signal id="7" s="60" t="-5" type="1000001" dynamic="yes" orientation="+">'
    '<validity fromLane="-1" toLane="-1"/></signal></signals>'
)
TOWN = (
    '<OpenDRIVE><header revMajor="1" revMinor="4"/><road id="1" length="200" junction="-1"><link/>'
    '<planView><geometry s="0" x="0" y="0" hdg="0" length="200"><line/></geometry></planView><lanes>'
    f'<laneSection s="0"><left>{LANE.format(1)}</left><center><lane id="0" type="none">'
    f'<roadMark sOffset="0" type="broken"/></lane></center><right>{LANE.format(-1)}</right></laneSection>'
    "</lanes>%s</road></OpenDRIVE>"
)
ROUTE = (
    '<route id="{0}" town="Small"><waypoints><position x="10" y="1.75" z="0"/>'
    '<position x="{1}" y="1.75" z="0"/></waypoints><scenarios>{2}</scenarios></route>'
)
SCENARIO = '<scenario name="ControlLoss_1" type="ControlLoss"><trigger_point x="20" y="1.75" z="0" yaw="0"/></scenario>'


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blind:
    """Drives on at a speed [m/s], towards an angle [rad] at its left; looks at nothing."""

    speed: float = 8.0
    aside: float = 0.0
    privileged: ClassVar[bool] = True
    replays_log: ClassVar[bool] = False

    def init(self, scene, start, key):
        return ()

    def act(self, carry, observation, key):
        arc = 2.0 * jnp.arange(20.0)
        path = jnp.stack([arc * jnp.cos(self.aside), arc * jnp.sin(self.aside)], 1)
        return carry, Plan.ahead(path, 2.0, jnp.full(20, self.speed, jnp.float32))


@pytest.fixture
def files(tmp_path):
    """A folder with the town ``Small``, and a file of two routes on it."""
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "Small.xodr").write_text(TOWN % "")
    routes = tmp_path / "routes.xml"
    routes.write_text(f"<routes>{ROUTE.format(1, 110, SCENARIO)}{ROUTE.format(2, 90, '')}</routes>")
    return maps, routes


def cases_on(tmp_path, extra="", forced_green=False):
    (tmp_path / "Small.xodr").write_text(TOWN % extra)
    (tmp_path / "routes.xml").write_text(f"<routes>{ROUTE.format(1, 110, SCENARIO)}</routes>")
    town = load_town(tmp_path / "Small.xodr", cache=tmp_path / "cache")
    routes = load.load(tmp_path / "routes.xml", lambda _: TownGraph(town.map.road.lanes))
    return [case_of(route, town, forced_green=forced_green) for route in routes]


def driven(cases, policy):
    """Drives of three cases, the last given one repeated: all tests share one compiled program a policy."""
    cases = [*cases, *[cases[-1]] * (3 - len(cases))]
    return Examination(policy, agents_of("constant_velocity"))(cases, bank_of(cases, observed=False))


def with_road_user(case, ahead, kind):
    """The case with a road user that stands on the route, ``ahead`` m from its start."""
    tracks = case.scenario.tracks
    added = replace(
        tracks,
        position=np.concatenate([tracks.position, tracks.position + np.float32([ahead, 0, 0])]),
        heading=np.repeat(tracks.heading, 2, 0),
        velocity=np.repeat(tracks.velocity, 2, 0),
        size=np.float32([tracks.size[0], [1.0, 1.0, 1.0]]),
        kind=np.array([tracks.kind[0], kind], np.int8),
        valid=np.repeat(tracks.valid, 2, 0),
        ids=("ego", "cone"),
    )
    return replace(case, scenario=case.scenario.replace(tracks=added))


def command(*args):
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    return caught.value.code


def test_the_command_writes_result_files_that_score_reads(files, tmp_path):
    maps, routes = files
    run = tmp_path / "run"
    suite = (
        "eval",
        "--suite",
        "bench2drive-vector",
        "--routes",
        routes,
        "--maps",
        maps,
        "--policy",
        "idm_route",
    )
    assert command(*suite, "-o", run, "--json", tmp_path / "a.json") == 0
    assert command("score", run / "idm_route", "--routes", routes, "--json", tmp_path / "b.json") == 0
    ours, scored = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert scored["driving_score"] == ours["policies"]["idm_route"]["driving_score"] == pytest.approx(100.0)
    assert scored["comfort"] == pytest.approx(ours["policies"]["idm_route"]["comfort"])
    assert scored["efficiency"] is None  # nobody else drives
    content = json.loads((run / "idm_route" / "bench2drive-vector.json").read_text())
    records = content["_checkpoint"]["records"]
    assert [record["status"] for record in records] == ["Perfect", "Perfect"]
    assert "ControlLoss cannot be staged" in records[0]["notes"][0] and records[1]["notes"] == []
    assert {record["suite"] for record in records} == {content["suite"]} == {"bench2drive-vector"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--suite", "carla"), "unknown suite"),
        (("--suite", "dos-vector"), "needs routes and maps"),
    ],
)
def test_the_command_refuses_what_it_cannot_run(options, says, capsys):
    assert command("eval", "--policy", "idm_route", *options) == 2
    assert says in capsys.readouterr().err


def test_a_policy_that_repeats_the_log_is_refused():
    with pytest.raises(PerlsimError, match="no log"):
        Examination(policy_of("log_replay"), agents_of("constant_velocity"))


def test_who_stands_is_blocked_after_a_minute(tmp_path):
    cases = cases_on(tmp_path)
    drives = driven(cases, Blind(speed=0.0))
    record = record_of(cases[0], drives, 0, "bench2drive-vector")
    assert record["status"] == "Failed - Agent got blocked"
    assert record["meta"]["duration_game"] == pytest.approx(60.0, abs=0.2)
    assert record["scores"]["score_route"] == pytest.approx(0.0, abs=0.1)
    assert len(record["infractions"]["vehicle_blocked"]) == 1


def test_who_leaves_the_route_is_outside_and_then_stopped(tmp_path):
    cases = cases_on(tmp_path)
    drives = driven(cases, Blind(aside=0.1))
    record = record_of(cases[0], drives, 0, "bench2drive-vector")
    assert record["status"] == "Failed - Agent deviated from the route"
    assert record["infractions"]["outside_route_lanes"] and record["infractions"]["route_dev"]
    assert drives.judged.outside[0] < drives.judged.driven[0]
    assert 0 < record["scores"]["score_penalty"] < 1


def test_driving_through_somebody_counts_once(tmp_path):
    (case,) = cases_on(tmp_path)
    expected = {
        AgentType.PEDESTRIAN: ("collisions_pedestrian", 0.5),
        AgentType.CYCLIST: ("collisions_vehicle", 0.6),
        AgentType.STATIC: ("collisions_layout", 0.65),
    }
    cases = [with_road_user(case, 40.0, kind) for kind in expected]
    drives = driven(cases, Blind())
    for idx, (key, factor) in enumerate(expected.values()):
        record = record_of(cases[idx], drives, idx, "bench2drive-vector")
        assert record["status"] == "Completed"
        found = {kind: texts for kind, texts in record["infractions"].items() if texts}
        found.pop("min_speed_infractions", None)
        assert list(found) == [key] and len(found[key]) == 1 and "type=cone" in found[key][0]
        assert record["scores"]["score_penalty"] == pytest.approx(factor)


def test_a_long_contact_counts_again_after_five_seconds_and_metres(tmp_path):
    (case,) = cases_on(tmp_path)
    case = with_road_user(case, 30.0, AgentType.TRUCK)
    tracks = case.scenario.tracks
    long = replace(tracks, size=np.float32([tracks.size[0], [30.0, 1.0, 1.0]]))
    drives = driven([replace(case, scenario=case.scenario.replace(tracks=long))], Blind(speed=3.0))
    times = np.flatnonzero(drives.seen.infractions[0] & Infraction.VEHICLE) * 0.1
    assert len(times) == 3
    np.testing.assert_allclose(np.diff(times), 5.0, atol=0.11)


def test_running_a_red_light_counts_once(tmp_path):
    (case,) = cases_on(tmp_path, LIGHT)
    assert len(case.lights)
    states = (LightState.RED, LightState.GREEN, LightState.YELLOW)
    cases = [replace(case, lights=np.full_like(case.lights, state)) for state in states]
    drives = driven(cases, Blind())
    records = [record_of(cases[idx], drives, idx, "bench2drive-vector") for idx in range(3)]
    assert [len(record["infractions"]["red_light"]) for record in records] == [1, 0, 0]


def test_lights_are_green_where_they_are_forced(tmp_path):
    (case,) = cases_on(tmp_path, LIGHT, forced_green=True)
    assert len(case.lights) and (case.lights == LightState.GREEN).all()


def test_lights_go_on_for_the_whole_examination(tmp_path):
    (case,) = cases_on(tmp_path, LIGHT)
    assert case.lights.shape[1] == MAX_STEPS + 1 and len(set(case.lights[0].tolist())) > 1
    bank = jax.tree.map(jnp.asarray, bank_of([case]).bank)
    for step in (0, 500, MAX_STEPS, MAX_STEPS + 10):
        shown = Scene(bank, jnp.int32(0)).lights_at(jnp.int32(step))
        assert shown[0] == case.lights[0, min(step, MAX_STEPS)]


def test_results_do_not_depend_on_the_batch(tmp_path):
    (case,) = cases_on(tmp_path)
    alone = driven([case], policy_of("idm_route"))
    together = driven([case, with_road_user(case, 40.0, AgentType.STATIC), case], policy_of("idm_route"))
    np.testing.assert_allclose(together.ego[0], alone.ego[0], atol=1e-3)
    assert together.judged.status.tolist() == [Status.COMPLETED, Status.BLOCKED, Status.COMPLETED]


def test_the_road_users_of_a_script_keep_their_order_and_are_where_they_begin(tmp_path):
    (tmp_path / "Small.xodr").write_text(TOWN % "")
    (tmp_path / "routes.xml").write_text(f"<routes>{ROUTE.format(1, 110, '')}</routes>")
    town = load_town(tmp_path / "Small.xodr", cache=tmp_path / "cache")
    (route,) = load.load(tmp_path / "routes.xml", lambda _: TownGraph(town.map.road.lanes))
    far, near = (
        standing(AgentType.STATIC, (1.0, 1.0, 1.0), np.array([x, -1.75, 0.0, 0.0])) for x in (80.0, 50.0)
    )
    case = case_of(route, town, Script((far, near)))
    host = bank_of([case] * 3, observed=False)
    rows = host.bank.tracks[0, 0]
    np.testing.assert_allclose(rows[X, 1:3], [70.0, 40.0], atol=0.1)
    assert rows[VALID, :3].all() and not rows[VALID, 3:].any()
    agents = stack_scripts([case.script] * 3, [case.scenario] * 3, host.info.num_agents)
    drives = Examination(policy_of("idm_route"), agents)([case] * 3, host)
    assert drives.judged.status[0] == Status.BLOCKED
    assert 25.0 < drives.judged.best_arc[0] < 38.0


def test_speeds_are_compared_where_there_was_traffic():
    speeds = np.zeros((3, CHECKPOINTS), np.float32)
    speeds[:, 0] = 20.0, 40.0, 4.0
    speeds[:, 1] = 10.0, 0.0, 4.0
    speeds[:, 5] = 30.0, 20.0, 2.0
    assert speed_ratios(speeds, 1.0) == pytest.approx([50.0, 150.0])
    assert speed_ratios(speeds, 0.2) == pytest.approx([50.0])


def test_a_result_file_holds_what_the_drive_was(tmp_path):
    cases = cases_on(tmp_path)
    drives = driven(cases, Blind())
    path = tmp_path / "results.json"
    path.write_bytes(
        as_json(result_file([record_of(cases[0], drives, 0, "dos-vector")], "dos-vector", "blind"))
    )
    (record,) = read_results(path).records
    assert (record.route, record.scenario, record.town) == ("1", "ControlLoss", "Small")
    assert record.success and record.completion == 100.0
    assert math.isclose(record.penalty, record.stated_penalty)
    assert record.length == pytest.approx(100.0, abs=2.5)
