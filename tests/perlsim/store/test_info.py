"""What info says about a store, and its sanity numbers."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import shapely
from fake_logs import make_scenario, with_road
from rich.console import Console

from perlsim.cli import main
from perlsim.info import print_report, report_store
from perlsim.info.sanity import ego_overlaps, sanity_of
from perlsim.scenario import Ego
from perlsim.store import ScenarioStore


def with_tracks(scenario, **changes):
    return scenario.replace(tracks=replace(scenario.tracks, **changes))


def box(scenario, agent, step):
    tracks = scenario.tracks
    length, width = tracks.size[agent, :2] / 2
    corners = np.array([[length, width], [-length, width], [-length, -width], [length, -width]])
    cos, sin = np.cos(tracks.heading[agent, step]), np.sin(tracks.heading[agent, step])
    turn = np.array([[cos, -sin], [sin, cos]])
    return shapely.Polygon(corners @ turn.T + tracks.position[agent, step, :2])


def test_overlaps_of_the_ego_are_those_of_shapely():
    rng = np.random.default_rng(0)
    scene = make_scenario(agents=200, steps=10)
    position = rng.uniform(-6, 6, (200, 10, 3)).astype(np.float32) * [1, 1, 0]
    heading = rng.uniform(-3, 3, (200, 10)).astype(np.float32)
    size = rng.uniform(0.3, 6, (200, 3)).astype(np.float32)
    scene = with_tracks(scene, position=position, heading=heading, size=size)
    overlaps = ego_overlaps(scene)
    for step in range(10):
        ego = box(scene, 0, step)
        expected = [ego.intersection(box(scene, agent, step)).area > 1e-6 for agent in range(1, 200)]
        np.testing.assert_array_equal(overlaps[1:, step], expected)
    assert 200 < overlaps.sum() < 1800


def test_boxes_on_another_level_and_absent_ones_do_not_overlap():
    scene = make_scenario(agents=3, steps=2)
    position = np.zeros((3, 2, 3), np.float32)
    position[1, :, 2] = 5.0
    valid = np.array([[1, 1], [1, 1], [1, 0]], bool)
    overlaps = ego_overlaps(with_tracks(scene, position=position, valid=valid))
    np.testing.assert_array_equal(overlaps, [[0, 0], [0, 0], [1, 0]])


def test_a_sound_log_has_small_errors_and_each_classic_mistake_shows():
    scene = make_scenario(1, speed=8.0, turn_rate=0.2, agents=2)
    tracks = scene.tracks
    sound = sanity_of(scene)
    assert sound.heading_error < 0.02 and sound.speed_error < 0.001
    flipped = with_tracks(scene, heading=-tracks.heading)
    degrees = with_tracks(scene, heading=np.rad2deg(tracks.heading))
    assert sanity_of(flipped).heading_error > 0.3
    assert sanity_of(degrees).heading_error > 0.3
    assert sanity_of(with_tracks(scene, velocity=tracks.velocity * 1.1)).speed_error == pytest.approx(
        0.1, 0.01
    )


def test_the_errors_of_an_ego_that_stands_are_not_known():
    sanity = sanity_of(make_scenario(speed=0.0))
    assert np.isnan([sanity.heading_error, sanity.speed_error]).all()
    assert sanity_of(make_scenario(ego=Ego())) is None


@pytest.fixture
def store(tmp_path):
    store = ScenarioStore.create(tmp_path / "s")
    store.append([with_road(make_scenario(k, speed=5.0)) for k in range(3)])
    store.append([make_scenario(3, agents=6, source="other", ego=Ego(), missing=("ego", "lights"))])
    return store


def test_the_report_counts_by_source_and_in_total(store):
    fake, other, total = report_store(store).sources
    assert (fake.source, other.source, total.source) == ("fake", "other", "all")
    assert (fake.scenes, other.scenes, total.scenes) == (3, 1, 4)
    assert (total.agents, total.agents_by_type) == (42, {"vehicle": 42})
    assert (fake.lights, fake.lights_known, fake.lanes) == (3, 3, 9)
    assert other.missing == {"ego": 1, "lights": 1}
    assert (fake.scenes_with_ego, total.scenes_with_ego, other.heading_error) == (3, 3, None)
    assert total.hours == pytest.approx(4 * 5.9 / 3600)
    assert sum(total.splits.values()) == 4
    assert total.padding == pytest.approx(1 - 42 / 48)


def test_info_prints_writes_json_and_verifies(store, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["info", str(store.path), "--verify", "--json", str(tmp_path / "info.json")])
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert "verified" in output and "scenes with ego" in output
    content = json.loads((tmp_path / "info.json").read_text())
    assert content["sources"][-1]["scenes"] == 4


def test_info_exits_with_1_on_a_damaged_shard_and_with_2_where_there_is_no_store(store, tmp_path, capsys):
    path = store.path / "shards" / "00000.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit) as end:
        main(["info", str(store.path), "--verify"])
    assert end.value.code == 1
    assert "00000.arrow: the content changed" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["info", str(tmp_path / "absent")])
    assert end.value.code == 2
    assert "no scenario store here" in capsys.readouterr().err


def test_tables_are_no_wider_than_the_terminal(store):
    report = report_store(store)
    report = replace(report, sources=tuple(replace(report.sources[0], source=f"s{k}") for k in range(9)))
    output = io.StringIO()
    print_report(report, Console(file=output, width=80, force_terminal=True, no_color=True))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue())
    assert max(map(len, plain.splitlines()[1:])) <= 80
    assert plain.count("scenes with ego") > 1 and "s0" in plain and "s8" in plain


def test_an_empty_store_is_reported(tmp_path, capsys):
    ScenarioStore.create(tmp_path / "empty")
    with pytest.raises(SystemExit) as end:
        main(["info", str(tmp_path / "empty")])
    assert end.value.code == 0
