"""``perlsim rollout``, called as the command line calls it."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "sim"))
from made_scenes import mover, road_of, scene

from perlsim import loading, rollout_command
from perlsim.bank_build import AGENT_BUCKETS
from perlsim.cli import Rollout
from perlsim.errors import PerlsimError
from perlsim.fidelity import fidelity_report
from perlsim.loading import load
from perlsim.rollout_command import share_out
from perlsim.sim.types import Event
from perlsim.store import ScenarioStore


def renamed(made, name, **changes):
    return made.replace(scenario_id=name, recording_id=name, **changes)


def without_ego(made):
    return made.replace(ego=dataclasses.replace(made.ego, idx=-1))


def crashing(k):
    """A car ahead that the ego of the log would hit, were it not for the log's end."""
    return scene(f"crash {k}", mover(speed=10.0), mover(x=20, speed=2), road=road_of())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four scenes in two buckets, and two that cannot be driven."""
    crowd = [mover(y=20.0 + k) for k in range(AGENT_BUCKETS[0])]
    made = [
        *(renamed(crashing(k), f"crash {k}") for k in range(3)),
        renamed(scene("", mover(speed=5.0), *crowd), "crowded"),
        renamed(without_ego(scene("", mover(speed=5.0))), "nobody"),
        renamed(scene("", mover(steps=1)), "one step"),
    ]
    path = tmp_path_factory.mktemp("rollout") / "store"
    ScenarioStore.create(path).append(made)
    return path


@pytest.fixture(scope="module")
def report(store, tmp_path_factory):
    """Exit code and JSON of one rollout over the store, and what it printed."""
    path = tmp_path_factory.mktemp("report") / "rollout.json"
    args = ["rollout", "--store", str(store), "--vmap", "40", "--horizon", "20", "--json", str(path)]
    command = [sys.executable, "-m", "perlsim.cli", *args, "--seed", "3", "--reward", "rad"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done, json.loads(path.read_text()) if path.exists() else None


def test_the_report_has_the_promised_keys_and_the_command_succeeds(report):
    done, content = report
    assert done.returncode == 0, done.stderr
    promised = "scene_steps_per_s agent_steps_per_s compile_s peak_memory_gib device num_agents outcomes"
    assert set(promised.split()) <= set(content)
    assert content["scene_steps_per_s"] > 1000
    assert content["compile_s"] > 0
    assert 0 < content["peak_memory_gib"] < 50
    assert content["num_envs"] == 40
    assert content["horizon"] == 20
    assert content["num_agents"] == AGENT_BUCKETS[1]
    assert content["jax_version"] == jax.__version__


def test_episodes_are_dealt_to_buckets_in_proportion_to_their_scenarios(report):
    buckets = report[1]["buckets"]
    assert [bucket["num_agents"] for bucket in buckets] == list(AGENT_BUCKETS[:2])
    assert [bucket["num_scenarios"] for bucket in buckets] == [3, 1]
    assert sum(bucket["num_envs"] for bucket in buckets) == 40
    assert buckets[0]["num_envs"] == pytest.approx(30, abs=1)
    assert report[1]["agent_steps_per_s"] < report[1]["scene_steps_per_s"] * AGENT_BUCKETS[1]


def test_outcomes_are_shares_of_episodes_by_event(report):
    outcomes = report[1]["outcomes"]
    assert set(outcomes) == {event.name for event in Event} - {"LOOKUP_OVERFLOW", "LEFT_MAP", "NON_FINITE"}
    assert outcomes["COLLISION"] == outcomes["AT_FAULT"] == outcomes["HIT_VEHICLE"]
    # Three of four scenes crash unless they start after the crash, in the last second of the log.
    assert 0.3 < outcomes["COLLISION"] <= 0.76
    assert outcomes["HIT_PEDESTRIAN"] == 0.0
    assert report[1]["doubts"] == {}


def test_scenarios_left_out_are_noted(report):
    done, content = report
    assert len(content["notes"]) == 2
    assert "1 of 6 scenarios" in content["notes"][0]
    for note in content["notes"]:
        assert note in done.stdout
    assert "AT_FAULT" in done.stdout


def test_a_store_without_an_ego_is_an_error(tmp_path):
    path = tmp_path / "store"
    ScenarioStore.create(path).append([renamed(without_ego(scene("", mover(speed=5.0))), "nobody")])
    with pytest.raises(PerlsimError, match="--ego"):
        load(path, None)


def test_only_scenes_of_the_split_are_used(store):
    opened = ScenarioStore.open(store)
    for split in ("train", "val", "test"):
        numbers = opened.select(split=split, has_ego=True)
        expected = [opened[n].scenario_id for n in numbers if opened[n].scenario_id != "one step"]
        if expected:
            assert [made.scenario_id for made in load(store, split)[0]] == expected
        else:
            with pytest.raises(PerlsimError):
                load(store, split)


def test_of_a_large_store_an_even_part_is_used_and_noted(store, monkeypatch):
    monkeypatch.setattr(loading, "MAX_SCENARIOS", 2)
    scenarios, notes = load(store, None)
    assert len(scenarios) <= 2
    assert any("2 of 5 scenarios used" in note for note in notes)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("policy", "log_repaly", "did you mean log_replay"),
        ("agents", "constant_velocty", "did you mean constant_velocity"),
        ("reward", "perlda", "did you mean perlad"),
        ("horizon", 83, "multiple"),
        ("devices", 64, "devices asked for"),
    ],
)
def test_wrong_options_are_refused_with_the_nearest_name(option, value, message):
    with pytest.raises(PerlsimError, match=message):
        rollout_command.run(Rollout(**{option: value}))


def test_a_split_needs_a_store_and_its_name_is_checked(store):
    with pytest.raises(PerlsimError, match="--store"):
        load(None, "train")
    with pytest.raises(PerlsimError, match="did you mean train"):
        load(store, "trian")


@pytest.mark.parametrize(
    ("total", "sizes", "shares"),
    [
        (10, [1], [10]),
        (40, [3, 1], [30, 10]),
        (7, [5, 1, 1], [4, 2, 1]),
        (2, [1, 5, 3], [0, 1, 1]),
        (4096, [1, 1000], [5, 4091]),
    ],
)
def test_shares_sum_up_and_leave_no_bucket_out_where_there_is_enough(total, sizes, shares):
    assert share_out(total, sizes) == shares
    assert sum(shares) == total


def test_numbers_that_are_not_finite_fail_the_command(monkeypatch, tmp_path, capsys):
    from perlsim.policies.simple import LogReplay
    from perlsim.sim.types import Plan

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Nonsense(LogReplay):
        def act(self, carry, observation, key):
            carry, plan = super().act(carry, observation, key)
            return carry, Plan.ahead(plan.path, plan.spacing, plan.target_speed * np.nan)

    monkeypatch.setattr("perlsim.policies.policy_of", lambda name, load: Nonsense())
    monkeypatch.setattr(
        rollout_command, "load", lambda store, split, replayed: ([crashing(0), crashing(1)], [])
    )
    path = tmp_path / "rollout.json"
    assert rollout_command.run(Rollout(vmap=4, horizon=5, json=path)) == 1
    doubt = json.loads(path.read_text())["doubts"]["NON_FINITE"]
    assert doubt["share"] == 1.0
    assert doubt["scenario_ids"] == ["crash 0", "crash 1"]
    assert "warning: NON_FINITE in 100.00% of the episodes" in capsys.readouterr().out


@functools.cache
def speeds():
    """A car that brakes gently from 10 to 4 m/s."""
    return 10.0 - 2.0 * np.arange(31) * 0.1


def braking():
    car = mover()
    car["velocity"] = np.column_stack([speeds(), np.zeros(31)])
    car["position"] = np.column_stack([np.cumsum(speeds()) * 0.1, np.zeros((31, 2))])
    return car


def test_fidelity_reports_the_error_of_each_source_and_controller(tmp_path):
    path = tmp_path / "store"
    steady = renamed(scene("", mover(speed=8.0)), "steady").replace(source="first")
    brakes = renamed(scene("", braking()), "brakes").replace(source="second")
    nobody = renamed(without_ego(scene("", mover(speed=8.0))), "nobody").replace(source="third")
    short = renamed(scene("", mover(speed=8.0, steps=20)), "short").replace(source="fourth")
    ScenarioStore.create(path).append([steady, brakes, nobody, short])
    rows = fidelity_report(ScenarioStore.open(path))
    assert [(row["source"], row["controller"]) for row in rows] == [
        (source, controller) for source in ("first", "second") for controller in ("bench2drive", "simlingo")
    ]
    # Of 30 steps, 2 s follow at steps 0, 5 and 10.
    assert [row["windows"] for row in rows] == [3, 3, 3, 3]
    assert all(row["median_error"] < 0.01 for row in rows[:2])
    assert all(0.01 < row["median_error"] < 0.5 and row["faithful"] for row in rows[2:])
    assert all(row["aside"] < 0.01 for row in rows)
