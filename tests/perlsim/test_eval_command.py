"""``perlsim eval`` and ``perlsim perturb``, end to end on embedded synthetic logs."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from perlsim.cli import Eval, Perturb
from perlsim.errors import FormatError, PerlsimError
from perlsim.perturb import ACROSS, ALONG, read_starts
from perlsim.runs import RunFolder, read_run
from perlsim.store import ScenarioStore

POLICIES = "log_replay,constant_velocity"
SUB_SCORES = [
    "no_at_fault_collisions",
    "drivable_area_compliance",
    "ego_progress",
    "time_to_collision",
    "comfort",
]
LOOP = ["collision", "at_fault_collision", "off_road", "red_light", "route_progress", "ade", "fde", "min_ttc"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run over six scenes; arguments, folder and the JSON asked for."""
    folder = tmp_path_factory.mktemp("eval")
    args = Eval(policy=POLICIES, scenes=6, seed=0, out=folder / "run", json=folder / "copy.json", rollouts=4)
    assert args.run() == 0
    return args, folder / "run", json.loads((folder / "copy.json").read_text())


def test_results_have_every_metric_with_its_interval_and_count(run):
    _, folder, content = run
    results = json.loads((folder / "results.json").read_text())
    assert content["policies"] == results["policies"]
    assert len(results["scenes"]) == 6
    for name in POLICIES.split(","):
        policy = results["policies"][name]
        assert policy["privileged"] is True
        assert set(policy["by_source"]) == {"synthetic"}
        for metric in ["pdms", "epdms", *SUB_SCORES, *LOOP]:
            entry = policy["metrics"][metric]
            assert set(entry) == {"mean", "low", "high", "count"}
            known = [s["policies"][name][metric] for s in results["scenes"]]
            known = [value for value in known if value is not None]
            assert entry["count"] == len(known)
            if known:
                assert entry["mean"] == pytest.approx(np.mean(known))
                assert entry["low"] is None or entry["low"] <= entry["mean"] <= entry["high"]


def test_what_a_scene_cannot_tell_is_null_and_not_a_number(run):
    """Scenes without lights have no traffic light compliance, and so no EPDMS."""
    _, _, content = run
    for scene in content["scenes"]:
        unlit = not scene["scenario_id"].startswith("signalised")
        own = scene["policies"]["log_replay"]
        assert (own["red_light"] is None) == unlit
        assert (own["epdms"] is None) == (own["traffic_light_compliance"] is None)


def test_the_log_drives_better_than_going_straight_on(run):
    means = {name: entry["metrics"] for name, entry in run[2]["policies"].items()}
    assert means["log_replay"]["no_at_fault_collisions"]["mean"] == 1.0
    assert means["log_replay"]["drivable_area_compliance"]["mean"] == 1.0
    assert means["log_replay"]["pdms"]["mean"] > means["constant_velocity"]["pdms"]["mean"]
    assert means["log_replay"]["fde"]["mean"] < 1.0 < means["constant_velocity"]["fde"]["mean"]


def test_the_run_folder_is_as_promised(run):
    args, folder, _ = run
    content = read_run(folder)
    assert content["kind"] == "eval"
    assert content["policies"] == POLICIES.split(",")
    assert content["horizon"] == 40
    page = (folder / "results.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http-equiv", "")
    assert not (folder / "parts").exists()
    for name in POLICIES.split(","):
        store = ScenarioStore.open(folder / "rollouts" / name)
        lines = [
            json.loads(line) for line in (folder / "rollouts" / f"{name}.jsonl").read_text().splitlines()
        ]
        assert [s.scenario_id for s in store] == [line["scene_id"] for line in lines]
        assert len(lines) == args.rollouts
        for scenario, line in zip(store, lines, strict=True):
            assert scenario.tracks.num_steps == args.horizon + 1
            assert len(line["log_ego"]) == args.horizon + 1
            assert [plan["t"] for plan in line["plans"]] == [0.5 * k for k in range(8)]
            start = scenario.tracks.position[scenario.ego.idx, 0, :2]
            assert np.hypot(*(np.array(line["log_ego"][0][:2]) - start)) < 0.01
            assert all(event["kind"].isupper() and 0 <= event["t"] <= 4 for event in line["events"])


def test_a_finished_run_is_shown_again_without_computing(run, capsys):
    args, _, _ = run
    before = time.perf_counter()
    assert args.run() == 0
    assert time.perf_counter() - before < 5
    shown = capsys.readouterr().out
    assert "finished before" in shown
    assert "log_replay*" in shown


def test_a_folder_of_other_settings_is_refused(run):
    args, _, _ = run
    with pytest.raises(PerlsimError, match="seed"):
        dataclasses.replace(args, seed=1).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "log_reply"}, "did you mean log_replay"),
        ({"policy": "log_replay,log_replay"}, "named twice"),
        ({"policy": "log_replay,"}, "empty"),
        ({"agents": "imd"}, "did you mean idm"),
        ({"store": Path("nowhere")}, "no scenario store here"),
        ({"split": "val"}, "no splits"),
        ({"horizon": 41}, "multiple"),
        ({"scenes": 2, "horizon": 400}, "no scene to score"),
    ],
)
def test_wrong_usage_is_told_with_a_way_out(changes, message):
    with pytest.raises(PerlsimError, match=message):
        Eval(**{"scenes": 2, **changes}).run()


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    path = tmp_path_factory.mktemp("perturb") / "starts.json"
    assert Perturb(out=path, scenes=3, per_scene=4, seed=5).run() == 0
    return path


def test_perturbed_starts_lie_around_the_log_and_differ(starts):
    from perlsim.readers.synthetic import generate

    logs = {log.scenario_id: log for log in generate(3, 5)}
    file = read_starts(starts)
    assert len(file.scenes) == 3
    for (_, name, start), stage in zip(file.scenes, file.stages, strict=True):
        assert stage.step == start + 40
        log = logs[name]
        place, heading = (
            log.tracks.position[log.ego.idx, stage.step],
            log.tracks.heading[log.ego.idx, stage.step],
        )
        apart = stage.poses[:, :2] - place[:2]
        along = apart @ [np.cos(heading), np.sin(heading)]
        across = apart @ [-np.sin(heading), np.cos(heading)]
        assert (np.abs(along) <= ALONG + 1e-3).all()
        assert (np.abs(across) <= ACROSS + 1e-3).all()
        assert len(np.unique(stage.poses[:, 0])) == 4


def test_a_file_of_something_else_is_no_starts(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"kind": "other"}')
    with pytest.raises(FormatError, match="found kind 'other'"):
        Eval(stage2=path).run()
    path.write_text('{"kind": "stage2_starts", "scenes": [{}]}')
    with pytest.raises(FormatError, match="damaged"):
        Eval(stage2=path).run()


def test_a_finished_policy_of_other_scenes_is_not_mixed_in(tmp_path, monkeypatch):
    """A change of the generator gives other scenes under the same options."""
    from rich.console import Console

    from perlsim.evaluation.evaluate import Evaluation
    from perlsim.evaluation.scenes import EvalScene
    from perlsim.readers.synthetic import generate
    from perlsim.sim.agents import LogAgents

    scenes = [EvalScene("now@15", next(iter(generate(1, 0))), 15)]
    monkeypatch.setattr(Evaluation, "_evaluated", lambda *_: {"now@15": {"pdms": 1.0}})
    with RunFolder(tmp_path / "run", "eval", {}) as folder:
        evaluation = Evaluation(scenes, LogAgents(), "log", Console(quiet=True), folder)
        folder.write_part("a", {"before@15": {"pdms": 0.0}})
        assert evaluation.rows("a", None) == {"now@15": {"pdms": 1.0}}
        assert folder.part("a") == {"now@15": {"pdms": 1.0}}


@pytest.mark.slow
def test_two_stages_are_scored_on_the_scenes_of_the_file(starts, tmp_path):
    out = tmp_path / "out.json"
    assert Eval(policy="log_replay", stage2=starts, json=out).run() == 0
    content = json.loads(out.read_text())
    scenes = content["scenes"]
    wanted = read_starts(starts).scenes
    assert sorted((s["source"], s["scenario_id"], s["start"]) for s in scenes) == sorted(wanted)
    for scene in scenes:
        own = scene["policies"]["log_replay"]
        assert 0 <= own["two_stage_pdms"] <= own["pdms"] + 1e-6


@pytest.mark.slow
def test_reacting_road_users_change_what_is_scored(tmp_path):
    pdms = {}
    for agents in ("log", "idm"):
        out = tmp_path / f"{agents}.json"
        assert Eval(policy="constant_velocity", scenes=4, agents=agents, json=out).run() == 0
        pdms[agents] = json.loads(out.read_text())
    rows = [[s["policies"]["constant_velocity"] for s in pdms[agents]["scenes"]] for agents in pdms]
    assert [s["scene_id"] for s in pdms["log"]["scenes"]] == [s["scene_id"] for s in pdms["idm"]["scenes"]]
    assert rows[0] != rows[1]


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_policy_that_was_left(tmp_path):
    folder = tmp_path / "run"
    words = ["eval", "--policy", POLICIES, "--scenes", "4", "-o", str(folder)]
    command = [sys.executable, "-m", "perlsim.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 540
    first = folder / "parts" / "log_replay.json"
    while not first.is_file():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = first.read_bytes()
    with pytest.raises(PerlsimError, match="not finished"):
        read_run(folder)
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr
    assert "log_replay: taken from the run folder" in done.stdout
    assert "constant_velocity: compiling and running" in done.stdout
    results = json.loads((folder / "results.json").read_text())
    kept = {scene["scene_id"]: scene["policies"]["log_replay"] for scene in results["scenes"]}
    assert kept == json.loads(written)
    assert len(ScenarioStore.open(folder / "rollouts" / "constant_velocity")) == 4
