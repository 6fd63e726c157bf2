"""The store gives back what was put in, and notices damage."""

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass
from itertools import chain

import numpy as np
import orjson
import pytest
from fake_logs import make_scenario, two_lanes, with_road
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from perlsim.errors import FormatError, PerlsimError
from perlsim.scenario import (
    Ego,
    Lanes,
    Lights,
    Markings,
    Ragged,
    Road,
    Route,
    Scenario,
    StopSigns,
    Tracks,
)
from perlsim.store import ScenarioStore, SplitRule, StoreWriter, columns
from perlsim.store.manifest import Sidecar


def assert_same(actual, expected, path="scenario"):
    if is_dataclass(expected):
        for entry in fields(expected):
            assert_same(getattr(actual, entry.name), getattr(expected, entry.name), f"{path}.{entry.name}")
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype, path
        assert actual.shape == expected.shape, path
        np.testing.assert_array_equal(actual, expected, path)
    else:
        assert actual == expected or (actual != actual and expected != expected), path


text = st.text(st.characters(codec="utf-8"), max_size=6)
floats = {"elements": st.floats(-1e4, 1e4, width=32)}


def float_array(draw, *shape):
    return draw(arrays.arrays(np.float32, shape, **floats))


def ragged(draw, rows, least):
    lengths = draw(st.lists(st.integers(least, 4), min_size=rows, max_size=rows))
    return Ragged.from_rows([float_array(draw, n, 3) for n in lengths], width=3, dtype=np.float32)


def indices(draw, rows, most):
    row = st.lists(st.integers(0, max(most - 1, 0)), max_size=3 if most else 0)
    return Ragged.from_rows(draw(st.lists(row, min_size=rows, max_size=rows)), dtype=np.int32)


@st.composite
def scenarios(draw):
    agents, steps, num_lanes, lights = (
        draw(st.integers(low, high)) for low, high in ((0, 4), (1, 5), (0, 3), (0, 3))
    )
    kinds = arrays.arrays(np.int8, agents, elements=st.integers(0, 7))
    tracks = Tracks(
        float_array(draw, agents, steps, 3),
        float_array(draw, agents, steps),
        float_array(draw, agents, steps, 2),
        draw(arrays.arrays(np.float32, (agents, 3), elements=st.floats(0.125, 20, width=32))),
        draw(kinds),
        draw(arrays.arrays(np.bool_, (agents, steps))),
        tuple(draw(st.lists(text, min_size=agents, max_size=agents, unique=True))),
    )
    centre = ragged(draw, num_lanes, 2)
    lanes = Lanes(
        centre,
        np.full(len(centre.values), np.nan, np.float32),
        np.ones(num_lanes, np.int8),
        draw(arrays.arrays(np.float32, num_lanes, elements=st.sampled_from([np.nan, 13.5]))),
        draw(arrays.arrays(np.bool_, num_lanes)),
        *(indices(draw, num_lanes, num_lanes) for _ in range(3)),
        tuple(draw(st.lists(text, min_size=num_lanes, max_size=num_lanes, unique=True))),
    )
    lines = ragged(draw, draw(st.integers(0, 3)), 2)
    lane_idx = arrays.arrays(np.int32, lights, elements=st.integers(-1, num_lanes - 1))
    points = draw(st.integers(0, 4))
    road = Road(
        lanes,
        Markings(lines, np.full(len(lines), 2, np.int8)),
        ragged(draw, draw(st.integers(0, 2)), 2),
        ragged(draw, draw(st.integers(0, 2)), 3),
        StopSigns(float_array(draw, lights, 3), float_array(draw, lights), draw(lane_idx)),
    )
    return Scenario(
        scenario_id=draw(text),
        source=draw(text),
        dt=draw(st.floats(0.01, 1)),
        tracks=tracks,
        ego=Ego(draw(st.integers(-1, agents - 1)), draw(st.floats(1, 4)), float("nan")),
        lights=Lights(
            float_array(draw, lights, 3),
            float_array(draw, lights),
            draw(lane_idx),
            draw(arrays.arrays(np.int8, (lights, steps), elements=st.integers(0, 6))),
        ),
        road=road,
        route=Route(float_array(draw, points, 3), np.full(points, -1, np.int32)),
        origin=draw(arrays.arrays(np.float64, 3, elements=st.floats(-1e7, 1e7))),
        recording_id=draw(text),
        place=draw(text),
        dataset=draw(text),
        licence=draw(text),
        start_time=draw(st.floats(-1e9, 2e9)),
        source_file=draw(text),
        repairs=tuple(draw(st.lists(text, max_size=2))),
        missing=tuple(draw(st.lists(text, max_size=2))),
        notes=tuple(draw(st.lists(text, max_size=2))),
    ).validate()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(scenarios(), min_size=1, max_size=3))
def test_a_scenario_comes_back_bit_for_bit(tmp_path_factory, given_scenarios):
    store = ScenarioStore.create(tmp_path_factory.mktemp("store") / "s")
    store.append(given_scenarios)
    for opened in (store, ScenarioStore.open(store.path)):
        assert len(opened) == len(given_scenarios)
        for number, expected in enumerate(given_scenarios):
            assert_same(opened[number], expected)
    assert store.verify() == []


def test_a_minimal_scenario_with_default_tables_is_stored(tmp_path):
    scenario = make_scenario(agents=1, steps=1)
    store = ScenarioStore.create(tmp_path / "s")
    store.append([scenario])
    assert store[0].validate().lights.state.shape == (0, 1)
    assert len(store[0].road.lanes) == 0


def test_a_store_of_the_first_schema_is_read_and_added_to(tmp_path, monkeypatch):
    store = ScenarioStore.create(tmp_path / "s")
    with monkeypatch.context() as patched:
        for module in ("columns", "writer"):
            patched.setattr(f"perlsim.store.{module}.SCHEMA", columns.SCHEMA_1)
        store.append([make_scenario(0)])
    monkeypatch.setattr(Sidecar, "from_bytes", without_notes(Sidecar.from_bytes))
    store = ScenarioStore.open(store.path)
    store.append([make_scenario(1).replace(notes=("scenario: Accident",))])
    assert [store[0].notes, store[1].notes] == [(), ("scenario: Accident",)]
    assert [summary.notes for summary in store.summaries] == [(), ()]


def without_notes(read):
    """A reader of sidecars that takes the notes out of them first, as the first schema had none."""

    def reads(data):
        content = orjson.loads(data)
        for summary in content["summaries"]:
            del summary["notes"]
        return read(orjson.dumps(content))

    return reads


def test_appending_adds_shards_and_keeps_the_numbers_of_earlier_scenes(tmp_path):
    store = ScenarioStore.create(tmp_path / "s")
    store.append(make_scenario(seed) for seed in range(3))
    store.append([make_scenario(3)])
    with StoreWriter(store, shard_bytes=1) as writer:
        writer.add(make_scenario(4))
        writer.add(make_scenario(5))
    assert [shard.rows for shard in store.manifest.shards] == [3, 1, 1, 1]
    assert [scenario.scenario_id for scenario in store] == [f"scene-{k}" for k in range(6)]
    assert store[-1].scenario_id == "scene-5"
    with pytest.raises(IndexError):
        store[6]


def test_arrays_are_views_of_the_mapped_file(tmp_path):
    store = ScenarioStore.create(tmp_path / "s")
    store.append([make_scenario()])
    position = store[0].tracks.position
    assert not position.flags.writeable and not position.flags.owndata
    assert np.shares_memory(position, store[0].tracks.position)


def test_world_coordinates_are_refused_because_float32_would_spoil_them(tmp_path):
    scenario = with_road(make_scenario())
    far = scenario.road.lanes.centre.values.astype(np.float64) + np.array([5e6, 0.0, 0.0])
    lanes = two_lanes()
    lanes = Lanes(**{**vars(lanes), "centre": Ragged(far, lanes.centre.offsets)})
    store = ScenarioStore.create(tmp_path / "s")
    with pytest.raises(FormatError, match="finalize"):
        store.append([scenario.replace(road=Road(lanes))])
    assert len(ScenarioStore.open(tmp_path / "s")) == 0


@pytest.fixture
def filled(tmp_path):
    store = ScenarioStore.create(tmp_path / "s")
    store.append(make_scenario(seed) for seed in range(3))
    return tmp_path / "s"


@pytest.mark.parametrize("name", ["00000.arrow", "00000.json"])
def test_a_truncated_file_is_named_when_the_store_is_opened(filled, name):
    path = filled / "shards" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=rf"{name}.*expected \d+ bytes.*copy"):
        ScenarioStore.open(filled)


@pytest.mark.parametrize("position", [0, 5, 1000, 20000, -1, -200])
@pytest.mark.parametrize("name", ["00000.arrow", "00000.json"])
def test_a_flipped_bit_is_found_by_verify_and_never_crashes(filled, name, position):
    path = filled / "shards" / name
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 4
    path.write_bytes(content)
    store = ScenarioStore.open(filled)
    problems = store.verify()
    assert len(problems) == 1 and name in problems[0]


def test_a_missing_shard_is_named(filled):
    (filled / "shards" / "00000.arrow").unlink()
    with pytest.raises(FormatError, match=r"00000\.arrow.*missing"):
        ScenarioStore.open(filled)


def edit_manifest(folder, change):
    content = orjson.loads((folder / "manifest.json").read_bytes())
    change(content)
    (folder / "manifest.json").write_bytes(orjson.dumps(content))


@pytest.mark.parametrize("name", ["../outside.arrow", "/etc/passwd", "shards/../../x", "shards/x.arrow", "a"])
def test_names_that_lead_out_of_the_store_are_refused(filled, name):
    edit_manifest(filled, lambda content: content["shards"][0]["arrow"].update(name=name))
    with pytest.raises(FormatError, match="refusing the file name"):
        ScenarioStore.open(filled)


def test_links_inside_a_store_are_refused(filled, tmp_path):
    shard = filled / "shards" / "00000.arrow"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match="link"):
        ScenarioStore.open(filled)


def test_a_newer_schema_and_a_damaged_manifest_are_told_apart(filled, tmp_path):
    edit_manifest(filled, lambda content: content.update(schema_version=99))
    with pytest.raises(PerlsimError, match="newer perlsim"):
        ScenarioStore.open(filled)
    (filled / "manifest.json").write_text("{")
    with pytest.raises(FormatError, match="damaged"):
        ScenarioStore.open(filled)
    with pytest.raises(PerlsimError, match="no scenario store"):
        ScenarioStore.open(tmp_path / "absent")


def test_files_that_a_killed_writer_left_are_removed_by_the_next_one(filled):
    orphans = [filled / "shards" / name for name in ("00001.arrow", "00002.arrow.tmp")]
    for orphan in orphans:
        orphan.write_bytes(b"half")
    assert len(ScenarioStore.open(filled)) == 3
    ScenarioStore.open(filled).append([make_scenario(9)])
    assert len(ScenarioStore.open(filled)) == 4
    assert not orphans[1].exists()


def test_a_second_writer_is_turned_away(filled):
    with (
        StoreWriter(ScenarioStore.open(filled)),
        pytest.raises(PerlsimError, match="another process"),
        StoreWriter(ScenarioStore.open(filled)),
    ):
        pass


def test_a_store_is_not_made_over_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PerlsimError, match="not empty"):
        ScenarioStore.open_or_create(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_store_keeps_its_split_rule(filled):
    with pytest.raises(PerlsimError, match="splits"):
        ScenarioStore.open_or_create(filled, SplitRule(seed=1))


def test_scenes_are_selected_by_split_tags_and_source(tmp_path):
    store = ScenarioStore.create(tmp_path / "s")
    store.append(make_scenario(seed, speed=0 if seed % 2 else 9) for seed in range(30))
    assert store.select(tags=["stopped"]) == list(range(1, 30, 2))
    assert store.select(without_tags=["stopped"]) == list(range(0, 30, 2))
    by_split = [store.select(split=split) for split in ("train", "val", "test")]
    assert sorted(chain(*by_split)) == list(range(30)) and len(by_split[0]) > 15
    assert store.select(source="elsewhere") == []
    for wrong in ({"split": "trian"}, {"tags": ["stoped"]}):
        with pytest.raises(PerlsimError, match="unknown"):
            store.select(**wrong)


def test_the_manifest_is_plain_json_with_digests_splits_and_licences(filled):
    content = json.loads((filled / "manifest.json").read_text())
    assert content["schema_version"] == 2
    assert len(content["shards"][0]["arrow"]["sha256"]) == 64
    assert sorted(chain(*content["splits"].values())) == [0, 1, 2]
    assert content["sources"] == [{"source": "fake", "dataset": "made-up", "licence": "", "scenarios": 3}]


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom perlsim.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'jax', 'torch', 'pyarrow', 'numpy'} & set(sys.modules), 'heavy'"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "import" in result.stdout and "rollout" in result.stdout
