"""Pictures, films and Rerun recordings."""

import importlib

import numpy as np
import pytest

from perlsim.errors import PerlsimError
from perlsim.scenario import Ego, Lights, Road, Route
from perlsim.store import ScenarioStore
from perlsim.view import picture
from perlsim.view.drawing import kind_colours, palette
from perlsim.view.picture import INCHES, write_film, write_picture
from perlsim.view.rerun_export import write_recording
from perlsim.view.sources import choose, open_sides

SIZE = round(INCHES * picture.DOTS)


@pytest.fixture
def opened(run_folder):
    sides = open_sides([run_folder])
    return sides, choose(sides, (), 1)[0][0]


@pytest.fixture
def pillow():
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: install the extra view")
    return pytest.importorskip("PIL.Image", reason="Pillow is absent: install the extra view")


def has_colour(image, name: str) -> bool:
    wanted = np.array([int(palette()[name][i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(np.asarray(image.convert("RGB")).astype(int) - wanted).sum(-1) < 12).any())


def test_picture_shows_ego_road_users_and_lights(opened, tmp_path, pillow):
    sides, key = opened
    write_picture(tmp_path / "new" / "one.png", sides[:1], key, 2.0)
    image = pillow.open(tmp_path / "new" / "one.png")
    assert image.size == (SIZE, SIZE)
    assert all(has_colour(image, name) for name in ("ground", "road", "ego", "edge"))
    assert any(has_colour(image, f"light-{name}") for name in ("green", "yellow", "red"))


def test_two_sides_stand_next_to_each_other(opened, tmp_path, pillow):
    sides, key = opened
    write_picture(tmp_path / "two.png", sides, key)
    assert pillow.open(tmp_path / "two.png").size == (2 * SIZE, SIZE)


def test_picture_of_a_scene_without_ego_lights_route_or_map(scenarios, tmp_path, pillow):
    bare = scenarios[0].replace(ego=Ego(), route=Route(), lights=Lights(), road=Road())
    ScenarioStore.create(tmp_path / "logs").append([bare])
    sides = open_sides([tmp_path / "logs"])
    write_picture(tmp_path / "bare.png", sides, choose(sides, (), 1)[0][0])
    assert not has_colour(pillow.open(tmp_path / "bare.png"), "ego")


def test_time_outside_the_scene_is_refused(opened, tmp_path, pillow):
    with pytest.raises(PerlsimError, match=r"lasts from 0 to 4\.0 s"):
        write_picture(tmp_path / "one.png", opened[0][:1], opened[1], 4.2)


def test_animation_runs_in_real_time(opened, tmp_path, pillow):
    write_film(tmp_path / "film.gif", opened[0][:1], opened[1], 2.0)
    film = pillow.open(tmp_path / "film.gif")
    assert film.n_frames == 9  # 4 s, both ends
    assert film.info["duration"] == 500
    assert has_colour(film, "ego") and has_colour(film, "vehicle")
    first = np.asarray(film.convert("RGB"))
    film.seek(8)
    assert (np.asarray(film.convert("RGB")) != first).any()


@pytest.mark.parametrize(
    ("module", "extra", "write"),
    [
        ("matplotlib", "view", lambda path, sides, key: write_picture(path, sides, key)),
        ("imageio_ffmpeg", "view", lambda path, sides, key: write_film(path, sides, key)),
        ("rerun", "rerun", lambda path, sides, key: write_recording(path, sides, key)),
    ],
)
def test_absent_packages_are_named_with_their_extra(opened, tmp_path, monkeypatch, module, extra, write):
    def absent(name, *_):
        if name == module:
            raise ImportError(name)
        return importlib.__import__(name)

    monkeypatch.setattr(picture.importlib, "import_module", absent)
    with pytest.raises(PerlsimError, match=rf"perlsim\[{extra}\]"):
        write(tmp_path / "file.mp4", *opened)


def test_every_kind_of_road_user_has_a_colour(scenarios):
    scenario = scenarios[0]
    colours = kind_colours(scenario)
    assert colours[scenario.ego.idx] == palette()["ego"]
    assert len(colours) == scenario.tracks.num_agents


def test_recording_for_rerun_is_written(opened, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is absent: install the extra rerun")
    write_recording(tmp_path / "scene.rrd", *opened)
    assert (tmp_path / "scene.rrd").read_bytes()[:3] == b"RRF"
    assert (tmp_path / "scene.rrd").stat().st_size > 10_000
