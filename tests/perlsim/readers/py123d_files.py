"""Writes small logs to the schema of py123d 0.7.0: the ego east at 8 m/s on lane 1, a car ahead of it."""

from pathlib import Path

import msgpack
import numpy as np
import pyarrow as pa
import shapely

START = 1_600_000_000_000_000  # µs
EGO = {
    "vehicle_name": "test",
    "width": 2.0,
    "length": 5.0,
    "height": 1.6,
    "wheel_base": 3.0,
    "center_to_imu_se3": [1.4, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0],
    "rear_axle_to_imu_se3": [-0.1, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
}
LABELS = "py123d.parser.registry.AV2SensorBoxDetectionLabel"
REGULAR_VEHICLE, PEDESTRIAN = 18, 16


def write(path: Path, columns: dict, about: dict | None) -> None:
    """An Arrow file; ``columns`` maps names to (values, type)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(columns)
    table = pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})
    schema = table.schema.with_metadata(None if about is None else {b"metadata": msgpack.packb(about)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(table.select(names).cast(schema))


def array(values):
    values = np.asarray(values, np.float64)
    return {b"__ndarray__": True, b"dtype": "<f8", b"shape": values.shape, b"data": values.tobytes()}


def about_log(**changed):
    told = {"dataset": "nuplan", "location": "boston", "map_has_z": True, "map_is_per_log": True}
    log = {"dataset": "nuplan", "split": "nuplan_val", "log_name": "log", "location": "boston"}
    return {**log, "version": "0.7.0", "map_metadata": {**told, "version": "0.7.0"}, **changed}


def lane_features(left, right, **changed):
    outline = np.concatenate([left, right[::-1], left[:1]])
    return {
        "lane_type": 2,
        "lane_group_id": 0,
        "left_boundary": array(left),
        "right_boundary": array(right),
        "centerline": array(0.5 * (np.asarray(left) + np.asarray(right))),
        "left_lane_id": None,
        "right_lane_id": None,
        "predecessor_ids": [],
        "successor_ids": [],
        "speed_limit_mps": None,
        "outline": array(outline),
        **changed,
    }


def row(y, x=(0.0, 300.0)):
    return np.array([[px, y, 10.0] for px in x])


def default_objects():
    """Rows of object id, layer, features and geometry: see the numbers of layers in the reader."""
    square = np.array([[100, -2, 10], [104, -2, 10], [104, 5, 10], [100, 5, 10], [100, -2, 10]], float)
    return [
        (1, 0, lane_features(row(2), row(-2), left_lane_id=2, successor_ids=[3, 77], speed_limit_mps=13.0)),
        (2, 0, lane_features(row(6), row(2), right_lane_id=1, left_lane_id=4)),
        (3, 0, lane_features(row(2, (300.0, 340.0)), row(-2, (300.0, 340.0)), lane_group_id=9)),
        (4, 0, lane_features(row(6)[::-1], row(10)[::-1], left_lane_id=2, lane_type=4)),
        (0, 1, {"lane_ids": [1, 2], "intersection_id": None, "outline": array(square)}),
        (9, 1, {"lane_ids": [3], "intersection_id": 5, "outline": array(square)}),
        (6, 3, {"outline": array(square)}),
        (7, 7, {"stop_zone_type": 2, "lane_ids": [1], "outline": array(np.add(square, [100, 0, 0]))}),
        (8, 9, {"road_line_type": 4}, row(2)),
        (9, 9, {"road_line_type": 6}, row(6)),
    ]


def write_map(path: Path, objects=None, **about) -> None:
    rows = default_objects() if objects is None else objects
    lines = [shapely.LineString(r[3]) if len(r) > 3 else shapely.Polygon() for r in rows]
    columns = {
        "object_id": ([r[0] for r in rows], pa.int64()),
        "map_layer": ([r[1] for r in rows], pa.int8()),
        "features": ([msgpack.packb(r[2], use_bin_type=True) for r in rows], pa.binary()),
        "wkb": ([shapely.to_wkb(line) for line in lines], pa.binary()),
    }
    write(path, columns, {**about_log()["map_metadata"], **about})


def write_log(folder: Path, *, frames=40, step=100_000, lights=True, log=None, ego=EGO, objects=None) -> Path:
    """A log folder with all files that are read."""
    stamps = START + np.arange(frames) * step
    seconds = (stamps - START) * 1e-6
    write(folder / "sync.arrow", {"sync.timestamp_us": (stamps, pa.int64())}, log or about_log())
    poses = [[20 + 8 * t, 0.0, 10.3, 1.0, 0.0, 0.0, 0.0] for t in seconds]
    key = "ego_state_se3"
    columns = {
        f"{key}.timestamp_us": (stamps, pa.int64()),
        f"{key}.imu_se3": (poses, pa.list_(pa.float64(), 7)),
        f"{key}.dynamic_state_se3": ([[0.0] * 9] * frames, pa.list_(pa.float64(), 9)),
    }
    write(folder / f"{key}.arrow", columns, ego)
    key = "box_detections_se3"
    boxes = [
        [
            [60 + 5 * t, 0.2, 10.8, 1.0, 0.0, 0.0, 0.0, 4.5, 1.9, 1.6],
            [80, 8, 10.9, 0.0, 0.0, 0.0, 1.0, 0.6, 0.7, 1.8],
        ]
        for t in seconds
    ]
    columns = {
        f"{key}.timestamp_us": (stamps, pa.int64()),
        f"{key}.bounding_box_se3": (boxes, pa.list_(pa.list_(pa.float64(), 10))),
        f"{key}.track_token": ([["car", "walker"]] * frames, pa.list_(pa.string())),
        f"{key}.label": ([[REGULAR_VEHICLE, PEDESTRIAN]] * frames, pa.list_(pa.uint16())),
        f"{key}.velocity_3d": ([[[5.0, 0, 0], [0.0, 0, 0]]] * frames, pa.list_(pa.list_(pa.float64(), 3))),
        f"{key}.num_lidar_points": ([[9, 9]] * frames, pa.list_(pa.int32())),
    }
    write(folder / f"{key}.arrow", columns, {"box_detection_label_class": LABELS})
    if lights:
        key = "traffic_light_detections"
        columns = {
            f"{key}.timestamp_us": (stamps, pa.int64()),
            f"{key}.lane_id": ([[3, 555] if i else [] for i in range(frames)], pa.list_(pa.int32())),
            f"{key}.status": ([[2, 0] if i else [] for i in range(frames)], pa.list_(pa.uint8())),
        }
        write(folder / f"{key}.arrow", columns, {})
    write_map(folder / "map.arrow", objects)
    return folder
