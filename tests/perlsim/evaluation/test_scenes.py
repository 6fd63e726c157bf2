"""Which windows of logs are scored."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "sim"))
from made_scenes import mover, scene, tracks_of

from perlsim.errors import PerlsimError
from perlsim.evaluation.scenes import HISTORY, choose_scenes, scenes_named


def log(name, steps=101, speed=5.0, absent=()):
    movers = [mover(speed=speed, steps=steps)]
    valid = np.ones((1, steps), bool)
    valid[0, list(absent)] = False
    made = scene(name, *movers).replace(scenario_id=name, recording_id=name)
    return made.replace(tracks=tracks_of(movers, valid))


def test_windows_begin_every_half_second_after_the_history_and_end_within_the_log():
    chosen = choose_scenes([log("a")], 40).scenes
    assert [s.start for s in chosen] == list(range(HISTORY, 61, 5))
    assert chosen[0].scene_id == f"a@{HISTORY}"


def test_the_ego_must_be_there_from_the_history_to_the_end():
    chosen = choose_scenes([log("a", absent=[30])], 40).scenes
    assert [s.start for s in chosen] == [46, 51, 56]
    selection = choose_scenes([log("short", steps=50)], 40)
    assert not selection.scenes
    assert "1 logs left out" in selection.notes[0]


def test_windows_in_which_the_ego_stands_are_left_out_unless_asked_for():
    logs = [log("moves"), log("stands", speed=0.0)]
    selection = choose_scenes(logs, 40)
    assert {s.scenario.scenario_id for s in selection.scenes} == {"moves"}
    assert "10 windows left out (1 logs in whole)" in selection.notes[0]
    kept = choose_scenes(logs, 40, include_standing=True)
    assert len(kept.scenes) == 20
    assert not kept.notes


def test_few_scenes_are_spread_over_as_many_logs_as_there_are():
    logs = [log(name) for name in "abcd"]
    chosen = choose_scenes(logs, 40, count=6, seed=1).scenes
    counts = [sum(s.scenario.scenario_id == name for s in chosen) for name in "abcd"]
    assert sorted(counts) == [1, 1, 2, 2]
    again = choose_scenes(logs, 40, count=6, seed=1).scenes
    assert [s.scene_id for s in again] == [s.scene_id for s in chosen]
    other = choose_scenes(logs, 40, count=6, seed=2).scenes
    assert [s.scene_id for s in other] != [s.scene_id for s in chosen]


def test_logs_of_two_sources_may_share_a_name():
    other = dataclasses.replace(log("a"), source="other")
    names = [s.scene_id for s in choose_scenes([log("a"), other], 40, count=2).scenes]
    assert len(set(names)) == 2
    assert names[1].startswith("other:a@")


def test_scenes_can_be_named():
    found = scenes_named([log("a"), log("b")], [("made", "b", 20)])
    assert [(s.scene_id, s.start) for s in found] == [("b@20", 20)]
    with pytest.raises(PerlsimError, match="the first is c"):
        scenes_named([log("a")], [("made", "c", 20)])
