"""``perlsim drive`` on a small made town: what it records, goes on with, and makes of routes."""

import json
import shutil

import numpy as np
import pytest
from small_town import ROUTE, SCENARIO, write_routes, write_town

from perlsim.bank import VALID
from perlsim.bank_build import build_bank
from perlsim.cli import main
from perlsim.policies import policy_of
from perlsim.sim.agents import agents_of
from perlsim.sim.core import SimConfig
from perlsim.sim.rollout import Episodes, RolloutConfig
from perlsim.store import ScenarioStore
from perlsim.trace import Tracer
from perlsim.worlds.routes import leaderboard2

OFF_ROUTE = SCENARIO.format("HardBreakRoute", "").replace('x="20" y="1.75"', 'x="520" y="-40"')


def command(*args):
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    return caught.value.code


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the town, and a file of three routes: free, with a braking leader, with a scenario elsewhere."""
    folder = tmp_path_factory.mktemp("world")
    routes = write_routes(
        folder / "routes.xml",
        ROUTE.format("free", 330, ""),
        ROUTE.format("brakes", 160, SCENARIO.format("HardBreakRoute", "")),
        ROUTE.format("nobody", 160, OFF_ROUTE),
    )
    return write_town(folder / "maps"), routes


def drive(files, out, *options):
    maps, routes = files
    where = "--maps", maps, "--routes", routes, "-o", out
    return command("drive", *where, "--policy", "idm_route", *options)


@pytest.fixture(scope="module")
def recorded(files, tmp_path_factory):
    """A store with the drives of the three routes, and the totals."""
    folder = tmp_path_factory.mktemp("recorded")
    assert drive(files, folder / "store", "--keep", "all", "--json", folder / "totals.json") == 0
    return folder / "store", json.loads((folder / "totals.json").read_text())


def test_drives_become_scenes_of_a_store_with_what_is_known_of_them(recorded):
    store, totals = ScenarioStore.open(recorded[0]), recorded[1]
    assert totals["routes"] == 3 and totals["scenes"] == len(store) and sum(totals["ends"].values()) == 3
    assert list(totals["not_staged"].values()) == [1]
    assert not list(store.duplicates)  # routes on the same lanes are no copies of each other
    assert totals["metres"] > 400 and totals["seconds"] == pytest.approx(sum(s.duration for s in store))
    by_route = {}
    for scene in store:
        assert scene.duration <= 20.0 and scene.place == "Small" and scene.dt == 0.1 and scene.has_ego
        notes = dict(note.split(": ", 1) for note in scene.notes)
        assert notes["policy"] == "idm_route"
        by_route.setdefault(notes["route"], []).append(scene)
    assert set(by_route) == {"free", "brakes", "nobody"}
    assert len(by_route["free"]) > 1 and len({scene.recording_id for scene in by_route["free"]}) == 1
    (leader,) = (s for s in by_route["brakes"] if s.start_time == 0)
    assert "scenario: HardBreakRoute" in leader.notes and leader.tracks.num_agents > 1
    assert any(note.startswith("not staged: HardBreakRoute") for note in by_route["nobody"][0].notes)


def test_replaying_a_recorded_drive_gives_the_drive(recorded):
    scenes = list(ScenarioStore.open(recorded[0]))
    # As examinations drive.
    config = RolloutConfig(sim=SimConfig("bench2drive", "carla"), horizon=80, replan_every=5)
    tracer = Tracer(config, agents_of("log"), policy_of("log_replay"), ("ego", "agents"))
    host = build_bank(scenes)
    count = np.arange(len(scenes), dtype=np.int32)
    trace = tracer(tracer.put(host.bank), Episodes(count, 0 * count, count))
    for scene, ego, rows in zip(scenes, trace.ego, trace.agents, strict=True):
        logged = scene.tracks.position[scene.ego.idx, :81]
        steps = len(logged)
        error = np.hypot(*(ego[:steps, :2] - logged[:, :2]).T)
        assert error.max() < 1.0 and error.mean() < 0.4
        others = np.arange(scene.tracks.num_agents) != scene.ego.idx
        there = rows[:steps, VALID, 1 : 1 + others.sum()].sum(1)
        np.testing.assert_array_equal(there, scene.tracks.valid[others, :81].sum(0))


def test_info_view_and_rollout_take_the_store(recorded, tmp_path, capsys):
    store = recorded[0]
    assert command("info", store, "--verify") == 0
    assert "3 logs" in capsys.readouterr().out
    assert command("view", store, "-o", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert command("rollout", "--store", store, "--vmap", "8", "--horizon", "20") == 0


def test_the_same_command_goes_on_where_a_killed_one_ended(files, recorded, tmp_path, capsys):
    whole = ScenarioStore.open(recorded[0])
    assert drive(files, recorded[0], "--keep", "all") == 0
    assert "already recorded: 3 routes" in capsys.readouterr().out
    assert len(ScenarioStore.open(recorded[0])) == len(whole)
    # Killed before its first shard was named: what it wrote is as if it were not there.
    broken = tmp_path / "store"
    ScenarioStore.create(broken)
    shutil.copy(recorded[0] / "shards" / "00000.arrow", broken / "shards")
    assert len(ScenarioStore.open(broken)) == 0
    assert drive(files, broken, "--keep", "all") == 0
    ids = [scene.scenario_id for scene in ScenarioStore.open(broken)]
    assert sorted(ids) == sorted(scene.scenario_id for scene in whole)


def test_scenes_of_a_drive_that_was_not_noted_as_done_are_not_stored_twice(files, recorded, tmp_path):
    whole = ScenarioStore.open(recorded[0])
    part = ScenarioStore.create(tmp_path / "store")
    part.append([whole[0], whole[1]])
    assert drive(files, part.path, "--keep", "all") == 0
    ids = [scene.scenario_id for scene in ScenarioStore.open(part.path)]
    assert len(ids) == len(set(ids)) == len(whole)


def test_moved_starts_make_other_drives_of_the_same_recordings(files, recorded):
    plain, moved = ScenarioStore.open(recorded[0]), recorded[0].parent / "moved"
    assert drive(files, moved, "--keep", "all", "--perturb-start", 0.5, 5, 10, 8) == 0
    others = list(ScenarioStore.open(moved))
    assert {s.recording_id for s in others} == {s.recording_id for s in plain}
    assert not {s.scenario_id for s in others} & {s.scenario_id for s in plain}
    assert farthest_aside(plain) < 0.1 < farthest_aside(others)
    # And comes back to the route.
    assert all(abs(s.tracks.position[s.ego.idx, -1, 1]) < 0.1 for s in others)


def farthest_aside(scenes):
    return max(np.abs(scene.tracks.position[scene.ego.idx, :, 1]).max() for scene in scenes)


@pytest.mark.slow
def test_noise_leads_aside_and_lets_the_policy_come_back(files, tmp_path):
    assert drive(files, tmp_path / "store", "--keep", "all", "--policy-noise", 0.5, 0.2) == 0
    scenes = list(ScenarioStore.open(tmp_path / "store"))
    assert 0.1 < farthest_aside(scenes) < 1.0
    free = np.concatenate([s.tracks.position[s.ego.idx, :, 1] for s in scenes if "route: free" in s.notes])
    first = int(np.argmax(np.abs(free) > 0.1))
    assert (np.abs(free[first:]) < 0.05).any()


def test_generated_routes_are_saved_before_they_are_driven(files, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("perlsim.drive_command._Driver.__call__", interrupted)
    saved = tmp_path / "generated.xml"
    options = ("--generate", 2, "--types", "HardBreakRoute", "--save-routes", saved)
    assert command("drive", "--maps", files[0], "-o", tmp_path / "store", *options) == 130
    assert [route.scenarios[0].kind for route in leaderboard2.read(saved)] == ["HardBreakRoute"] * 2
    assert len(ScenarioStore.open(tmp_path / "store")) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "either routes or how many"),
        (("--routes", "r.xml", "--generate", 2), "either routes or how many"),
        (("--routes", "r.xml", "--save-routes", "s.xml"), "only generated"),
        (("--generate", 1, "--types", "Nonsense"), "no rule places Nonsense"),
        (("--generate", 1, "--towns", "Nowhere"), "no OpenDRIVE file of Nowhere"),
        (("--generate", 1, "--policy", "nobody"), "unknown policy"),
        (("--generate", 1, "--window", -1), "--window"),
        (("--generate", 1, "--policy-noise", -1, 0), "--policy-noise"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(files, tmp_path, capsys, options, says):
    assert command("drive", "--maps", files[0], "-o", tmp_path / "store", *options) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
