"""``perlsim train`` from a configuration to a policy that other commands take."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from perlsim.cli import Eval, Rollout, Train
from perlsim.errors import PerlsimError
from perlsim.readers.synthetic import FAMILIES
from perlsim.runs import read_run
from perlsim.training.config import load_config
from planner.examination import chosen_scenes, differences, draw_curves
from planner.settings import CONFIGS, Settings

SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_are_valid_and_headed_by_command_time_and_result(name):
    settings = load_config(Settings, name, [], CONFIGS)
    assert settings.imitation.num_updates > 0
    head = (CONFIGS / f"{name}.yaml").read_text().split("\n\n")[0]
    assert f"perlsim train --config {name}" in head and "Time:" in head and "Result:" in head


def test_quickstart_is_examined_on_seeds_and_families_that_are_not_trained_on():
    data = load_config(Settings, "quickstart", [], CONFIGS).data
    assert len({data.train.seed, data.validation.seed, data.test.seed}) == 3
    assert data.train.families == data.validation.families
    assert set(data.test.families or FAMILIES) > set(data.train.families) > set()


def test_contradictions_of_a_configuration_are_named():
    with pytest.raises(PerlsimError, match="world_model is asked for"):
        load_config(Settings, "debug", ["world_model=null"], CONFIGS)
    with pytest.raises(PerlsimError, match="a store is named where the source is a store"):
        load_config(Settings, "debug", ["data.source=store"], CONFIGS)


def test_differences_are_paired_by_scene():
    def scene(name, before, after):
        return {
            "scene_id": name,
            "cluster": name[0],
            "policies": {"imitation": {"pdms": before}, "reinforcement": {"pdms": after}},
        }

    table = {
        "policies": {"imitation": {}, "reinforcement": {}},
        "scenes": [
            scene("a1", 0.2, 0.7),
            scene("a2", 0.9, 1.0),
            scene("b1", 0.0, 0.3),
            scene("b2", None, 1.0),
        ],
    }
    found = differences(table)
    assert list(found) == ["pdms"] and found["pdms"]["count"] == 3
    assert found["pdms"]["mean"] == pytest.approx(0.3)
    # Recordings a and b are drawn as wholes: both 0.3.
    assert found["pdms"]["low"] == pytest.approx(0.3) and found["pdms"]["high"] == pytest.approx(0.3)
    assert differences({"policies": {"imitation": {}}, "scenes": []}) == {}


def test_scenes_worth_looking_at_are_the_most_changed_then_the_worst_then_the_best():
    scenes = [
        {"scene_id": name, "policies": {"imitation": {"pdms": before}, "reinforcement": {"pdms": after}}}
        for name, before, after in [("a", 0.5, 0.5), ("b", 0.1, 0.9), ("c", 0.4, 0.3), ("d", 1.0, 1.0)]
    ]
    names = ["imitation", "reinforcement"]
    assert chosen_scenes(scenes, names, 1) == {"b": "changed", "c": "worst", "d": "best"}
    assert chosen_scenes(scenes, names, 2) == {"b": "changed", "c": "changed", "a": "worst", "d": "worst"}


def test_curves_are_drawn_of_what_was_logged(tmp_path):
    (tmp_path / "imitation").mkdir()
    lines = [{"update": u, "loss": 1 / u, "validation/score": u} for u in (1, 2, 3)]
    (tmp_path / "imitation" / "log.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    draw_curves(tmp_path, ["imitation"])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("train") / "debug"
    assert Train(config="debug", out=out).run() == 0
    return out


def test_a_run_from_logs_to_a_table_leaves_all_its_parts(run):
    assert read_run(run)["policies"] == ["constant_velocity", "imitation", "reinforcement"]
    results = json.loads((run / "results.json").read_text())
    table = results["agents"]["log"]["policies"]
    assert set(table) == {"constant_velocity", "imitation", "reinforcement"}
    for policy in table.values():
        assert 0 <= policy["metrics"]["pdms"]["mean"] <= 1
    assert results["differences"]["log"]["pdms"]["count"] == 2
    assert all(np.isfinite(score) for score in results["validation"].values())
    for name in (
        "results.html",
        "scenes.html",
        "curves.png",
        "policy/model.json",
        "world_model/model/model.json",
    ):
        assert (run / name).is_file(), name
    assert yaml.safe_load((run / "config.yaml").read_text())["network"]["size"] == "debug"
    assert list((run / "tensorboard" / "reinforcement").iterdir())


@pytest.mark.slow
def test_the_policy_and_the_world_model_of_a_run_are_taken_by_rollout_and_eval(run, tmp_path):
    learned = {"policy": str(run), "agents": f"world_model={run}"}
    assert Rollout(vmap=4, horizon=10, max_agents=16, json=tmp_path / "rollout.json", **learned).run() == 0
    assert Eval(scenes=2, horizon=10, json=tmp_path / "eval.json", **learned).run() == 0
    (policy,) = json.loads((tmp_path / "eval.json").read_text())["policies"].values()
    assert policy["privileged"] is False and policy["metrics"]["pdms"]["count"] == 2
