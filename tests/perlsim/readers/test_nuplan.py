"""nuPlan logs and maps, written to the public schema (no real log is at hand)."""

import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
import shapely
from fuzzing import assert_clean, mutations

from perlsim.errors import FormatError
from perlsim.readers import FORMATS, ReadOptions, guess_format
from perlsim.readers.utm import to_utm
from perlsim.vocabulary import AgentType, LaneType, LightState, MarkingType

READER = FORMATS["nuplan"]
ORIGIN = np.array([664_700.0, 3_997_600.0])  # m, Las Vegas, UTM zone 11
CITY = "us-nv-las-vegas-strip"

SCHEMA = """
CREATE TABLE log (token BLOB PRIMARY KEY, vehicle_name VARCHAR(64), date VARCHAR(64), timestamp INTEGER,
    logfile VARCHAR(64), location VARCHAR(64), map_version VARCHAR(64));
CREATE TABLE ego_pose (token BLOB PRIMARY KEY, timestamp INTEGER, x FLOAT, y FLOAT, z FLOAT, qw FLOAT,
    qx FLOAT, qy FLOAT, qz FLOAT, vx FLOAT, vy FLOAT, vz FLOAT, acceleration_x FLOAT, acceleration_y FLOAT,
    acceleration_z FLOAT, angular_rate_x FLOAT, angular_rate_y FLOAT, angular_rate_z FLOAT, epsg INTEGER,
    log_token BLOB);
CREATE TABLE lidar_pc (token BLOB PRIMARY KEY, next_token BLOB, prev_token BLOB, ego_pose_token BLOB,
    lidar_token BLOB, scene_token BLOB, filename VARCHAR(128), timestamp INTEGER);
CREATE TABLE lidar_box (token BLOB PRIMARY KEY, lidar_pc_token BLOB, track_token BLOB, next_token BLOB,
    prev_token BLOB, x FLOAT, y FLOAT, z FLOAT, width FLOAT, length FLOAT, height FLOAT, vx FLOAT, vy FLOAT,
    vz FLOAT, yaw FLOAT, confidence FLOAT);
CREATE TABLE track (token BLOB PRIMARY KEY, category_token BLOB, width FLOAT, length FLOAT, height FLOAT);
CREATE TABLE category (token BLOB PRIMARY KEY, name VARCHAR(64), description TEXT);
CREATE TABLE traffic_light_status (token BLOB PRIMARY KEY, lidar_pc_token BLOB, lane_connector_id INTEGER,
    status VARCHAR(8));
CREATE TABLE scene (token BLOB PRIMARY KEY, log_token BLOB, name TEXT, goal_ego_pose_token BLOB,
    roadblock_ids TEXT);
CREATE TABLE scenario_tag (token BLOB PRIMARY KEY, lidar_pc_token BLOB, type TEXT, agent_track_token BLOB);
CREATE INDEX box_of_sweep ON lidar_box (lidar_pc_token);
"""


def token(kind: int, number: int) -> bytes:
    return struct.pack(">II", kind, number)


def insert(connection, table, row):
    connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)


def write_log(path: Path, sweeps=41, yaw_rate=0.0, speed=8.0) -> Path:
    """The rear axle drives a line (or circle) from the origin, a car comes towards it, a walker stands."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    insert(connection, "log", (token(1, 0), "g1p-veh-2016", "2021.05.12", 0, path.stem, CITY, CITY))
    for number, (name, size) in enumerate((("vehicle", (1.9, 4.6, 1.5)), ("pedestrian", (0.7, 0.8, 1.8)))):
        insert(connection, "category", (token(2, number), name, ""))
        insert(connection, "track", (token(3, number), token(2, number), *size))
    for i in range(sweeps):
        t, stamp = 0.05 * i, 1_620_000_000_000_000 + 50_000 * i
        heading = yaw_rate * t
        if yaw_rate:
            x, y = speed / yaw_rate * np.sin(heading), speed / yaw_rate * (1 - np.cos(heading))
        else:
            x, y = speed * t, 0.0
        pose = (ORIGIN[0] + x, ORIGIN[1] + y, 600.0, np.cos(heading / 2), 0.0, 0.0, np.sin(heading / 2))
        rest = (speed, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, yaw_rate, 32611, token(1, 0))
        insert(connection, "ego_pose", (token(4, i), stamp, *pose, *rest))
        insert(connection, "lidar_pc", (token(5, i), None, None, token(4, i), b"l", b"s", f"{i}.pcd", stamp))
        for number, (bx, by, vx, yaw) in enumerate(((60 - 5 * t, 3.5, -5.0, np.pi), (20.0, -6.0, 0.0, 0.0))):
            box = (ORIGIN[0] + bx, ORIGIN[1] + by, 600.75, 1.9, 4.6, 1.5, vx, 0.0, 0.0, yaw, 1.0)
            insert(
                connection,
                "lidar_box",
                (token(6, 10 * i + number), token(5, i), token(3, number), None, None, *box),
            )
        insert(
            connection, "traffic_light_status", (token(7, i), token(5, i), 30, "red" if i < 20 else "green")
        )
    connection.commit()
    connection.close()
    return path


def geographic(points):
    """Longitude and latitude of UTM points, by inverting `to_utm` with Newton's method."""
    found = np.tile([-115.17, 36.11], (len(points), 1))
    for _ in range(6):
        here = to_utm(found, 11)
        columns = [(to_utm(found + step, 11) - here) / 1e-6 for step in np.eye(2) * 1e-6]
        jacobian = np.stack(columns, axis=-1)
        found = found + np.linalg.solve(jacobian, (np.asarray(points) - here)[..., None])[..., 0]
    return found


def write_map(folder: Path, srs=32611, projection="EPSG:32611", layers=None) -> Path:
    path = folder / CITY / "9.15.1915" / "map.gpkg"
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE meta (fid INTEGER PRIMARY KEY, key TEXT, value TEXT)")
    connection.execute("INSERT INTO meta (key, value) VALUES ('projectedCoordSystem', ?)", (projection,))
    connection.execute(
        "CREATE TABLE gpkg_geometry_columns (table_name TEXT, column_name TEXT, srs_id INTEGER)"
    )
    for name, (columns, rows) in (layers or map_layers()).items():
        connection.execute(
            f"CREATE TABLE {name} (fid INTEGER PRIMARY KEY, geom BLOB, {columns or 'note TEXT'})"
        )
        connection.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', ?)", (name, srs))
        for fid, shape, *values in rows:
            shape = shapely.transform(shape, lambda p: p + ORIGIN)
            if srs == 4326:
                shape = shapely.transform(shape, geographic)
            # A header with an envelope of x and y, as common writers put it there.
            envelope = struct.pack("<4d", *np.array(shape.bounds)[[0, 2, 1, 3]])
            blob = b"GP\x00\x03" + struct.pack("<i", srs) + envelope + shapely.to_wkb(shape)
            insert(connection, name, (fid, blob, *(values if columns else [""])))
    connection.commit()
    connection.close()
    return path


def map_layers():
    """Two lanes east (10 left of 11) to x = 50, a connector 30 from lane 11 to lane 12 beyond x = 70."""
    line, box = shapely.LineString, shapely.box
    lanes = "lane_fid INTEGER, lane_group_fid INTEGER, lane_index INTEGER, lane_type_fid INTEGER,"
    lanes += "left_boundary_fid INTEGER, right_boundary_fid INTEGER, speed_limit_mps FLOAT"
    links = "exit_lane_fid INTEGER, entry_lane_fid INTEGER, traffic_light_stop_line_fids TEXT,"
    links += "speed_limit_mps FLOAT"
    hole = shapely.Polygon(box(50, -4, 70, 4).exterior, [box(58, 2, 60, 3).exterior.coords])
    return {
        "lanes_polygons": (
            lanes,
            [
                (10, box(-30, 1.75, 50, 5.25), 10, 1, 0, 0, 1, 2, 15.0),
                (11, box(-30, -1.75, 50, 1.75), 11, 1, 1, 0, 2, 3, None),
                (12, box(70, -1.75, 120, 1.75), 12, 2, 0, 1, 4, 5, 10.0),
            ],
        ),
        "lane_connectors": (links, [(30, line([(50, 0), (70, 0)]), 11, 12, "40", None)]),
        "baseline_paths": (
            "lane_fid INTEGER, lane_connector_fid INTEGER",
            [
                (1, line([(-30, 3.5), (50, 3.5)]), 10, None),
                (2, line([(-30, 0), (10, 0), (50, 0)]), 11, None),
                (3, line([(50, 0), (70, 0)]), None, 30),
                (4, line([(70, 0), (120, 0)]), 12, None),
            ],
        ),
        "gen_lane_connectors_scaled_width_polygons": (
            "lane_connector_fid INTEGER",
            [(1, box(50, -2, 70, 2), 30)],
        ),
        "boundaries": (
            "boundary_type_fid INTEGER",
            [
                (1, line([(-30, 5.25), (50, 5.25)]), 2),
                (2, line([(-30, 1.75), (50, 1.75)]), 0),
                (3, line([(-30, -1.75), (50, -1.75)]), 3),
            ],
        ),
        "road_segments": ("", [(1, box(-30, -1.75, 50, 5.25)), (2, box(70, -1.75, 120, 1.75))]),
        "intersections": ("", [(1, hole)]),
        "crosswalks": ("", [(1, box(52, -2, 55, 2))]),
        "stop_polygons": (
            "stop_polygon_type_fid INTEGER",
            [(40, box(48, -2, 49, 2), 2), (41, box(110, -2, 111, 2), 1)],
        ),
    }


@pytest.fixture
def log(tmp_path):
    return write_log(tmp_path / "2021.05.12.22.00.38_veh-35.db")


@pytest.fixture
def maps(tmp_path):
    write_map(tmp_path / "maps")
    return tmp_path / "maps"


def read_one(path, maps=None, window=20.0):
    (scenario,) = READER.read(path, ReadOptions(maps=maps, window=window))
    return scenario


@pytest.mark.parametrize(
    ("zone", "south", "place", "expected"),
    [
        # By PROJ 9 (epsg 326zz and 327zz), to a micrometre.
        (11, False, (-115.17, 36.11), (664712.824115, 3997699.687481)),
        (11, False, (-114.0, 36.0), (770421.370010, 3988111.962343)),
        (48, False, (103.787, 1.297), (365047.681047, 143390.054044)),
        (19, False, (-71.05, 42.35), (331154.010838, 4690672.815282)),
        (56, True, (151.2093, -33.8688), (334368.633648, 6250948.345385)),
    ],
)
def test_utm_agrees_with_proj(zone, south, place, expected):
    np.testing.assert_allclose(to_utm(np.array([place]), zone, south=south)[0], expected, atol=2e-6)


def test_a_log_is_recognised_and_other_databases_are_not(tmp_path, log):
    assert guess_format(log).name == "nuplan"
    other = tmp_path / "other.db"
    sqlite3.connect(other).execute("CREATE TABLE things (x)")
    assert not READER.sniff(other)
    assert not READER.sniff(tmp_path / "absent.db")


def test_every_second_sweep_is_taken_and_the_ego_is_its_box_centre(log):
    scenario = read_one(log)
    assert scenario.dt == 0.1 and scenario.tracks.num_steps == 21
    np.testing.assert_allclose(scenario.origin, [ORIGIN[0] + 1.461, ORIGIN[1], 0], atol=1e-6)
    np.testing.assert_allclose(scenario.tracks.size[0], [5.176, 2.297, 1.777], atol=1e-5)
    assert scenario.ego.wheelbase == pytest.approx(3.089)
    assert scenario.ego.rear_axle_to_centre == pytest.approx(1.461)
    np.testing.assert_allclose(scenario.tracks.velocity[0], [[8, 0]] * 21, atol=1e-5)


def test_the_velocity_of_the_box_centre_swings_out_in_a_turn(tmp_path):
    scenario = read_one(write_log(tmp_path / "turn.db", yaw_rate=0.4))
    velocity, position = scenario.tracks.velocity[0], scenario.tracks.position[0, :, :2]
    numeric = (position[2:] - position[:-2]) / 0.2
    np.testing.assert_allclose(velocity[1:-1], numeric, atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(velocity, axis=1), np.hypot(8, 0.4 * 1.461), rtol=1e-4)


def test_boxes_keep_their_size_kind_and_velocity(log):
    tracks = read_one(log).tracks
    assert tracks.kind.tolist() == [AgentType.VEHICLE, AgentType.VEHICLE, AgentType.PEDESTRIAN]
    np.testing.assert_allclose(tracks.size[1], [4.6, 1.9, 1.5], atol=1e-6)
    np.testing.assert_allclose(tracks.velocity[1, 3], [-5, 0], atol=1e-5)
    np.testing.assert_allclose(np.abs(tracks.heading[1]), np.pi, atol=1e-5)


def test_windows_cut_a_log_without_losing_its_recording(log):
    scenarios = list(READER.read(log, ReadOptions(window=1.0)))
    assert [s.tracks.num_steps for s in scenarios] == [7, 7, 7]
    assert {s.recording_id for s in scenarios} == {log.stem}
    np.testing.assert_allclose(np.diff([s.start_time for s in scenarios]), 0.7, atol=1e-3)


def test_without_a_map_there_is_no_road_and_it_says_so(log):
    scenario = read_one(log)
    assert len(scenario.road.lanes) == 0
    assert any(CITY in gap for gap in scenario.missing)


def test_the_map_gives_a_lane_graph(log, maps):
    scenario = read_one(log, maps)
    lanes = scenario.road.lanes
    row = {name: i for i, name in enumerate(lanes.ids)}
    left, right, link, beyond = (row[n] for n in ("lane 10", "lane 11", "connector 30", "lane 12"))
    assert lanes.successors[right].tolist() == [link] and lanes.successors[link].tolist() == [beyond]
    assert lanes.right[left].tolist() == [right] and lanes.left[right].tolist() == [left]
    assert lanes.in_junction.tolist() == [i == link for i in range(4)]
    assert lanes.kind[beyond] == LaneType.BICYCLE and lanes.kind[left] == LaneType.DRIVING
    assert lanes.speed_limit[left] == 15 and np.isnan(lanes.speed_limit[right])
    np.testing.assert_allclose(
        lanes.centre[right][0] + scenario.origin, [ORIGIN[0] - 30, ORIGIN[1], 0], atol=1e-3
    )
    np.testing.assert_allclose(lanes.width[lanes.centre.offsets[[left, link]]], [3.5, 4.0], atol=1e-3)
    assert sorted(scenario.road.markings.kind.tolist()) == [
        MarkingType.NONE,
        MarkingType.BROKEN,
        MarkingType.SOLID,
    ]


def test_lights_follow_their_connector_from_the_sweep_on(log, maps):
    scenario = read_one(log, maps)
    lights = scenario.lights
    assert [scenario.road.lanes.ids[i] for i in lights.lane_idx] == ["connector 30"]
    np.testing.assert_allclose(
        lights.position[0] + scenario.origin, [ORIGIN[0] + 50, ORIGIN[1], 0], atol=1e-3
    )
    np.testing.assert_allclose(lights.heading, 0, atol=1e-6)
    assert lights.state[0].tolist() == [LightState.RED] * 10 + [LightState.GREEN] * 11


def test_drivable_area_keeps_its_holes_and_stop_signs_their_lane(log, maps):
    scenario = read_one(log, maps)
    rings = scenario.road.edges.rows()
    area = sum(0.5 * np.sum(r[:-1, 0] * r[1:, 1] - r[1:, 0] * r[:-1, 1]) for r in rings)
    assert area == pytest.approx(80 * 7 + 50 * 3.5 + 20 * 8 - 2, abs=0.5)
    signs = scenario.road.stop_signs
    assert [scenario.road.lanes.ids[i] for i in signs.lane_idx] == ["lane 12"]
    np.testing.assert_allclose(signs.position[0, 0] + scenario.origin[0], ORIGIN[0] + 110, atol=1e-2)
    assert len(scenario.road.crosswalks[0]) == 4


def test_longitudes_and_latitudes_give_the_same_map(tmp_path, log, maps):
    write_map(tmp_path / "degrees", srs=4326)
    a, b = read_one(log, maps), read_one(log, tmp_path / "degrees")
    np.testing.assert_allclose(a.road.lanes.centre.values, b.road.lanes.centre.values, atol=1e-3)


@pytest.mark.parametrize("table", ["lidar_pc", "ego_pose", "lidar_box", "track", "category", "log"])
def test_a_missing_table_is_named(log, table):
    connection = sqlite3.connect(log)
    connection.execute(f"DROP TABLE {table}")
    connection.commit()
    connection.close()
    with pytest.raises(FormatError, match=table) as caught:
        list(READER.read(log))
    assert log.name in str(caught.value)


def test_an_empty_log_is_refused(tmp_path):
    with pytest.raises(FormatError, match="lidar_pc"):
        list(READER.read(write_log(tmp_path / "empty.db", sweeps=0)))


def test_a_map_in_an_unknown_projection_is_refused(tmp_path, log):
    write_map(tmp_path / "odd", projection="EPSG:3857")
    with pytest.raises(FormatError, match="projectedCoordSystem"):
        read_one(log, tmp_path / "odd")


def test_reading_leaves_nothing_beside_the_log(log):
    list(READER.read(log))
    assert [file.name for file in log.parent.iterdir()] == [log.name]


def test_damaged_logs_and_maps_are_refused_or_mended_never_crash(tmp_path):
    log = write_log(tmp_path / "short.db", sweeps=5)
    data = log.read_bytes()
    for damaged in mutations(data, seed=7, count=60):
        log.write_bytes(damaged)
        assert_clean("nuplan", log)
    log.write_bytes(data)
    whole = write_map(tmp_path / "maps")
    for number, damaged in enumerate(mutations(whole.read_bytes(), seed=8, count=40)):
        # A folder of its own: maps are kept in memory by their path.
        target = tmp_path / f"maps{number}" / whole.relative_to(tmp_path / "maps")
        target.parent.mkdir(parents=True)
        target.write_bytes(damaged)
        assert_clean("nuplan", log, ReadOptions(maps=tmp_path / f"maps{number}"))
