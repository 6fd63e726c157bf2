"""Bench2Drive clips and HD maps, written to the public schema (no real clip is at hand)."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from fuzzing import assert_clean, mutations

from perlsim.errors import FormatError
from perlsim.readers import FORMATS, ReadOptions, guess_format
from perlsim.vocabulary import AgentType, LightState, MarkingType

READER = FORMATS["bench2drive"]
NAME = "ControlLoss_Town01_Route7_Weather3"


def box(kind, actor_id, centre, yaw, *, extent=(2.4, 1.0, 0.75), type_id="vehicle.tesla.model3", **more):
    """A bounding box in CARLA's left-handed world; location as wrong as the format has it for static ones."""
    return {
        "class": kind,
        "id": str(actor_id),
        "type_id": type_id,
        "location": [centre[0] + 3.0, centre[1], centre[2]],
        "rotation": [0.0, 0.0, yaw],
        "center": list(centre),
        "extent": list(extent),
        "road_id": 1,
        "lane_id": -1,
        "section_id": 0,
        **more,
    }


def frame(step):
    """The ego drives along x at 8 m/s; a car oncoming, a walker crossing, a parked car, a light, a cone."""
    t = 0.1 * step
    return {
        "x": 8 * t,
        "y": 1.75,
        "theta": math.nan if step == 3 else 1.57,
        "speed": 8.0,
        "bounding_boxes": [
            box("ego_vehicle", 100, (8 * t, 1.75, 0.75), 0.0, type_id="vehicle.lincoln.mkz_2020", speed=8.0),
            box(
                "vehicle", 101, (60 - 5 * t, -1.75, 0.75), 180.0, state="dynamic", speed=5.0, base_type="car"
            ),
            box(
                "vehicle", 102, (30, 5, 0.75), 90.0, state="static", type_id="/Game/Car/SM_Charger", speed=0.0
            ),
            box(
                "walker",
                103,
                (40, 4 - 1.5 * t, 0.9),
                -90.0,
                extent=(0.2, 0.2, 0.9),
                type_id="walker.pedestrian.0003",
                speed=0.0,
            ),
            box(
                "traffic_light",
                104,
                (75, 6, 5),
                90.0,
                type_id="traffic.traffic_light",
                state=0 if step < 10 else 2,
                affects_ego=True,
                trigger_volume_location=[66.0, 1.75, 0.5],
                trigger_volume_rotation=[0.0, 0.0, 90.0],
                trigger_volume_extent=[3.0, 1.5, 1.0],
            ),
            box(
                "traffic_sign",
                105,
                (20, 3, 0.3),
                0.0,
                extent=(0.2, 0.2, 0.3),
                type_id="static.prop.trafficcone01",
            ),
            box(
                "traffic_sign",
                106,
                (50, 6, 2),
                0.0,
                type_id="traffic.stop",
                affects_ego=step == 2,
                trigger_volume_location=[48.0, 1.75, 0.5],
            ),
        ],
    }


def write_clip(folder: Path, steps=range(20), change=None) -> Path:
    anno = folder / NAME / "anno"
    anno.mkdir(parents=True)
    for step in steps:
        content = frame(step)
        if change:
            change(step, content)
        # Python's json writes NaN as it is, and so does the data set.
        (anno / f"{step:05d}.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    return folder / NAME


def line(y, x_from, x_to, kind, **more):
    """A line of the HD map along x, a point every 5 cm, in the left-handed world."""
    xs = np.linspace(x_from, x_to, max(int(abs(x_to - x_from) / 0.05), 2) + 1)
    yaw = 0.0 if x_to > x_from else 180.0
    points = [((float(x), y, 0.0), (0.0, 0.0, yaw)) for x in xs]
    if kind == "Center":
        points = [(*point, more.get("junction", False)) for point in points]
    entry = {"Points": points, "Type": kind, "Color": "White", "Topology": more.get("topology", [])}
    if kind == "Center":
        entry |= {
            "TopologyType": "Normal",
            "Left": more.get("left", (None, None)),
            "Right": more.get("right", (None, None)),
        }
    return entry


def hd_map():
    """Road 1, two lanes one way (y = 1.75 and 5.25) and one the other, leads into road 2, a junction."""
    ahead = {"topology": [(2, -1)]}
    first = [
        line(0.0, -20, 70, "SolidSolid"),
        line(3.5, -20, 70, "Broken"),
        line(1.75, -20, 70, "Center", right=(1, -2), left=(1, 1), **ahead),
        # Listed again, as a lane is for each lane ahead of it.
        line(1.75, -20, 70, "Center", right=(1, -2), left=(1, 1), **ahead),
    ]
    second = [
        line(3.5, -20, 70, "Broken"),
        line(7.0, -20, 70, "Solid"),
        line(5.25, -20, 70, "Center", left=(1, -1)),
    ]
    against = [line(0.0, 70, -20, "SolidSolid"), line(-3.5, 70, -20, "Curb"), line(-1.75, 70, -20, "Center")]
    junction = [
        line(0.0, 70, 90, "NONE"),
        line(3.5, 70, 90, "NONE"),
        line(1.75, 70, 90, "Center", junction=True),
    ]
    volumes = [
        {
            "Type": "TrafficLight",
            "Points": [[69.5, 0.4, 0], [69.5, 3.1, 0], [69, 3.1, 0], [69, 0.4, 0]],
            "ParentActor_Location": [75.0, 6.0, 0.0],
        },
        {
            "Type": "StopSign",
            "Points": [[46, 0.5, 0], [50, 0.5, 0], [50, 1.75, 0], [50, 3, 0], [46, 3, 0]],
            "ParentActor_Location": [50.0, 6.0, 0.0],
        },
    ]
    return {1: {-1: first, -2: second, 1: against, "Trigger_Volumes": volumes}, 2: {-1: junction}}


def write_map(folder: Path, content=None) -> Path:
    folder.mkdir(exist_ok=True)
    items = list((content if content is not None else hd_map()).items())
    arr = np.empty((len(items), 2), object)
    for row, item in enumerate(items):
        arr[row] = item
    path = folder / "Town01_HD_map.npz"
    np.savez_compressed(path, arr=arr)
    return path


def read_one(path, maps=None):
    (scenario,) = READER.read(path, ReadOptions(maps=maps))
    return scenario


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path)


@pytest.fixture
def mapped(tmp_path, clip):
    write_map(tmp_path / "maps")
    return read_one(clip, tmp_path / "maps")


def test_a_clip_is_recognised_by_its_folder(clip):
    assert guess_format(clip).name == "bench2drive"


def test_the_world_is_mirrored_and_the_ego_comes_first(clip):
    scenario = read_one(clip)
    tracks = scenario.tracks
    assert (scenario.ego.idx, scenario.dt, tracks.num_steps, scenario.place) == (0, 0.1, 20, "Town01")
    np.testing.assert_allclose(scenario.origin, [0, -1.75, 0], atol=1e-9)
    other = tracks.ids.index("101")
    np.testing.assert_allclose(tracks.position[other, 0] + scenario.origin, [60, 1.75, 0], atol=1e-5)
    np.testing.assert_allclose(tracks.velocity[other, 5], [-5, 0], atol=1e-5)
    np.testing.assert_allclose(tracks.size[0], [4.8, 2.0, 1.5], atol=1e-6)


def test_walkers_move_although_their_speed_is_written_as_zero(clip):
    scenario = read_one(clip)
    walker = scenario.tracks.ids.index("103")
    assert scenario.tracks.kind[walker] == AgentType.PEDESTRIAN
    np.testing.assert_allclose(scenario.tracks.velocity[walker, 5], [0, 1.5], atol=1e-4)
    # A CARLA yaw of -90 degrees looks towards -y, which is north here.
    np.testing.assert_allclose(scenario.tracks.heading[walker, 5], np.pi / 2, atol=1e-6)


def test_static_vehicles_and_cones_stand_at_their_centre(clip):
    scenario = read_one(clip)
    kinds = dict(zip(scenario.tracks.ids, scenario.tracks.kind, strict=True))
    assert kinds["102"] == AgentType.VEHICLE and kinds["105"] == AgentType.STATIC
    assert not {"104", "106"} & set(kinds)
    parked = scenario.tracks.position[scenario.tracks.ids.index("102"), 0] + scenario.origin
    np.testing.assert_allclose(parked, [30, -5, 0], atol=1e-5)


def test_without_a_map_lights_and_stop_signs_lie_at_their_trigger_volumes(clip):
    scenario = read_one(clip)
    assert any("Town01" in gap for gap in scenario.missing)
    np.testing.assert_allclose(scenario.lights.position[0, :2] + scenario.origin[:2], [66, -1.75], atol=1e-5)
    assert scenario.lights.state[0].tolist() == [LightState.RED] * 10 + [LightState.GREEN] * 10
    np.testing.assert_allclose(scenario.lights.heading, 0, atol=1e-6)
    np.testing.assert_allclose(scenario.road.stop_signs.heading, 0, atol=1e-6)


def test_the_hd_map_gives_lanes_with_direction_links_and_neighbours(mapped):
    lanes = mapped.road.lanes
    assert set(lanes.ids) == {"1.-1.0", "1.-2.0", "1.1.0", "2.-1.0"}
    row = {name: lanes.ids.index(name) for name in lanes.ids}
    first, second, against, junction = (row[n] for n in ("1.-1.0", "1.-2.0", "1.1.0", "2.-1.0"))
    assert lanes.successors[first].tolist() == [junction]
    # CARLA's right is still right in the mirror, since the road is mirrored with it.
    assert lanes.right[first].tolist() == [second] and lanes.left[second].tolist() == [first]
    assert lanes.left[first].tolist() == []
    assert lanes.centre[against][0, 0] > lanes.centre[against][-1, 0]
    assert lanes.in_junction.tolist() == [i == junction for i in range(len(lanes))]
    np.testing.assert_allclose(lanes.width, 3.5, atol=1e-3)
    kinds = set(mapped.road.markings.kind.tolist())
    assert kinds == {MarkingType.DOUBLE_SOLID, MarkingType.BROKEN, MarkingType.SOLID, MarkingType.NONE}


def test_trigger_volumes_place_lights_and_stop_signs_on_lanes(mapped):
    lanes = mapped.road.lanes
    light = mapped.lights
    assert [lanes.ids[i] for i in light.lane_idx] == ["1.-1.0"]
    np.testing.assert_allclose(light.position[0] + mapped.origin, [69.5, -1.75, 0], atol=1e-4)
    np.testing.assert_allclose(light.heading, 0, atol=1e-6)
    assert light.state[0].tolist() == [LightState.RED] * 10 + [LightState.GREEN] * 10
    signs = mapped.road.stop_signs
    assert [lanes.ids[i] for i in signs.lane_idx] == ["1.-1.0"]
    np.testing.assert_allclose(signs.position[0, 1] + mapped.origin[1], -1.75, atol=1e-4)


def test_the_drivable_area_is_the_lanes(mapped):
    rings = mapped.road.edges.rows()
    area = sum(0.5 * np.sum(r[:-1, 0] * r[1:, 1] - r[1:, 0] * r[:-1, 1]) for r in rings)
    assert area == pytest.approx(90 * 10.5 + 20 * 3.5, rel=0.02)


def test_an_opendrive_town_serves_where_no_hd_map_is(clip, real_data):
    scenario = read_one(clip, real_data / "maps" / "carla")
    assert len(scenario.road.lanes) and len(scenario.road.edges)


def test_missing_frames_leave_gaps_that_are_stated(tmp_path):
    scenario = read_one(write_clip(tmp_path, steps=[0, 1, 2, 5, 6]))
    assert scenario.tracks.valid[0].tolist() == [True] * 3 + [False] * 2 + [True] * 2
    assert any("2 frames are missing" in repair for repair in scenario.repairs)


def test_a_position_that_is_not_a_number_is_masked(tmp_path):
    def change(step, content):
        if step == 4:
            content["bounding_boxes"][1]["center"][0] = math.nan

    scenario = read_one(write_clip(tmp_path, change=change))
    other = scenario.tracks.ids.index("101")
    assert np.flatnonzero(~scenario.tracks.valid[other]).tolist() == [4]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda content: content.pop("bounding_boxes"), "bounding_boxes"),
        (lambda content: content["bounding_boxes"].pop(0), r"bounding_boxes\[0\].class"),
        (lambda content: content["bounding_boxes"][1].pop("center"), r"bounding_boxes\[1\].center"),
        (lambda content: content["bounding_boxes"][1].update(extent=[1, 2]), r"bounding_boxes\[1\].extent"),
    ],
)
def test_a_broken_frame_is_refused_with_its_file_and_field(tmp_path, change, field):
    path = write_clip(tmp_path, change=lambda step, content: change(content) if step == 7 else None)
    with pytest.raises(FormatError, match=field) as caught:
        read_one(path)
    assert "00007.json.gz" in str(caught.value)


def test_a_map_with_something_to_execute_is_refused(tmp_path, clip):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    write_map(tmp_path / "maps", {1: {-1: Hostile()}})
    with pytest.raises(FormatError, match="HD_map"):
        read_one(clip, tmp_path / "maps")
    assert not (tmp_path / "executed").exists()


def test_a_map_against_its_schema_is_refused_with_the_road(tmp_path, clip):
    content = hd_map()
    del content[2][-1][2]["Points"]
    write_map(tmp_path / "maps", content)
    with pytest.raises(FormatError, match="road 2"):
        read_one(clip, tmp_path / "maps")


def test_damaged_frames_and_maps_are_refused_or_mended_never_crash(tmp_path):
    path = write_clip(tmp_path, steps=range(4))
    target = path / "anno" / "00002.json.gz"
    whole = target.read_bytes()
    plain = json.dumps(frame(2)).replace("NaN", "0").encode()
    for damaged in mutations(plain, seed=4, count=60):
        target.write_bytes(gzip.compress(damaged))
        assert_clean("bench2drive", path)
    for damaged in mutations(whole, seed=5, count=20):
        target.write_bytes(damaged)
        assert_clean("bench2drive", path)
    target.write_bytes(whole)
    map_path = write_map(tmp_path / "maps")
    data = map_path.read_bytes()
    for number, damaged in enumerate(mutations(data, seed=6, count=20)):
        # A folder of its own: maps are kept in memory by their path.
        folder = tmp_path / f"maps{number}"
        folder.mkdir()
        (folder / map_path.name).write_bytes(damaged)
        map_path.unlink(missing_ok=True)
        assert_clean("bench2drive", path, ReadOptions(maps=folder))
