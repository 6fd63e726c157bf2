"""Splits never cut a recording, tags say what is there, and a scene is known again in another form."""

from dataclasses import replace

import numpy as np
import pytest
from fake_logs import make_scenario, with_road

from perlsim.errors import PerlsimError
from perlsim.scenario import Ego, Lanes
from perlsim.store import ScenarioStore, SplitRule, StoreWriter, tags_of
from perlsim.store.fingerprint import fingerprint_of
from perlsim.store.splits import assign_splits
from perlsim.store.summary import summarise
from perlsim.vocabulary import AgentType, LightState


def summaries_of(*scenarios):
    return [summarise(scenario, "") for scenario in scenarios]


def window(scenario, start, stop):
    tracks = scenario.tracks
    cut = {
        name: getattr(tracks, name)[:, start:stop] for name in ("position", "heading", "velocity", "valid")
    }
    lights = replace(scenario.lights, state=scenario.lights.state[:, start:stop])
    return scenario.replace(tracks=replace(tracks, **cut), lights=lights)


def in_another_form(scenario, angle=2.0, noise=0.0, **changes):
    """The scene turned and moved, its agents shuffled and renamed, through another format."""
    tracks, rng = scenario.tracks, np.random.default_rng(0)
    order = rng.permutation(tracks.num_agents)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    position = tracks.position.astype(np.float64)
    position[..., :2] = position[..., :2] @ turn.T + [120.0, -80.0]
    position += rng.normal(0, noise, position.shape)
    moved = replace(
        tracks,
        position=position[order].astype(np.float32),
        heading=tracks.heading[order] + np.float32(angle),
        velocity=(tracks.velocity @ turn.T)[order].astype(np.float32),
        size=tracks.size[order],
        kind=tracks.kind[order],
        valid=tracks.valid[order],
        ids=tuple(f"other {k}" for k in range(tracks.num_agents)),
    )
    ego = Ego(int(np.flatnonzero(order == scenario.ego.idx)[0]), 2.7, 1.3)
    return scenario.replace(tracks=moved, ego=ego, scenario_id="renamed", source="other", **changes)


@pytest.fixture
def store(tmp_path):
    return ScenarioStore.create(tmp_path / "s")


def test_windows_of_one_recording_land_in_one_split_whatever_the_seed():
    scenes = summaries_of(
        *(make_scenario(k, recording_id=f"recording {k % 40}", agents=2, steps=2) for k in range(200))
    )
    for seed in range(3):
        splits = assign_splits(SplitRule(seed), scenes, [])
        by_recording = {}
        for scene, split in zip(scenes, splits, strict=True):
            by_recording.setdefault(scene.recording, set()).add(split)
        assert all(len(split) == 1 for split in by_recording.values())
        assert set(splits) == {"train", "val", "test"}


def test_splits_follow_the_seed_and_the_fractions_and_not_the_order():
    scenes = summaries_of(*(make_scenario(k, agents=1, steps=1) for k in range(600)))
    splits = assign_splits(SplitRule(), scenes, [])
    assert assign_splits(SplitRule(), scenes[::-1], [])[::-1] == splits
    assert assign_splits(SplitRule(seed=1), scenes, []) != splits
    assert 0.75 < splits.count("train") / 600 < 0.85
    assert 0.06 < splits.count("test") / 600 < 0.14
    assert set(assign_splits(SplitRule(fractions=(0.0, 0.0, 1.0)), scenes, [])) == {"test"}
    with pytest.raises(PerlsimError, match="sum 1"):
        SplitRule(fractions=(0.8, 0.1, 0.2))


def test_splits_by_place_keep_a_town_together():
    scenes = summaries_of(*(make_scenario(k, agents=1, steps=1, place=f"town {k % 7}") for k in range(70)))
    splits = assign_splits(SplitRule(by="place"), scenes, [])
    assert all(len({splits[k] for k in range(town, 70, 7)}) == 1 for town in range(7))


def test_linked_recordings_share_the_split_of_the_one_stored_first():
    scenes = summaries_of(*(make_scenario(k, recording_id=f"r{k}", agents=1, steps=1) for k in range(40)))
    alone = assign_splits(SplitRule(), scenes, [])
    other = next(k for k in range(40) if alone[k] != alone[0])
    linked = assign_splits(SplitRule(), scenes, [("made-up:r0", f"made-up:r{other}")])
    assert linked[other] == linked[0] == alone[0]
    assert sum(a != b for a, b in zip(alone, linked, strict=True)) == 1


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_scene_turned_moved_renamed_and_rounded_is_known_again(store, noise):
    scene = make_scenario(3, recording_id="a")
    other = in_another_form(scene, noise=noise, recording_id="b")
    store.append([make_scenario(k) for k in (1, 2)] + [scene])
    store.append([other], keep_duplicates=False)
    (record,) = store.duplicates
    assert (record.of_id, record.id, record.kept, len(store)) == ("scene-3", "renamed", False, 3)


def test_unrelated_scenes_are_not_taken_for_one_another(store):
    store.append((make_scenario(k, agents=30) for k in range(40)), keep_duplicates=False)
    assert len(store) == 40 and not list(store.duplicates)


def test_the_shorter_cut_of_a_recording_is_a_duplicate_and_the_longer_one_is_kept_in_the_same_split(tmp_path):
    long = make_scenario(4, steps=198, agents=30, recording_id="long")
    short = in_another_form(window(long, 50, 141), recording_id="short")
    first = ScenarioStore.create(tmp_path / "long first")
    first.append([long, short], keep_duplicates=False)
    assert len(first) == 1
    second = ScenarioStore.create(tmp_path / "short first")
    second.append([short, long], keep_duplicates=False)
    assert len(second) == 2 and len(set(second.splits)) == 1
    (record,) = second.duplicates
    assert record.kept and not record.is_duplicate


def test_scenes_of_one_data_set_in_the_same_traffic_with_another_ego_are_kept_in_one_split(store):
    scene = make_scenario(5, agents=20, recording_id="a")
    other_ego = scene.replace(ego=Ego(7, 2.7, 1.3), scenario_id="another", recording_id="b")
    no_ego = scene.replace(ego=Ego(), scenario_id="third", recording_id="c")
    store.append([scene, other_ego, no_ego], keep_duplicates=False)
    assert len(store) == 3 and len(set(store.splits)) == 1


def test_scenes_in_which_nothing_moves_are_not_duplicates_of_each_other(store):
    still = [make_scenario(k, agents=1, speed=0.0) for k in range(3)]
    store.append(still, keep_duplicates=False)
    assert len(store) == 3


@pytest.mark.parametrize("agents, steps", [(0, 1), (1, 1), (3, 1), (2, 5), (500, 12)])
def test_fingerprints_of_odd_sizes_are_finite_and_deterministic(agents, steps):
    if agents:
        scene = make_scenario(1, agents=agents, steps=steps)
    else:
        scene = make_scenario(1, agents=1, steps=steps)
        names = ("position", "heading", "velocity", "size", "kind", "valid")
        empty = {name: getattr(scene.tracks, name)[:0] for name in names}
        scene = scene.replace(tracks=replace(scene.tracks, **empty, ids=()), ego=Ego())
    first = fingerprint_of(scene)
    assert first.digest() == fingerprint_of(scene).digest()
    assert tags_of(scene)


def test_duplicates_are_found_across_sessions(store):
    scene = make_scenario(6)
    store.append([scene])
    with StoreWriter(ScenarioStore.open(store.path)) as writer:
        assert writer.add(in_another_form(scene), keep_duplicates=False) is not None


@pytest.mark.parametrize(
    "scene, present, absent",
    [
        (make_scenario(speed=0.0), ["stopped"], ["moving", "curved", "fast"]),
        (make_scenario(speed=10.0), ["moving"], ["stopped", "curved", "fast", "stops"]),
        (make_scenario(speed=20.0), ["fast"], []),
        (make_scenario(speed=5.0, turn_rate=0.3), ["curved", "turning_left"], ["turning_right"]),
        (make_scenario(speed=5.0, turn_rate=-0.3), ["curved", "turning_right"], ["turning_left"]),
        (make_scenario(speed=5.0, turn_rate=0.08), ["curved"], ["turning_left"]),
        (make_scenario(agents=2), ["sparse", "no_lane_graph"], ["dense", "signalised"]),
        (make_scenario(agents=60, speed=0.0), ["dense"], ["sparse"]),
        (make_scenario(ego=Ego()), ["no_ego"], ["moving", "stopped"]),
        (with_road(make_scenario()), ["signalised"], ["no_lane_graph", "junction", "lane_change"]),
        (with_road(make_scenario(), state=LightState.UNKNOWN), [], ["signalised"]),
    ],
)
def test_tags_say_what_a_scene_shows(scene, present, absent):
    tags = tags_of(scene.validate())
    assert set(present) <= set(tags)
    assert not set(absent) & set(tags)


def test_a_stop_in_a_drive_is_tagged():
    scene = make_scenario(speed=8.0)
    tracks = scene.tracks
    velocity = tracks.velocity.copy()
    velocity[0, 20:35] = 0
    assert "stops" in tags_of(scene.replace(tracks=replace(tracks, velocity=velocity)))


def test_junctions_motorways_and_lane_changes_are_read_from_the_route():
    scene = with_road(make_scenario(speed=5.0))
    route = replace(scene.route, lane_idx=np.array([0, 1], np.int32))
    assert "lane_change" in tags_of(scene.replace(route=route))
    lanes = scene.road.lanes
    special = Lanes(
        **{**vars(lanes), "in_junction": np.array([1, 0, 0], bool), "kind": np.full(3, 2, np.int8)}
    )
    assert {"junction", "highway"} <= set(tags_of(scene.replace(road=replace(scene.road, lanes=special))))


def test_pedestrians_count_only_near_the_ego():
    scene = make_scenario(agents=3, steps=5)
    tracks = scene.tracks
    kind = tracks.kind.copy()
    kind[1] = AgentType.PEDESTRIAN
    position = tracks.position.copy()
    position[1] += 500
    assert "pedestrians" in tags_of(scene.replace(tracks=replace(tracks, kind=kind)))
    far = scene.replace(tracks=replace(tracks, kind=kind, position=position))
    assert "pedestrians" not in tags_of(far)
