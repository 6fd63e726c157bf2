"""Towns: their cache, their surroundings, their lights, and the command ``perlsim maps``."""

import hashlib
import json
import zipfile

import numpy as np
import pytest
from opendrive_files import crossing_with_controllers, document, junction_with_two_ways

from perlsim.cli import main
from perlsim.errors import FormatError, PerlsimError
from perlsim.lights import LightProgramme
from perlsim.vocabulary import LightState
from perlsim.worlds import opendrive, town_download, towns
from perlsim.worlds.given_lights import given_plan, go_together
from perlsim.worlds.light_plans import default_plan
from perlsim.worlds.movements import Movements

GREEN, YELLOW, RED = LightState.GREEN, LightState.YELLOW, LightState.RED
ONE_EACH = [("0",), ("1",), ("2",), ("3",)]


@pytest.fixture
def file(tmp_path):
    def written(*parts, name="Small.xodr"):
        path = tmp_path / name
        path.write_text(document(*parts))
        return path

    return written


def arrays_of(value, prefix=""):
    """All leaves of nested dataclasses, by name."""
    if hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from arrays_of(getattr(value, name), f"{prefix}.{name}")
    else:
        yield prefix, value


def run(*args):
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    return caught.value.code


def test_a_cached_town_is_the_town(file, tmp_path, monkeypatch):
    path = file(*crossing_with_controllers(ONE_EACH))
    first = towns.load_town(path, cache=tmp_path / "cache")
    monkeypatch.setattr(opendrive, "read", lambda path: pytest.fail("read again"))
    again = towns.load_town(path, cache=tmp_path / "cache")
    for (name, a), (_, b) in zip(arrays_of(first), arrays_of(again), strict=True):
        assert type(a) is type(b), name
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            assert a == b, name


def test_a_changed_file_a_new_reader_and_a_damaged_cache_are_read_again(file, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    path = file(*crossing_with_controllers(ONE_EACH))
    towns.load_town(path, cache=cache)
    file(*junction_with_two_ways())
    assert "4.0.-1" in towns.load_town(path, cache=cache).map.road.lanes.ids
    stored, _ = towns.cache_file(path, cache)
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    assert "4.0.-1" in towns.load_town(path, cache=cache).map.road.lanes.ids
    stored.write_bytes(content[:100])
    assert "4.0.-1" in towns.load_town(path, cache=cache).map.road.lanes.ids
    monkeypatch.setattr(towns, "SCHEMA", towns.SCHEMA + 1)
    assert towns.cache_file(path, cache)[0] != stored
    assert not list(cache.glob(".*")), "no partial files are left"


def test_a_town_is_read_where_the_cache_cannot_be_written(file, tmp_path):
    path = file(*junction_with_two_ways())
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert len(towns.load_town(path, cache=blocked / "cache").map.road.lanes)
    with pytest.raises(PerlsimError, match="cannot be written"):
        towns.load_town(path, cache=blocked / "cache", must_store=True)


def test_cropping_a_town_keeps_every_part_in_step_with_its_lanes(file, tmp_path):
    town = towns.load_town(file(*crossing_with_controllers(ONE_EACH)), cache=tmp_path / "cache")
    small, new_idx = town.crop((-60.0, -2.0, -21.0, 2.0))
    lanes, old = small.map.road.lanes, town.map.road.lanes
    assert 0 < len(lanes) < len(old)
    kept = np.flatnonzero(new_idx >= 0)
    assert lanes.ids == tuple(old.ids[i] for i in kept)
    assert small.map.junctions == tuple(town.map.junctions[i] for i in kept)
    np.testing.assert_allclose(0.5 * (small.map.sides.left + small.map.sides.right), lanes.centre.values)
    half, _ = town.crop((-30.0, -30.0, -10.0, 30.0))
    signals = half.map.signals
    assert 0 < len(signals.lane_idx) < len(town.map.signals.lane_idx)
    whole = {
        (town.map.signals.ids[s], old.ids[lane]): town.lights.programme(i)
        for i, (s, lane) in enumerate(
            zip(
                town.map.signals.lane_signal_idx[town.lights.rows],
                town.map.signals.lane_idx[town.lights.rows],
                strict=True,
            )
        )
    }
    assert len(half.lights.rows) == len(signals.lane_idx)
    for i, row in enumerate(half.lights.rows):
        name = signals.ids[signals.lane_signal_idx[row]], half.map.road.lanes.ids[signals.lane_idx[row]]
        assert half.lights.programme(i) == whole[name]
    for controller in half.map.controllers.signals.rows():
        assert all(signals.kind[signal] == opendrive.SignalKind.LIGHT for signal in controller)


def test_by_default_the_controllers_take_turns_of_green_yellow_and_red(file):
    town = opendrive.read(file(*crossing_with_controllers(ONE_EACH)))
    plan = default_plan(town)
    light = [town.signals.ids[i] for i in town.signals.lane_signal_idx[plan.rows]]
    times = np.array([0.0, 9.9, 10.0, 12.9, 13.0, 14.9, 15.0, 44.9, 59.9, 60.0])
    states = dict(zip(light, plan.at(times).tolist(), strict=True))
    assert states["0"] == [GREEN, GREEN, YELLOW, YELLOW, RED, RED, RED, RED, RED, GREEN]
    assert states["1"] == [RED, RED, RED, RED, RED, RED, GREEN, RED, RED, RED]
    assert states["3"] == [RED] * 10
    assert plan.at(np.array([50.0]))[light.index("3"), 0] == GREEN


def test_lights_of_one_controller_whose_ways_cross_get_turns_of_their_own(file):
    town = opendrive.read(file(*crossing_with_controllers([("0", "2"), ("1",), ("3",)])))
    plan = default_plan(town)
    light = [town.signals.ids[i] for i in town.signals.lane_signal_idx[plan.rows]]
    first, second = (plan.programme(light.index(name)) for name in ("0", "2"))
    assert sum(first.durations) == 60 and not go_together(first, second)


def test_a_light_without_a_controller_has_a_turn_in_its_junction(file):
    town = opendrive.read(file(*crossing_with_controllers([("0",), ("1",)])))
    plan = default_plan(town)
    assert len(plan.rows) == len(town.signals.lane_idx)
    offsets = {
        town.signals.ids[town.signals.lane_signal_idx[row]]: offset
        for row, offset in zip(plan.rows, plan.offset, strict=True)
    }
    assert sorted(offsets.values()) == [0, 15, 30, 45] and offsets["0"] == 0 and offsets["1"] == 15


def test_ways_conflict_where_they_cross_or_join_but_not_where_they_part(file):
    town = opendrive.read(file(*crossing_with_controllers(ONE_EACH)))
    lanes = town.road.lanes
    movements = Movements(lanes, town.junctions)

    def conflict(a, b):
        return movements.conflict(*(lanes.ids.index(f"{name}.0.-1") for name in (a, b)))

    assert conflict("02", "13") and conflict("02", "32")
    assert not conflict("02", "20") and not conflict("02", "03")
    # Straight on from the south and left from the north lead into different arms and cross.
    assert conflict("13", "32")
    # Before the junction a lane stands for all ways on from it.
    assert movements.through(lanes.ids.index("0.0.-1")) and conflict("0", "1")
    assert movements.are_opposite(lanes.ids.index("02.0.-1"), lanes.ids.index("20.0.-1"))


def write_given(folder, phases, lines):
    (folder / "carla_Small_stoplines.json").write_text(
        json.dumps(
            [
                {
                    "actor_id": actor,
                    "agent_type": "traffic_light",
                    "x": x,
                    "y": y,
                    "orientation": o,
                    "width": 3,
                }
                for actor, (x, y, o) in lines.items()
            ]
        )
    )
    (folder / "carla_Small_traffic_light_controller.json").write_text(json.dumps([phases]))


# Where traffic of approaches 0 to 3 of the crossing stops, in CARLA's left-handed frame.
LINES = {
    10: (-20.3, 1.75, 0.0),
    11: (1.75, 20.3, -np.pi / 2),
    12: (20.3, -1.75, np.pi),
    13: (-1.75, -20.3, np.pi / 2),
}


def phases(*states, seconds=(20, 5, 2, 15, 5, 2)):
    return [
        {"actor_states": dict(zip(["10", "11", "12", "13"], row, strict=False)), "duration": str(duration)}
        for row, duration in zip(states, seconds, strict=False)
    ]


G, Y, R = "green", "yellow", "red"
TWO_AXES = ((G, R, G, R), (Y, R, Y, R), (R, R, R, R), (R, G, R, G), (R, Y, R, Y), (R, R, R, R))


def test_given_programmes_are_placed_on_the_lanes_by_their_stop_lines(file, tmp_path):
    town = opendrive.read(file(*crossing_with_controllers(ONE_EACH)))
    write_given(tmp_path, phases(*TWO_AXES), LINES)
    plan = given_plan(town, tmp_path)
    assert plan.given.all()
    light = [town.signals.ids[i] for i in town.signals.lane_signal_idx[plan.rows]]
    for idx, name in enumerate(light):
        first = name in "02"
        assert plan.programme(idx).at(np.array([0.0, 22.0, 30.0])).tolist() == (
            [GREEN, YELLOW, RED] if first else [RED, RED, GREEN]
        )


def test_a_light_that_no_file_names_goes_with_its_like_or_the_junction_keeps_the_default(file, tmp_path):
    town = opendrive.read(file(*crossing_with_controllers(ONE_EACH)))
    three = {actor: line for actor, line in LINES.items() if actor != 13}
    write_given(tmp_path, phases(*TWO_AXES), three)
    plan = given_plan(town, tmp_path)
    light = [town.signals.ids[i] for i in town.signals.lane_signal_idx[plan.rows]]
    assert plan.given.all()
    assert plan.programme(light.index("3")) == plan.programme(light.index("1"))
    # Green for all four at once would let crossing traffic meet.
    write_given(tmp_path, phases((G, G, G, G), (Y, Y, Y, Y)), LINES)
    assert not given_plan(town, tmp_path).given.any()


def test_a_town_without_files_of_programmes_has_none_given(file, tmp_path):
    town = opendrive.read(file(*crossing_with_controllers(ONE_EACH)))
    assert given_plan(town, tmp_path) is None


@pytest.mark.parametrize(
    "content", ["{}", "[[{}]]", '[[{"actor_states": {"10": "blue"}, "duration": "1"}]]', "[[]]", "["]
)
def test_a_broken_file_of_programmes_is_refused_with_its_name(file, tmp_path, content):
    town = opendrive.read(file(*crossing_with_controllers(ONE_EACH)))
    write_given(tmp_path, phases(*TWO_AXES), LINES)
    (tmp_path / "carla_Small_traffic_light_controller.json").write_text(content)
    with pytest.raises(FormatError, match="traffic_light_controller"):
        given_plan(town, tmp_path)


@pytest.mark.parametrize(("offset", "together"), [(0.0, True), (9.0, True), (10.0, False), (15.0, False)])
def test_programmes_go_together_where_their_greens_overlap(offset, together):
    first = LightProgramme((GREEN, RED), (10.0, 20.0))
    assert go_together(first, LightProgramme((GREEN, RED), (10.0, 20.0), offset)) is together


def test_maps_lists_caches_checks_and_draws(file, tmp_path, capsys):
    path, cache = file(*crossing_with_controllers(ONE_EACH)), tmp_path / "cache"
    assert run("maps", "list", tmp_path, "--cache", cache) == 0
    assert "\t-\t" in capsys.readouterr().out
    assert run("maps", "cache", path, "--cache", cache) == 0
    assert run("maps", "list", tmp_path, "--cache", cache) == 0
    assert "Small\t" in (out := capsys.readouterr().out) and "\tcached\t" in out
    assert run("maps", "check", path, "--json", tmp_path / "check.json") == 0
    counts = json.loads((tmp_path / "check.json").read_text())[0]["counts"]
    assert counts["traffic_lanes"] == 16 and counts["lights"] == 4 and counts["junctions"] == 1
    drawing = tmp_path / "small.svg"
    assert run("maps", "draw", path, "-o", drawing, "--cache", cache) == 0
    whole = drawing.read_text()
    assert whole.count("<circle") == 4 and 'class="junction"' in whole
    assert run("maps", "draw", tmp_path, "--town", "Small", "-o", drawing, "--box", -70, -9, -40, 9) == 0
    assert 'class="junction"' not in drawing.read_text()


def test_maps_names_what_it_cannot_read_and_goes_on(file, tmp_path, capsys):
    file(*junction_with_two_ways())
    (tmp_path / "Broken.xodr").write_text("<OpenDRIVE><header")
    assert run("maps", "check", tmp_path) == 1
    out = capsys.readouterr().out
    assert "Broken.xodr: cannot be read" in out and "Small.xodr: lanes" in out
    assert run("maps", "draw", tmp_path, "--town", "Nowhere", "-o", tmp_path / "x.svg") == 2
    assert "Nowhere" in capsys.readouterr().err


def test_towns_are_found_in_a_carla_installation(file, tmp_path):
    maps = tmp_path / "CARLA_0.9.15" / "CarlaUE4" / "Content" / "Carla" / "Maps"
    (maps / "OpenDrive").mkdir(parents=True)
    (maps / "Town12" / "OpenDrive").mkdir(parents=True)
    for place, name in ((maps / "OpenDrive", "Town01"), (maps / "Town12" / "OpenDrive", "Town12")):
        (place / f"{name}.xodr").write_text(document(*junction_with_two_ways()))
    found = towns.list_towns(tmp_path / "CARLA_0.9.15")
    assert [path.name for path in found] == ["Town01.xodr", "Town12.xodr"]
    assert towns.town_at(tmp_path / "CARLA_0.9.15", "Town12_Opt") == found[1]
    with pytest.raises(PerlsimError, match="maps get"):
        towns.town_at(tmp_path / "CARLA_0.9.15", "Town02")


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("py123d/parser/opendrive/carla_maps/Town01.xodr.gz", b"a town")
        archive.writestr("py123d/parser/opendrive/carla_maps/../Town02.xodr.gz", b"elsewhere")
        archive.writestr("py123d/code.py", b"code")
    monkeypatch.setattr(town_download, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_only_the_towns_are_taken_out_of_the_wheel(wheel, tmp_path, capsys):
    assert run("maps", "get", "-o", tmp_path / "maps", "--wheel", wheel) == 0
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"Town01.xodr.gz", "NOTICE.txt"}
    assert (tmp_path / "maps" / "Town01.xodr.gz").read_bytes() == b"a town"
    assert not (tmp_path / "Town02.xodr.gz").exists()


def test_a_wheel_with_another_digest_is_refused(wheel, tmp_path):
    wheel.write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(FormatError, match="sha256"):
        town_download.get_towns(tmp_path / "maps", wheel)
    assert not (tmp_path / "maps").exists()


def test_without_network_fetching_says_what_to_do(tmp_path, monkeypatch):
    # An empty folder in place of the package index.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(PerlsimError, match=r"not downloaded") as caught:
        town_download.get_towns(tmp_path / "maps")
    assert "--wheel" in str(caught.value)
