"""Logs in UTM coordinates, thousands of kilometres from the origin, lose less than a millimetre.

Each log is read twice, as it is and moved north. Scenes must agree to a millimetre, as floats of 32 bits with
their steps of half a metre there do not. Formats whose files hold float32 coordinates (tf.Example, the CARLA
recorder, and what ScenarioNet makes of Waymo) have lost it before.
"""

import json
import pickle
import re
from functools import partial

import argoverse_files
import commonroad_files
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
import shapely
import test_bench2drive as bench2drive_files
import test_nuplan as nuplan_files
import waymo_files
from py123d_files import write_log as py123d_log
from test_py123d import files as py123d_files

from perlsim.readers import FORMATS, ReadOptions

NORTH = 5_000_000.125  # m
MOVE = np.array([0.0, NORTH, 0.0])


@pytest.fixture
def moved(monkeypatch):
    """Moves what the modules that write logs write."""

    def move():
        for name in ("ORIGIN", "LEFT_EDGE", "MIDDLE", "RIGHT_EDGE", "STOP_POINT"):
            monkeypatch.setattr(waymo_files, name, getattr(waymo_files, name) + MOVE)
        centres = {key: line + MOVE for key, line in waymo_files.CENTRES.items()}
        monkeypatch.setattr(waymo_files, "CENTRES", centres)
        monkeypatch.setattr(nuplan_files, "ORIGIN", nuplan_files.ORIGIN + MOVE[:2] / 5)
        monkeypatch.setattr(py123d_files, "write", partial(write_moved, py123d_files.write))
        array = py123d_files.array
        monkeypatch.setattr(py123d_files, "array", lambda points: array(points + MOVE))

    return move


def write_moved(write, path, columns, about):
    for name, (values, kind) in list(columns.items()):
        if name.endswith(".imu_se3"):
            columns[name] = ([[p[0], p[1] + NORTH, *p[2:]] for p in values], kind)
        elif name.endswith("bounding_box_se3"):
            columns[name] = ([[[b[0], b[1] + NORTH, *b[2:]] for b in row] for row in values], kind)
        elif name == "wkb":
            lines = shapely.transform(shapely.from_wkb(values), lambda points: points + MOVE, include_z=True)
            columns[name] = (list(shapely.to_wkb(lines)), kind)
    write(path, columns, about)


def north(document, shift):
    """JSON whose points are dictionaries with a y."""
    if isinstance(document, dict):
        found = {key: north(value, shift) for key, value in document.items()}
        return found | {"y": found["y"] + shift} if {"x", "y"} <= set(found) else found
    return [north(entry, shift) for entry in document] if isinstance(document, list) else document


def saved(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


def scenarionet(folder, shift):
    document = waymo_files.scenarionet_document()
    for row, track in enumerate(document["tracks"].values()):
        track["state"]["position"] = waymo_files.paths()[row]  # float64, as nuPlan's are
    for key, centre in waymo_files.CENTRES.items():
        document["map_features"][str(key)]["polyline"] = centre
    return saved(folder, "x.pkl", pickle.dumps(document))


def argoverse(folder, shift, write):
    path = write(folder / "log", archive=north(argoverse_files.two_lane_map(), shift))
    for name, column in (("city_SE3_egovehicle.feather", "ty_m"), ("scenario_one.parquet", "position_y")):
        if not (path / name).exists():
            continue
        feather = name.endswith("feather")
        table = pa.feather.read_table(path / name) if feather else pa.parquet.read_table(path / name)
        values = pa.array(table[column].to_numpy() + shift)
        table = table.set_column(table.column_names.index(column), column, values)
        pa.feather.write_feather(table, path / name) if feather else pa.parquet.write_table(
            table, path / name
        )
    return path


def commonroad(folder, shift):
    text = commonroad_files.document(*commonroad_files.default_parts())
    text = re.sub(r"<y>(.*?)</y>", lambda y: f"<y>{float(y[1]) + shift!r}</y>", text)
    return saved(folder, "x.xml", text.encode())


def bench2drive(folder, shift):
    def change(step, content):
        for box in content["bounding_boxes"]:
            for key in ("location", "center", "trigger_volume_location"):
                if key in box:
                    box[key] = [box[key][0], box[key][1] + shift, box[key][2]]

    return bench2drive_files.write_clip(folder, range(6), change)


def nuplan(folder, shift):
    nuplan_files.write_map(folder / "maps")
    return nuplan_files.write_log(folder / "drive.db", sweeps=11), ReadOptions(maps=folder / "maps")


LOGS = {
    "womd": lambda folder, _: saved(folder, "x.tfrecord", waymo_files.scenario_record()),
    "gpudrive": lambda f, _: saved(f, "x.json", json.dumps(waymo_files.gpudrive_document()).encode()),
    "scenarionet": scenarionet,
    "av2_sensor": partial(argoverse, write=argoverse_files.sensor_log),
    "av2_motion": partial(argoverse, write=argoverse_files.motion_scenario),
    "commonroad": commonroad,
    "bench2drive": bench2drive,
    "nuplan": nuplan,
    "py123d": lambda folder, _: py123d_log(folder / "log", frames=12),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_far_north_loses_less_than_a_millimetre(name, moved, tmp_path):
    scenes = []
    for shift in (0.0, NORTH):
        if shift:
            moved()
        folder = tmp_path / str(shift)
        folder.mkdir()
        written = LOGS[name](folder, shift)
        path, options = written if isinstance(written, tuple) else (written, ReadOptions())
        scenes += FORMATS[name].read(path, options)
    here, far = scenes
    assert abs(far.origin - here.origin)[1] > 999_999
    assert np.abs(far.tracks.position - here.tracks.position).max() < 1e-3
    assert np.abs(far.tracks.velocity - here.tracks.velocity).max() < 0.02
    for part in ("lanes.centre", "edges", "markings.line"):
        one, two = here.road, far.road
        for step in part.split("."):
            one, two = getattr(one, step), getattr(two, step)
        assert one.values.shape == two.values.shape, part
        assert np.abs(one.values - two.values).max(initial=0.0) < 1e-3, part
    assert np.abs(far.lights.position - here.lights.position).max(initial=0.0) < 1e-3
    assert np.abs(far.route.points - here.route.points).max(initial=0.0) < 2e-3
