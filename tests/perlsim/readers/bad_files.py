"""Logs of every format with one thing wrong in each, made from the small sound logs of the other modules.

`BAD[format][case]` writes the log into an empty folder and returns what to read, with `ReadOptions` where it
needs some.
"""

import sqlite3

import argoverse_files
import bad_waymo_files as waymo
import commonroad_files
import numpy as np
import py123d_files
import pyarrow as pa
import pyarrow.feather
import test_bench2drive as bench2drive_files
import test_carla_recorder as carla_files
import test_nuplan as nuplan_files
from bad_waymo_files import MANY, NAN, saved

from perlsim.readers import ReadOptions


def still_archive():
    """An Argoverse map whose third lane has no length."""
    archive = argoverse_files.two_lane_map()
    key, lane = argoverse_files.lane(5, 5.0, 1.5, x=(90.0, 90.0))
    archive["lane_segments"][key] = lane
    return archive


def av2_sensor_cases():
    def boxes(change):
        def write(folder):
            log = argoverse_files.sensor_log(folder / "log")
            file = log / "annotations.feather"
            rows = pa.feather.read_table(file).to_pylist()
            schema = pa.feather.read_table(file).schema
            pa.feather.write_feather(pa.Table.from_pylist(change(rows), schema), file)
            return log

        return write

    def crowd(rows):
        return [
            {**row, "track_uuid": f"car {k}", "ty_m": row["ty_m"] + 0.1 * k}
            for row in rows
            for k in range(MANY - 1)
        ]

    return {
        "NaN position": boxes(lambda rows: [{**r, "tx_m": NAN} if i == 3 else r for i, r in enumerate(rows)]),
        "lane without length": lambda folder: argoverse_files.sensor_log(
            folder / "log", archive=still_archive()
        ),
        "no road user": boxes(lambda rows: []),
        "one step": lambda folder: argoverse_files.sensor_log(folder / "log", frames=1),
        "500 road users": boxes(crowd),
        "id twice": boxes(lambda rows: [*rows, *rows[:1]]),
    }


def av2_motion_cases():
    def columns(**replaced):
        return lambda folder: argoverse_files.motion_scenario(folder / "one", **replaced)

    def crowd(folder):
        steps, others = 11, MANY - 1
        step = np.tile(np.arange(steps), MANY)
        ids = np.repeat(["AV", *(f"{k}" for k in range(others))], steps)
        number = np.repeat(np.arange(MANY), steps)
        return argoverse_files.motion_scenario(
            folder / "one",
            steps=steps,
            track_id=ids.tolist(),
            object_type=["vehicle"] * MANY * steps,
            timestep=step,
            position_x=1020.0 + 0.8 * step,
            position_y=2000.0 + 4.0 * number,
            heading=np.zeros(MANY * steps),
            velocity_x=np.full(MANY * steps, 8.0),
            velocity_y=np.zeros(MANY * steps),
            city=["austin"] * MANY * steps,
        )

    def nobody(folder):
        text, real, whole = (pa.array([], kind) for kind in (pa.string(), pa.float64(), pa.int64()))
        names = ("position_x", "position_y", "heading", "velocity_x", "velocity_y")
        empty = {"track_id": text, "object_type": text, "city": text, "timestep": whole}
        return argoverse_files.motion_scenario(folder / "one", steps=0, **empty, **dict.fromkeys(names, real))

    x = 1020.0 + 0.8 * np.concatenate([np.arange(11)] * 2)
    step = np.concatenate([np.arange(11)] * 2)
    return {
        "NaN position": columns(position_x=np.where(np.arange(22) == 14, np.nan, x)),
        "lane without length": columns(archive=still_archive()),
        "no road user": nobody,
        "one step": columns(steps=1),
        "500 road users": crowd,
        "id twice": columns(timestep=np.where(step == 5, 4, step)),
    }


def commonroad_cases():
    files = commonroad_files

    def parts(*more, lanelets=True, **options):
        base = [*files.default_lanelets(), files.SIGNS, files.LIGHTS, files.INTERSECTION] if lanelets else []
        return lambda folder: files.write(folder, *base, *more, **options)

    odd = files.light(70, "left", offset=4, colours=("green", "purple", "red")) + files.light(71, "straight")
    return {
        "wrong version": parts(files.car(40, 50, -2), version="2030z"),
        "NaN position": parts(files.car(40, 50, -2), files.car(41, NAN, -2)),
        "lane without length": parts(
            files.lanelet(20, [(50, 4)] * 3, [(50, 0)] * 3), files.car(40, 50, -2), files.problem()
        ),
        "no road user": parts(),
        "one step": parts(files.car(40, 50, -2, steps=0)),
        "500 road users": parts(*(files.car(1000 + k, 5 * k, -2, steps=2) for k in range(MANY))),
        "unknown light state": lambda folder: files.write(
            folder, *files.default_lanelets(), odd, files.INTERSECTION, files.car(40, 50, -2)
        ),
        "id twice": parts(files.car(40, 50, -2), files.car(40, 70, -2)),
    }


def bench2drive_cases():
    files = bench2drive_files

    def frames(change, steps=range(6)):
        return lambda folder: files.write_clip(folder, steps, change)

    def box(number, **new):
        return lambda step, content: content["bounding_boxes"][number].update(new)

    def nan(step, content):
        if step == 3:
            content["bounding_boxes"][1]["center"][0] = NAN

    def crowd(step, content):
        parked = content["bounding_boxes"][2]
        content["bounding_boxes"][2:] = [
            {**parked, "id": str(1000 + k), "center": [30, 5.0 + 4 * k, 0.75]} for k in range(MANY - 2)
        ]

    def still_lane(folder):
        content = files.hd_map()
        content[1][-2][2] = files.line(5.25, 70, 70, "Center")
        files.write_map(folder / "maps", content)
        return files.write_clip(folder, range(6)), ReadOptions(maps=folder / "maps")

    return {
        "NaN position": frames(nan),
        "lane without length": still_lane,
        "no road user": frames(lambda step, content: content["bounding_boxes"].clear()),
        "one step": frames(None, range(1)),
        "500 road users": frames(crowd),
        "unknown light state": frames(box(4, state=7)),
        "id twice": frames(box(2, id="101")),
    }


def carla_recorder_cases():
    files, times = carla_files, np.arange(0, 1.01, 0.05)

    def log(data):
        return lambda folder: saved(folder, "drive.log", data)

    def nan(i):
        return [files.positions([(10, NAN, 0, 0, 0)])] if i == 8 else []

    def twice(i):
        return [files.positions([(10, 1000 * times[i], 0, 0, 0)] * 2)]

    signal = files.events(files.added(20, "traffic.traffic_light", location=(1000, 2000, 0)))
    crowd = files.events(*(files.added(100 + k, "vehicle.audi.tt") for k in range(MANY - 1)))
    places = [(100 + k, 500.0, 400.0 * k + 800, 0.0, 0.0) for k in range(MANY - 1)]

    def everybody(i):
        way = 1000 * times[i]
        hero = (10, way * np.cos(np.pi / 6), way * np.sin(np.pi / 6), 0, 30.0)
        return [files.positions([hero, *places])]

    return {
        "wrong version": log(files.header(version=2) + files.car_log(times)[len(files.header()) :]),
        "NaN position": log(files.car_log(times, then=nan)),
        "no road user": log(files.header() + files.frame(1, 0.0) + files.frame(2, 0.1)),
        "one step": log(files.car_log(times[:1])),
        "500 road users": log(files.car_log(times, first=[crowd], then=everybody)),
        "unknown light state": log(
            files.car_log(times, first=[signal], then=lambda i: [files.lights([(20, 9 if i > 8 else 0)])])
        ),
        "id twice": log(files.car_log(times, then=twice)),
    }


def nuplan_cases():
    files = nuplan_files

    def log(*statements, sweeps=11):
        def write(folder):
            path = files.write_log(folder / "drive.db", sweeps=sweeps)
            connection = sqlite3.connect(path)
            for statement in statements:
                connection.execute(statement)
            connection.commit()
            connection.close()
            return path

        return write

    def crowd(folder):
        path = files.write_log(folder / "drive.db", sweeps=5)
        connection = sqlite3.connect(path)
        for number in range(2, MANY - 1):
            size = (1.9, 4.6, 1.5)
            files.insert(connection, "track", (files.token(3, number), files.token(2, 0), *size))
            for i in range(5):
                box = (files.ORIGIN[0] + 20, files.ORIGIN[1] + 4 * number, 600.75, *size, 0, 0, 0, 0, 1)
                row = (files.token(8, 1000 * i + number), files.token(5, i), files.token(3, number))
                files.insert(connection, "lidar_box", (*row, None, None, *box))
        connection.commit()
        connection.close()
        return path

    def still_lane(folder):
        layers = files.map_layers()
        rows = layers["baseline_paths"][1]
        rows[0] = (1, files.shapely.LineString([(10, 3.5), (10, 3.5)]), 10, None)
        files.write_map(folder / "maps", layers=layers)
        return files.write_log(folder / "drive.db", sweeps=11), ReadOptions(maps=folder / "maps")

    def odd_light(folder):
        files.write_map(folder / "maps")
        path = log("UPDATE traffic_light_status SET status = 'purple' WHERE rowid > 6")(folder)
        return path, ReadOptions(maps=folder / "maps")

    return {
        "wrong version": log("ALTER TABLE lidar_box RENAME COLUMN yaw TO angle"),
        "NaN position": log("UPDATE lidar_box SET x = NULL WHERE rowid = 9"),
        "lane without length": still_lane,
        "no road user": log("DELETE FROM lidar_box", "DELETE FROM ego_pose"),
        "one step": log(sweeps=1),
        "500 road users": crowd,
        "unknown light state": odd_light,
        "id twice": log("UPDATE lidar_box SET track_token = (SELECT token FROM track LIMIT 1)"),
    }


def py123d_cases():
    files = py123d_files

    def boxes(change, frames=12):
        """``change`` maps (frame, boxes, tokens, labels, velocities) to new ones."""

        def write(folder):
            log = files.write_log(folder / "log", frames=frames)
            file, key = log / "box_detections_se3.arrow", "box_detections_se3"
            table = pa.ipc.open_file(file).read_all()
            rows = table.to_pydict()
            names = [f"{key}.{name}" for name in ("bounding_box_se3", "track_token", "label", "velocity_3d")]
            for i in range(frames):
                for name, new in zip(names, change(i, *(rows[n][i] for n in names)), strict=True):
                    rows[name][i] = new
            rows[f"{key}.num_lidar_points"] = [[9] * len(r) for r in rows[names[1]]]
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(pa.table(rows, table.schema))
            return log

        return write

    def nan(i, boxes_, *rest):
        return [[[NAN, *boxes_[0][1:]], boxes_[1]] if i == 4 else boxes_, *rest]

    def crowd(i, boxes_, tokens, labels, velocities):
        places = [[60, 4.0 * k, *boxes_[0][2:]] for k in range(MANY - 1)]
        return [
            places,
            [f"car {k}" for k in range(MANY - 1)],
            labels[:1] * (MANY - 1),
            [[0, 0, 0]] * (MANY - 1),
        ]

    def still_lane(folder):
        point, aside = files.row(0.0, (50.0, 50.0)), np.array([0, 2, 0])
        lane = (60, 0, files.lane_features(point + aside, point - aside))
        return files.write_log(folder / "log", frames=12, objects=[*files.default_objects(), lane])

    def odd_light(folder):
        log, key = files.write_log(folder / "log", frames=12), "traffic_light_detections"
        stamps = files.START + np.arange(12) * 100_000
        columns = {
            f"{key}.timestamp_us": (stamps, pa.int64()),
            f"{key}.lane_id": ([[3]] * 12, pa.list_(pa.int32())),
            f"{key}.status": ([[99 if i > 6 else 2] for i in range(12)], pa.list_(pa.uint8())),
        }
        files.write(log / f"{key}.arrow", columns, {})
        return log

    def nobody(folder):
        log = boxes(lambda i, *columns: [[], [], [], []])(folder)
        (log / "ego_state_se3.arrow").unlink()
        return log

    return {
        "wrong version": lambda folder: files.write_log(
            folder / "log", log=files.about_log(version="0.9.1"), frames=12
        ),
        "NaN position": boxes(nan),
        "lane without length": still_lane,
        "no road user": nobody,
        "one step": boxes(lambda i, *columns: columns, frames=1),
        "500 road users": boxes(crowd),
        "unknown light state": odd_light,
        "id twice": boxes(lambda i, b, tokens, *rest: [b, [tokens[0]] * 2, *rest]),
    }


BAD = {
    "womd": waymo.womd_cases(),
    "womd_example": waymo.womd_example_cases(),
    "scenarionet": waymo.scenarionet_cases(),
    "gpudrive": waymo.gpudrive_cases(),
    "av2_sensor": av2_sensor_cases(),
    "av2_motion": av2_motion_cases(),
    "commonroad": commonroad_cases(),
    "bench2drive": bench2drive_cases(),
    "carla_recorder": carla_recorder_cases(),
    "nuplan": nuplan_cases(),
    "py123d": py123d_cases(),
}
