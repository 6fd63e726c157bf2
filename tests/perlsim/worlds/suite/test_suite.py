"""Examinations on routes of small made maps: criteria, records, and the command."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import COS, SIN, VALID, Scene, X
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
from perlsim.worlds.suite.criteria import CHECKPOINTS, TICK, Infraction, Status, half_way
from perlsim.worlds.suite.drive import Examination
from perlsim.worlds.suite.records import record_of, result_file, speed_ratios, timeouts
from perlsim.worlds.suite.scene import MAX_STEPS, bank_of, case_of
from perlsim.worlds.suite.stages import END_DISTANCE, Stage, stage_of
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
ELSEWHERE = SCENARIO.replace('x="20" y="1.75"', 'x="520" y="-40"')


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Watchful:
    """Drives on until it sees somebody on foot; then it stands still for good."""

    privileged: ClassVar[bool] = False
    replays_log: ClassVar[bool] = False

    def init(self, scene, start, key):
        return jnp.bool_(False)

    def act(self, warned, observation, key):
        kinds = observation.agents[:, 8]
        warned |= (observation.agents_valid & (kinds == AgentType.PEDESTRIAN)).any()
        path = jnp.stack([2.0 * jnp.arange(20.0), jnp.zeros(20)], 1)
        return warned, Plan.ahead(path, 2.0, jnp.where(warned, 0.0, jnp.full(20, 8.0)))


@pytest.fixture
def files(tmp_path):
    """A folder with the town ``Small``, and a file of two routes on it."""
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "Small.xodr").write_text(TOWN % "")
    routes = tmp_path / "routes.xml"
    routes.write_text(f"<routes>{ROUTE.format(1, 110, ELSEWHERE)}{ROUTE.format(2, 90, '')}</routes>")
    return maps, routes


def cases_on(tmp_path, extra="", scripts=(None,), **options):
    """A case for each script, on the same route from x = 10 to 110 m along the lane at y = −1.75 m."""
    (tmp_path / "Small.xodr").write_text(TOWN % extra)
    (tmp_path / "routes.xml").write_text(f"<routes>{ROUTE.format(1, 110, SCENARIO)}</routes>")
    town = load_town(tmp_path / "Small.xodr", cache=tmp_path / "cache")
    (route,) = load.load(tmp_path / "routes.xml", lambda _: TownGraph(town.map.road.lanes))
    return [case_of(route, town, script, **options) for script in scripts]


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
    assert "ControlLoss" in records[0]["notes"][0] and records[1]["notes"] == []
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
    times = np.flatnonzero(drives.seen.infractions[0] & Infraction.VEHICLE) * TICK
    assert len(times) == 3
    np.testing.assert_allclose(np.diff(times), 5.0, atol=0.06)


def test_contacts_are_seen_at_the_tick_at_which_they_begin(tmp_path):
    (case,) = cases_on(tmp_path)
    cases = [with_road_user(case, ahead, AgentType.PEDESTRIAN) for ahead in (40.0, 40.2, 40.4)]
    drives = driven(cases, Blind())
    touched = [int(np.flatnonzero(drives.seen.infractions[idx])[0]) for idx in range(3)]
    half_length = case.scenario.tracks.size[0, 0] / 2
    for idx, ahead in enumerate((40.0, 40.2, 40.4)):
        # The ego moves by the speed at the beginning of each tick, which changes little within a step.
        x = np.concatenate([[0.0], drives.ego[idx, :MAX_STEPS, 0]])
        at_ticks = np.interp(np.arange(1, 401) / 2, np.arange(201), x[:201])
        expected = np.flatnonzero(at_ticks + half_length > ahead - 0.5)[0]
        assert abs(touched[idx] - expected) <= (abs(at_ticks[expected] + half_length - ahead + 0.5) < 0.02)
    assert {tick % 2 for tick in touched} == {0, 1}


def test_road_users_are_half_way_between_two_steps_where_they_are_at_both():
    before, after = np.zeros((2, 8, 3), np.float32)
    before[X], after[X] = (0.0, 1.0, 2.0), (1.0, 1.0, 9.0)
    before[COS], after[SIN] = 1.0, 1.0
    before[VALID], after[VALID] = (1.0, 1.0, 0.0), 1.0
    rows = np.asarray(half_way(jnp.asarray(before), jnp.asarray(after)))
    np.testing.assert_allclose(rows[X, :2], [0.5, 1.0])
    np.testing.assert_allclose(rows[[COS, SIN]], math.sqrt(0.5), atol=1e-6)
    assert rows[VALID].tolist() == [1.0, 1.0, 0.0]


def test_an_emergency_vehicle_must_not_be_left_behind(tmp_path):
    def script(x, emergency=True):
        actor = standing(AgentType.VEHICLE, (5.0, 2.0, 1.6), np.array([x, 1.75, 0.0, 0.0]))
        return Script((replace(actor, emergency=emergency),))

    cases = cases_on(tmp_path, scripts=(script(5.0), script(130.0), script(5.0, emergency=False)))
    assert [case.emergency for case in cases] == [1, 1, -1]
    drives = driven(cases, Blind())
    records = [record_of(case, drives, idx, "bench2drive-vector") for idx, case in enumerate(cases)]
    kind = "yield_emergency_vehicle_infractions"
    assert [len(record["infractions"][kind]) for record in records] == [1, 0, 0]
    assert records[0]["scores"]["score_penalty"] == pytest.approx(0.7)


def test_policies_without_privilege_do_not_see_whom_others_hide(tmp_path):
    walker = standing(AgentType.PEDESTRIAN, (0.5, 0.5, 1.8), np.array([60.0, -1.5, 0.0, 0.0]))
    lorry = standing(AgentType.TRUCK, (9.0, 2.6, 3.2), np.array([50.0, -1.5, 0.0, 0.0]))
    cases = cases_on(tmp_path, scripts=(Script((walker,)), Script((walker, lorry)), Script((lorry,))))
    host = bank_of(cases)
    drives = Examination(Watchful(), agents_of("constant_velocity"))(cases, host)
    seen_at_once, hidden, nobody = drives.judged.best_arc.tolist()
    assert seen_at_once < 1.0
    # The walker stands 50 m ahead and comes into view beside the lorry's front, 44.5 m ahead.
    assert 30.0 < hidden < 60.0
    assert nobody > 95.0


def test_the_oncoming_lane_is_allowed_round_the_obstacle_only(tmp_path):
    (case,) = cases_on(tmp_path)
    tracks = case.scenario.tracks
    oncoming = replace(tracks, position=tracks.position + np.float32([0, 3.5, 0]))
    case = replace(case, scenario=case.scenario.replace(tracks=oncoming))
    stages = (), (Stage("AccidentTwoWays", 20.0, 60.0),), (Stage("Accident", 20.0, 60.0),)
    drives = driven([replace(case, stages=given) for given in stages], Blind())
    driven_metres = float(drives.judged.driven[0])
    assert driven_metres > 80.0
    np.testing.assert_allclose(
        drives.judged.outside, [driven_metres, driven_metres - 40.0, driven_metres], atol=1.0
    )


def test_a_scenario_with_an_obstacle_ends_behind_it(tmp_path):
    (case,) = cases_on(tmp_path)
    script = Script((standing(AgentType.VEHICLE, (5.0, 2.0, 1.6), np.array([50.0, -1.0, 0.0, 0.0])),))
    stage = stage_of("ParkedObstacle", 12.0, script, case.route)
    assert (stage.begin, stage.end) == (12.0, pytest.approx(41.0 + END_DISTANCE))
    assert stage_of("SignalizedJunctionLeftTurn", 12.0, script, case.route).end == math.inf


def test_who_does_not_pass_a_scenario_in_time_has_timed_it_out(tmp_path):
    (case,) = cases_on(tmp_path)
    case = replace(case, stages=(Stage("Accident", 1.0, 60.0), Stage("HardBreakRoute", 1.0)))
    drives = driven([case], Blind(speed=0.0))
    assert timeouts(case, drives, 0, timeout=50.0) == ["Accident"]
    assert timeouts(case, drives, 0) == []
    assert timeouts(case, driven([case], Blind()), 0, timeout=1.0) == []


def test_a_script_can_shift_the_lights(tmp_path):
    plain, shifted = cases_on(tmp_path, LIGHT, scripts=(None, Script(light_shift=7.0)))
    np.testing.assert_array_equal(shifted.lights[:, :-70], plain.lights[:, 70:])
    assert (shifted.lights != plain.lights).any()


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
