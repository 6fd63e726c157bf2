"""Writes small Argoverse 2 logs: a straight road of two lanes along x, and whoever is on it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

CITY_OFFSET = np.array([1000.0, 2000.0, 10.0])
EGO_SPEED = 8.0
OTHER_SPEED = 5.0


def quaternion(heading):
    """w, x, y, z of a turn about z."""
    heading = np.asarray(heading, float)
    zero = np.zeros_like(heading)
    return {"qw": np.cos(heading / 2), "qx": zero, "qy": zero, "qz": np.sin(heading / 2)}


def lane(
    key, y_left, y_right, *, x=(0.0, 200.0), reverse=False, marks=("SOLID_YELLOW", "SOLID_WHITE"), **extra
):
    xs = x[::-1] if reverse else x
    border = [[{"x": 1000.0 + px, "y": 2000.0 + y, "z": 10.0} for px in xs] for y in (y_left, y_right)]
    return str(key), {
        "id": key,
        "is_intersection": False,
        "lane_type": "VEHICLE",
        "left_lane_boundary": border[0],
        "right_lane_boundary": border[1],
        "left_lane_mark_type": marks[0],
        "right_lane_mark_type": marks[1],
        "successors": [],
        "predecessors": [],
        "left_neighbor_id": None,
        "right_neighbor_id": None,
        **extra,
    }


def two_lane_map():
    """Lanes 1 (left) and 2 (right) run east, 3 west; 4 follows 2; neighbours partly outside the archive."""
    broken, yellow = "DASHED_WHITE", "DOUBLE_SOLID_YELLOW"
    lanes = [
        lane(1, 5, 1.5, marks=(yellow, broken), right_neighbor_id=2, left_neighbor_id=3),
        lane(
            2,
            1.5,
            -2,
            marks=(broken, "SOLID_WHITE"),
            left_neighbor_id=1,
            right_neighbor_id=99,
            successors=[4, 98],
        ),
        lane(3, 5, 8.5, reverse=True, marks=(yellow, "NONE"), left_neighbor_id=1, lane_type="BUS"),
        lane(4, 1.5, -2, x=(200.0, 260.0), is_intersection=True, lane_type="BIKE"),
    ]
    corners = [(0, -2), (260, -2), (260, 8.5), (0, 8.5)]
    area = [{"x": 1000.0 + x, "y": 2000.0 + y, "z": 10.0} for x, y in corners]
    crossing = {
        "id": 7,
        "edge1": [{"x": 1100.0, "y": 1998.0, "z": 10.0}, {"x": 1100.0, "y": 2008.0, "z": 10.0}],
        "edge2": [{"x": 1103.0, "y": 2008.0, "z": 10.0}, {"x": 1103.0, "y": 1998.0, "z": 10.0}],
    }
    return {
        "lane_segments": dict(lanes),
        "drivable_areas": {"5": {"id": 5, "area_boundary": area}},
        "pedestrian_crossings": {"7": crossing},
    }


def write_map(folder: Path, archive=None, name="log_map_archive_log____MIA_city_1.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(two_lane_map() if archive is None else archive))
    return folder / name


def sensor_log(folder: Path, *, frames=30, stamps=None, drop=(), ego_row=False, archive=None) -> Path:
    """The ego drives east at 8 m/s along y = 0, turned by 0.0 rad; another drives 20 m ahead at 5 m/s.

    Args:
        folder: to be made.
        frames: sweeps, 0.1 s apart.
        stamps: ns, other time stamps for the sweeps.
        drop: sweeps without any box.
        ego_row: whether the annotations have the ego itself, 4.5 × 1.8 × 1.4 m.
        archive: map archive.
    """
    folder.mkdir(parents=True)
    first = 315_970_000_000_000_000
    stamps = first + (np.arange(frames) * 100_000_000 if stamps is None else np.asarray(stamps))
    write_map(folder / "map", archive)
    times = np.arange(stamps[0] - 50_000_000, stamps[-1] + 50_000_000, 5_000_000)
    seconds = (times - first) * 1e-9
    heading = 0.05 * np.sin(seconds)
    poses = {
        "timestamp_ns": times,
        **quaternion(heading),
        "tx_m": CITY_OFFSET[0] + 20 + EGO_SPEED * seconds,
        "ty_m": np.full(len(times), CITY_OFFSET[1]),
        "tz_m": np.full(len(times), CITY_OFFSET[2] + 0.31),
    }
    pa.feather.write_feather(pa.table(poses), folder / "city_SE3_egovehicle.feather")
    rows = []
    for i, stamp in enumerate(stamps.tolist()):
        if i in drop:
            continue
        now = (stamp - first) * 1e-9
        # The other's centre in the moving ego frame, whose heading changes with time.
        yaw = 0.05 * np.sin(now)
        apart = np.array([20 + (OTHER_SPEED - EGO_SPEED) * now, 3.0])
        local = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]]) @ apart
        rows.append((stamp, "other", "REGULAR_VEHICLE", 4.0, 2.0, 1.6, -yaw, *local, 0.49))
        if ego_row:
            rows.append((stamp, "self", "EGO_VEHICLE", 4.5, 1.8, 1.4, 0.0, 0.0, 0.0, 0.0))
    names = (
        "timestamp_ns",
        "track_uuid",
        "category",
        "length_m",
        "width_m",
        "height_m",
        "yaw",
        "tx_m",
        "ty_m",
        "tz_m",
    )
    columns = dict(zip(names, (list(values) for values in zip(*rows, strict=True)), strict=True))
    columns |= {name: list(values) for name, values in quaternion(columns.pop("yaw")).items()}
    pa.feather.write_feather(pa.table(columns), folder / "annotations.feather")
    return folder


def motion_scenario(folder: Path, *, steps=11, archive=None, **replaced) -> Path:
    """The vehicle "AV" east at 8 m/s, a pedestrian at rest; ``replaced`` columns."""
    folder.mkdir(parents=True, exist_ok=True)
    write_map(folder, archive, "log_map_archive_one.json")
    step = np.concatenate([np.arange(steps)] * 2)
    moving = np.repeat([1.0, 0.0], steps)
    columns = {
        "track_id": ["AV"] * steps + ["17"] * steps,
        "object_type": ["vehicle"] * steps + ["pedestrian"] * steps,
        "timestep": step,
        "position_x": 1020.0 + moving * EGO_SPEED * 0.1 * step + (1 - moving) * 30,
        "position_y": np.full(2 * steps, 2000.0) - (1 - moving) * 1.5,
        "heading": np.zeros(2 * steps),
        "velocity_x": moving * EGO_SPEED,
        "velocity_y": np.zeros(2 * steps),
        "city": ["austin"] * 2 * steps,
        **replaced,
    }
    pa.parquet.write_table(pa.table(columns), folder / "scenario_one.parquet")
    return folder
