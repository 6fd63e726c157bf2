"""CARLA recorder logs: written packet by packet, and the real one."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from fuzzing import assert_clean, mutations

from perlsim.errors import FormatError
from perlsim.geometry.polylines import project
from perlsim.readers import FORMATS, ReadOptions, guess_format
from perlsim.readers.carla_names import agent_type
from perlsim.vocabulary import AgentType, LaneType, LightState
from perlsim.worlds import opendrive

READER = FORMATS["carla_recorder"]


def text(value: str) -> bytes:
    return struct.pack("<H", len(value)) + value.encode()


def packet(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<BI", kind, len(body)) + body


def added(actor_id, blueprint, attributes=(), location=(0, 0, 0), yaw=0.0):
    record = struct.pack("<IB6fI", actor_id, 1, *location, 0, 0, yaw, 0) + text(blueprint)
    record += struct.pack("<H", len(attributes))
    return record + b"".join(b"\x03" + text(name) + text(value) for name, value in attributes)


def events(*records):
    return packet(2, struct.pack("<H", len(records)) + b"".join(records))


def positions(rows):
    """Rows of (id, x, y, z [cm], yaw [degrees])."""
    body = b"".join(struct.pack("<I6f", i, x, y, z, 0, 0, yaw) for i, x, y, z, yaw in rows)
    return packet(6, struct.pack("<H", len(rows)) + body)


def lights(rows):
    body = b"".join(struct.pack("<IBfb", i, 0, 0.0, state) for i, state in rows)
    return packet(7, struct.pack("<H", len(rows)) + body)


def boxes(rows):
    body = b"".join(struct.pack("<I6f", *row) for row in rows)
    return packet(13, struct.pack("<H", len(rows)) + body)


def header(version=1, magic="CARLA_RECORDER", town="Town01"):
    return struct.pack("<H", version) + text(magic) + struct.pack("<q", 1_600_000_000) + text(town)


def frame(number, elapsed, *packets):
    return packet(0, struct.pack("<Qdd", number, 0.0, elapsed)) + b"".join(packets) + packet(1)


HERO = added(10, "vehicle.tesla.model3", [("role_name", "hero")])


def car_log(times, speed=10.0, first=(), yaw=30.0, then=lambda i: ()):
    """A hero that drives at constant speed on a straight line of heading ``yaw`` (CARLA's sense)."""
    frames = []
    for i, t in enumerate(times):
        way = 100 * speed * t
        pose = (10, way * np.cos(np.deg2rad(yaw)), way * np.sin(np.deg2rad(yaw)), 0, yaw)
        extra = [events(HERO), *first] if i == 0 else []
        frames.append(frame(i + 1, t, *extra, positions([pose]), *then(i)))
    return header() + b"".join(frames)


@pytest.fixture
def write(tmp_path):
    def written(data: bytes) -> Path:
        path = tmp_path / "drive.log"
        path.write_bytes(data)
        return path

    return written


# Steps between 10 and 60 ms, as a simulator without a fixed step has them.
UNEVEN = np.cumsum(np.random.default_rng(5).uniform(0.01, 0.06, 120))


def read_one(path, **options):
    (scenario,) = READER.read(path, ReadOptions(**options))
    return scenario


def test_an_uneven_log_of_a_steady_car_comes_out_steady_and_mirrored(write):
    scenario = read_one(write(car_log(UNEVEN)))
    assert scenario.dt == 0.1 and scenario.ego.idx == 0
    np.testing.assert_allclose(np.linalg.norm(scenario.tracks.velocity[0], axis=1), 10, rtol=1e-3)
    # Right-handed: CARLA's yaw of 30 degrees is a heading of -30.
    np.testing.assert_allclose(scenario.tracks.heading[0], -np.pi / 6, atol=1e-4)
    way = scenario.tracks.position[0, -1] - scenario.tracks.position[0, 0]
    np.testing.assert_allclose(np.arctan2(way[1], way[0]), -np.pi / 6, atol=1e-4)


def test_boxes_are_half_sizes_in_centimetres_and_shift_the_centre(write):
    packets = [boxes([(10, 30, 0, 70, 240, 100, 75)])]
    scenario = read_one(write(car_log(UNEVEN, first=packets)))
    np.testing.assert_allclose(scenario.tracks.size[0], [4.8, 2.0, 1.5], atol=1e-5)
    plain = read_one(write(car_log(UNEVEN)))
    np.testing.assert_allclose(
        scenario.origin - plain.origin, [0.3 * np.cos(np.pi / 6), -0.3 * np.sin(np.pi / 6), -0.05], atol=1e-6
    )


def test_windows_are_equal_and_none_is_longer_than_asked(write):
    path = write(car_log(np.arange(0, 5.01, 0.05)))
    scenarios = list(READER.read(path, ReadOptions(window=2.0)))
    assert [s.tracks.num_steps for s in scenarios] == [17, 17, 17]
    assert len({s.scenario_id for s in scenarios}) == 3
    assert {s.recording_id for s in scenarios} == {"drive"}
    starts = [s.start_time for s in scenarios]
    np.testing.assert_allclose(np.diff(starts), 1.7, atol=1e-6)


def test_without_a_hero_there_is_no_ego_unless_one_is_named(write):
    data = car_log(UNEVEN).replace(b"\x04\x00hero", b"\x04\x00auto")
    assert not read_one(write(data)).has_ego
    assert read_one(write(data), ego="10").ego.idx == 0
    assert read_one(write(data), ego="auto").ego.idx == 0
    with pytest.raises(FormatError, match="known are 10 \\(auto\\)"):
        read_one(write(data), ego="nobody")


def test_a_light_without_a_map_stands_where_its_actor_does(write):
    actor = added(20, "traffic.traffic_light", location=(1000, 2000, 0), yaw=0.0)
    data = car_log(UNEVEN, first=[events(actor)], then=lambda i: [lights([(20, 0 if UNEVEN[i] < 2 else 2)])])
    scenario = read_one(write(data))
    np.testing.assert_allclose(scenario.lights.position[0] + scenario.origin, [10, -20, 0], atol=1e-4)
    # A head of yaw 0 faces traffic that drives towards CARLA's -y: north once mirrored.
    np.testing.assert_allclose(scenario.lights.heading[0], np.pi / 2, atol=1e-6)
    times = UNEVEN[0] + 0.1 * np.arange(scenario.tracks.num_steps)
    expected = np.where(times < UNEVEN[UNEVEN >= 2][0], LightState.RED, LightState.GREEN)
    np.testing.assert_array_equal(scenario.lights.state[0], expected)
    assert any("Town01" in gap for gap in scenario.missing)


def test_far_and_flat_props_are_left_out(write):
    props = [
        (30, "static.prop.constructioncone", (500, 0, 0)),
        (31, "static.prop.constructioncone", (90000, 0, 0)),
        (32, "static.prop.dirtdebris01", (600, 0, 0)),
    ]
    packets = [
        events(*(added(i, name, location=place) for i, name, place in props)),
        boxes([(i, 0, 0, h, 20, 20, h) for i, h in ((30, 30), (31, 30), (32, 7))]),
    ]

    def then(i):
        way = 1000 * UNEVEN[i]
        hero = (10, way * np.cos(np.pi / 6), way * np.sin(np.pi / 6), 0, 30.0)
        return [positions([hero, *((j, *place, 0) for j, _, place in props)])]

    scenario = read_one(write(car_log(UNEVEN, first=packets, then=then)))
    assert scenario.tracks.ids == ("10", "30")
    assert scenario.tracks.kind.tolist() == [AgentType.VEHICLE, AgentType.STATIC]


@pytest.mark.parametrize("name", ["Carla/Maps/Town01", "Town01_Opt"])
def test_the_town_is_found_under_any_of_its_names(write, real_data, name):
    data = car_log(UNEVEN).replace(text("Town01"), text(name), 1)
    scenario = read_one(write(data), maps=real_data / "maps")
    assert len(scenario.road.lanes) and scenario.place == name.rsplit("/", 1)[-1]


def test_a_town_name_that_leads_elsewhere_finds_no_map(write, real_data):
    data = car_log(UNEVEN).replace(text("Town01"), text("*"), 1)
    assert not len(read_one(write(data), maps=real_data / "maps").road.lanes)


def test_a_log_cut_short_is_read_up_to_its_last_whole_frame(write):
    data = car_log(UNEVEN)
    scenario = read_one(write(data[: len(data) // 2]))
    assert any("ends inside a packet" in repair for repair in scenario.repairs)
    assert 0 < scenario.duration < UNEVEN[-1] / 2 + 0.2


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (header(version=2), "version"),
        (header(magic="CARLA_RECORDED"), "not a CARLA recorder log"),
        (header(), "no complete frame"),
        (header()[:20], "header"),
        (header() + frame(1, 0.0) + frame(2, -1.0), "do not increase"),
        (header() + frame(1, float("nan")), "do not increase"),
        (header() + frame(1, 0.0, packet(6, struct.pack("<H", 9))), "do not fill"),
        (header() + frame(1, 0.0), "no road user"),
    ],
)
def test_a_broken_log_is_refused_with_file_and_reason(write, data, expected):
    path = write(data)
    with pytest.raises(FormatError, match=expected) as caught:
        list(READER.read(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("blueprint", "attributes", "kind"),
    [
        ("vehicle.tesla.model3", {}, AgentType.VEHICLE),
        ("vehicle.tesla.cybertruck", {"base_type": "truck"}, AgentType.VEHICLE),
        ("vehicle.carlamotors.firetruck", {}, AgentType.TRUCK),
        ("vehicle.mitsubishi.fusorosa", {}, AgentType.BUS),
        ("vehicle.gazelle.omafiets", {"number_of_wheels": "2"}, AgentType.CYCLIST),
        ("vehicle.unheard.of", {"number_of_wheels": "2"}, AgentType.MOTORCYCLIST),
        ("walker.pedestrian.0012", {}, AgentType.PEDESTRIAN),
        ("static.prop.barrel", {}, AgentType.STATIC),
        ("sensor.camera.rgb", {}, None),
        ("traffic.traffic_light", {}, None),
        ("spectator", {}, None),
    ],
)
def test_blueprints_have_their_kind(blueprint, attributes, kind):
    assert agent_type(blueprint, attributes) == kind


def test_damaged_logs_are_refused_or_mended_never_crash(write):
    actor = added(20, "traffic.traffic_light", location=(1000, 2000, 0))
    data = car_log(UNEVEN[:30], first=[events(actor)], then=lambda i: [lights([(20, i % 3)])])
    for damaged in mutations(data, seed=1, count=80):
        assert_clean("carla_recorder", write(damaged))


@pytest.fixture(scope="session")
def real_log(real_data):
    return real_data / "logs" / "carla_recorder" / "DistanceToLaneCenter.log"


@pytest.fixture(scope="session")
def real_scenario(real_data, real_log):
    return read_one(real_log, maps=real_data / "maps" / "carla")


def test_the_real_log_is_recognised(real_log):
    assert guess_format(real_log).name == "carla_recorder"


def test_the_real_heros_heading_and_speed_agree_with_its_motion(real_scenario):
    tracks, ego = real_scenario.tracks, real_scenario.ego.idx
    speed = np.linalg.norm(tracks.velocity[ego], axis=1)
    assert 10 < speed.max() < 25
    moving = speed > 1
    motion = np.arctan2(tracks.velocity[ego, moving, 1], tracks.velocity[ego, moving, 0])
    off = (motion - tracks.heading[ego, moving] + np.pi) % (2 * np.pi) - np.pi
    assert np.median(np.abs(off)) < 0.05
    np.testing.assert_allclose(tracks.size[ego], [4.90, 2.13, 1.51], atol=0.01)


def test_the_real_hero_drives_on_the_lanes_of_its_town(real_scenario):
    lanes, position = real_scenario.road.lanes, real_scenario.tracks.position[real_scenario.ego.idx]
    driving = np.flatnonzero(lanes.kind == LaneType.DRIVING)
    gap = np.min([project(lanes.centre[lane], position).distance for lane in driving], axis=0)
    # The recording tests lane keeping: at times the hero leaves its lane on purpose, by less than its width.
    assert np.median(gap) < 0.5 and gap.max() < 2.0
    # It stands on the road: the map's height is 0.
    ground = position[20:, 2] + real_scenario.origin[2]
    assert np.abs(ground).max() < 0.1


def test_the_lights_of_the_real_log_sit_on_the_lanes_they_control(real_data, real_log, real_scenario):
    lights, lanes = real_scenario.lights, real_scenario.road.lanes
    assert len(lights.position) and (lights.lane_idx >= 0).all()
    for row, lane in enumerate(lights.lane_idx):
        assert np.linalg.norm(lanes.centre[lane][0] - lights.position[row]) < 0.1
        first = lanes.centre[lane][1] - lanes.centre[lane][0]
        off = np.arctan2(first[1], first[0]) - lights.heading[row]
        assert abs((off + np.pi) % (2 * np.pi) - np.pi) < 0.2
    assert {LightState.RED, LightState.GREEN} <= set(lights.state.ravel().tolist())


def test_the_real_log_damaged_is_refused_or_mended(tmp_path, real_data, real_log):
    data = real_log.read_bytes()
    path = tmp_path / "drive.log"
    for damaged in mutations(data, seed=2, count=12):
        path.write_bytes(damaged)
        assert_clean("carla_recorder", path)


def test_damaged_towns_are_refused_or_read_never_crash(tmp_path, real_data):
    data = gzip.decompress((real_data / "maps" / "carla" / "Town02.xodr.gz").read_bytes())
    path = tmp_path / "Town02.xodr"
    for damaged in mutations(data, seed=3, count=16):
        path.write_bytes(damaged)
        try:
            assert np.isfinite(opendrive.read(path, with_edges=False).road.lanes.centre.values).all()
        except FormatError as error:
            assert "Town02" in str(error)
