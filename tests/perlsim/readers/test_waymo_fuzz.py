"""Damaged files of the Waymo family end in scenarios or refusals, never in another exception or a hang."""

import json
import pickle

import pytest
import waymo_files as scene
from fuzzing import assert_clean, mutations

from perlsim.readers.tfrecord import framed

SEEDS = {
    "womd": (".tfrecord", scene.scenario_record),
    "womd_example": (".tfrecord", scene.example_record),
    "gpudrive": (".json", lambda: json.dumps(scene.gpudrive_document()).encode()),
    "scenarionet": (".pkl", lambda: pickle.dumps(scene.scenarionet_document())),
}


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files(name, tmp_path):
    suffix, make = SEEDS[name]
    path = tmp_path / f"damaged{suffix}"
    outcomes = []
    for data in mutations(make(), seed=1, count=60):
        path.write_bytes(data)
        outcomes.append(assert_clean(name, path))
    assert -1 in outcomes


@pytest.mark.parametrize("name", ["womd", "womd_example"])
def test_damage_behind_a_correct_checksum(name, tmp_path):
    path = tmp_path / "damaged.tfrecord"
    content = SEEDS[name][1]()[12:-4]
    for data in mutations(content, seed=2, count=60):
        path.write_bytes(framed(data))
        assert_clean(name, path)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_values_inside_a_sound_pickle(seed, tmp_path):
    path = tmp_path / "damaged.pkl"
    text = json.dumps(scene.scenarionet_document(), default=lambda array: array.tolist()).encode()
    for data in mutations(text, seed=seed, count=30):
        try:
            document = json.loads(data)
        except ValueError:
            continue
        path.write_bytes(pickle.dumps(document))
        assert_clean("scenarionet", path)
