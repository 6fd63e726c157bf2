"""Small scenes written as Waymo protos, GPUDrive JSON and ScenarioNet dictionaries.

The scene: a two-lane street along x (lanes 10 and 11, left and right), which lane 12 leads on; a light and
a stop sign at the end of lane 10; the ego drives along lane 10 at 10 m/s, a van stands on lane 11, a
pedestrian beside.
"""

import numpy as np

from perlsim.readers.tfrecord import framed
from perlsim.readers.womd_schema import message_class

STEPS, DT, SPEED = 31, 0.1, 10.0
EGO_SIZE, VAN_SIZE, PERSON_SIZE = (4.8, 2.0, 1.6), (6.0, 2.2, 2.4), (0.6, 0.6, 1.8)
ORIGIN = np.array([5000.0, -3000.0, 120.0])


def line(y, start=0.0, end=60.0):
    x = np.arange(start, end + 0.5, 1.0)
    return np.stack([x, np.full_like(x, y), 0.01 * x], axis=1) + ORIGIN


CENTRES = {10: line(2.0), 11: line(-2.0), 12: line(2.0, 60.0, 140.0)}
LEFT_EDGE, MIDDLE, RIGHT_EDGE = line(4.0, 0, 140)[::-1], line(0.0, 0, 140), line(-4.0, 0, 140)
STOP_POINT = CENTRES[12][0]


def paths():
    """Ground positions [3, T, 3] of ego, van, pedestrian."""
    time = DT * np.arange(STEPS)
    ego = np.stack([5 + SPEED * time, np.full(STEPS, 2.0), 0.01 * (5 + SPEED * time)], axis=1)
    van = np.tile([40.0, -2.0, 0.4], (STEPS, 1))
    person = np.stack([np.full(STEPS, 20.0), -3.5 + 0 * time, np.full(STEPS, 0.2)], axis=1)
    return np.stack([ego, van, person]) + ORIGIN


def add_points(field, points):
    for x, y, z in points:
        field.add(x=x, y=y, z=z)


def scenario_message():
    message = message_class("Scenario")(scenario_id="abc123", sdc_track_index=0, current_time_index=10)
    message.timestamps_seconds.extend((DT * np.arange(STEPS)).tolist())
    rows = zip((7, 8, 9), (1, 1, 2), paths(), (EGO_SIZE, VAN_SIZE, PERSON_SIZE), strict=True)
    for number, kind, path, (length, width, height) in rows:
        track = message.tracks.add(id=number, object_type=kind)
        for step, (x, y, z) in enumerate(path):
            track.states.add(
                center_x=x,
                center_y=y,
                center_z=z + height / 2,
                length=length,
                width=width,
                height=height,
                heading=2 * np.pi if number == 7 else np.pi / 2,
                velocity_x=SPEED if number == 7 else 0.0,
                velocity_y=0.0,
                valid=not (number == 9 and step < 5),
            )
    for number, centre in CENTRES.items():
        lane = message.map_features.add(id=number).lane
        lane.speed_limit_mph, lane.type = 25.0 if number == 10 else 0.0, 2
        add_points(lane.polyline, centre)
    lanes = {feature.id: feature.lane for feature in message.map_features}
    lanes[10].exit_lanes.append(12)
    lanes[12].interpolating = True
    last = len(CENTRES[10]) - 1
    for lane, side, border in ((10, "left", 20), (10, "right", 22), (11, "left", 22), (11, "right", 21)):
        getattr(lanes[lane], f"{side}_boundaries").add(
            lane_start_index=0, lane_end_index=last, boundary_feature_id=border
        )
    neighbour = lanes[10].right_neighbors.add(feature_id=11, self_end_index=last, neighbor_end_index=last)
    neighbour.boundaries.add(lane_end_index=last, boundary_feature_id=22, boundary_type=1)
    solid = lanes[11].left_neighbors.add(feature_id=10, self_end_index=last, neighbor_end_index=last)
    solid.boundaries.add(lane_end_index=last, boundary_feature_id=22, boundary_type=7)
    for number, points in ((20, LEFT_EDGE), (21, RIGHT_EDGE)):
        edge = message.map_features.add(id=number).road_edge
        edge.type = 1
        add_points(edge.polyline, points)
    marking = message.map_features.add(id=22).road_line
    marking.type = 1
    add_points(marking.polyline, MIDDLE)
    sign = message.map_features.add(id=30).stop_sign
    sign.lane.append(10)
    sign.position.x, sign.position.y, sign.position.z = CENTRES[10][-1] + [0, 4, 0]
    crossing = message.map_features.add(id=31).crosswalk
    add_points(crossing.polygon, ORIGIN + np.array([[50, -4, 0], [53, -4, 0], [53, 4, 0], [50, 4, 0]]))
    for step in range(STEPS):
        states = message.dynamic_map_states.add()
        if step >= 3:
            light = states.lane_states.add(lane=12, state=4 if step < 20 else 6)
            light.stop_point.x, light.stop_point.y, light.stop_point.z = STOP_POINT
    return message


def scenario_record():
    return framed(scenario_message().SerializeToString())


def example_record(past=3, future=27):
    """The same scene as a tf.Example with 8 slots for road users and 4 for lights."""
    message = message_class("Example")()
    spans = {"past": slice(0, past), "current": slice(past, past + 1), "future": slice(past + 1, STEPS)}
    assert spans["future"].stop - spans["future"].start == future
    slots, lights, position = 8, 4, paths()

    def put(key, values, kind):
        entry = message.features.feature.add(key=key)
        getattr(entry.value, f"{kind}_list").value.extend(np.ravel(values).tolist())

    def padded(values, fill=-1.0):
        full = np.full((slots, *np.shape(values)[1:]), fill)
        full[: len(values)] = values
        return full

    sizes = np.array([EGO_SIZE, VAN_SIZE, PERSON_SIZE])
    over_time = {
        name: np.repeat(sizes[:, [i]], STEPS, 1) for i, name in enumerate(("length", "width", "height"))
    }
    over_time |= {"x": position[..., 0], "y": position[..., 1]}
    over_time |= {"z": position[..., 2] + sizes[:, [2]] / 2}
    over_time |= {name: np.zeros((3, STEPS)) for name in ("bbox_yaw", "velocity_y")}
    over_time |= {"velocity_x": np.outer([SPEED, 0, 0], np.ones(STEPS))}
    for part, span in spans.items():
        for name, values in over_time.items():
            put(f"state/{part}/{name}", padded(values[:, span]), "float")
        put(f"state/{part}/valid", padded(np.ones((3, STEPS), int)[:, span], 0).astype(int), "int64")
        stamps = np.tile((1e6 * DT * np.arange(STEPS)).astype(int), (3, 1))[:, span]
        put(f"state/{part}/timestamp_micros", padded(stamps).astype(int), "int64")
        count = span.stop - span.start
        lamp = {"id": 12, "state": 4, "valid": 1, "x": STOP_POINT[0], "y": STOP_POINT[1], "z": STOP_POINT[2]}
        for name, value in lamp.items():
            row = np.full((count, lights), -1.0 if name != "valid" else 0.0)
            row[:, 0] = value
            kind = "float" if name in "xyz" else "int64"
            put(f"traffic_light_state/{part}/{name}", row if kind == "float" else row.astype(int), kind)
    put("state/id", padded(np.array([7.0, 8.0, 9.0])), "float")
    put("state/type", padded(np.array([1.0, 1.0, 2.0])), "float")
    put("state/is_sdc", padded(np.array([1, 0, 0]), 0).astype(int), "int64")
    entry = message.features.feature.add(key="scenario/id")
    entry.value.bytes_list.value.append(b"abc123")
    features = [(number, 2, centre) for number, centre in CENTRES.items()]
    features += [(20, 15, LEFT_EDGE), (21, 15, RIGHT_EDGE), (22, 6, MIDDLE)]
    put("roadgraph_samples/xyz", np.concatenate([points for *_, points in features]), "float")
    for name, column in (("id", 0), ("type", 1)):
        values = np.concatenate([np.full(len(f[2]), f[column]) for f in features])
        put(f"roadgraph_samples/{name}", values, "int64")
    put("roadgraph_samples/valid", np.ones(sum(len(f[2]) for f in features), int), "int64")
    return framed(message.SerializeToString())


def xyz(points):
    return [{"x": float(x), "y": float(y), "z": float(z)} for x, y, z in points]


def gpudrive_document(*, degrees=False):
    sizes, unit = (EGO_SIZE, VAN_SIZE, PERSON_SIZE), 180 / np.pi if degrees else 1.0
    objects = []
    for row, (path, (length, width, height)) in enumerate(zip(paths(), sizes, strict=True)):
        objects.append(
            {
                "position": xyz(path + np.array([0, 0, height / 2])),
                "width": width,
                "length": length,
                "height": height,
                "heading": [(0.02 if row == 0 else np.pi / 2) * unit] * STEPS,
                "velocity": [{"x": SPEED if row == 0 else 0.0, "y": 0.0}] * STEPS,
                "valid": [True] * STEPS,
                "type": ("vehicle", "vehicle", "pedestrian")[row],
                "id": row + 7,
            }
        )
    roads = [{"geometry": xyz(c), "type": "lane", "map_element_id": 2, "id": n} for n, c in CENTRES.items()]
    roads += [
        {"geometry": xyz(LEFT_EDGE), "type": "road_edge", "map_element_id": 15, "id": 20},
        {"geometry": xyz(RIGHT_EDGE), "type": "road_edge", "map_element_id": 15, "id": 21},
        {"geometry": xyz(MIDDLE), "type": "road_line", "map_element_id": 12, "id": 22},
        {"geometry": xyz(CENTRES[10][-1:]), "type": "stop_sign", "map_element_id": 17, "id": 30},
    ]
    light = {name: [float(v)] * STEPS for name, v in zip("xyz", STOP_POINT, strict=True)}
    light |= {"state": ["stop"] * STEPS, "time_index": list(range(STEPS)), "lane_id": [12] * STEPS}
    return {
        "name": "abc123.json",
        "scenario_id": "abc123",
        "objects": objects,
        "roads": roads,
        "tl_states": {"12": light},
        "metadata": {"sdc_track_index": 0},
    }


def scenarionet_document():
    sizes = (EGO_SIZE, VAN_SIZE, PERSON_SIZE)
    tracks = {}
    for row, (path, (length, width, height)) in enumerate(zip(paths(), sizes, strict=True)):
        ones = np.ones(STEPS, np.float32)
        tracks[str(row + 7)] = {
            "type": ("VEHICLE", "VEHICLE", "PEDESTRIAN")[row],
            "state": {
                "position": (path + np.array([0, 0, height / 2])).astype(np.float32),
                "length": length * ones,
                "width": width * ones,
                "height": height * ones,
                "heading": (0.0 if row == 0 else 1.5) * ones,
                "velocity": np.outer(ones, [SPEED if row == 0 else 0.0, 0.0]).astype(np.float32),
                "valid": np.ones(STEPS, bool),
            },
            "metadata": {"track_length": STEPS, "type": "VEHICLE", "object_id": str(row + 7)},
        }
    features = {
        str(number): {
            "type": "LANE_SURFACE_STREET",
            "polyline": centre.astype(np.float32),
            "speed_limit_mph": 25.0,
            "interpolating": number == 12,
            "entry_lanes": [10] if number == 12 else [],
            "exit_lanes": [12] if number == 10 else [],
        }
        for number, centre in CENTRES.items()
    }
    features["20"] = {"type": "ROAD_EDGE_BOUNDARY", "polyline": LEFT_EDGE}
    features["21"] = {"type": "ROAD_EDGE_BOUNDARY", "polyline": RIGHT_EDGE}
    features["22"] = {"type": "ROAD_LINE_SOLID_DOUBLE_YELLOW", "polyline": MIDDLE}
    features["30"] = {"type": "STOP_SIGN", "lane": [10], "position": CENTRES[10][-1]}
    light = {
        "type": "TRAFFIC_LIGHT",
        "lane": 12,
        "stop_point": STOP_POINT,
        "state": {"object_state": [None] * 3 + ["LANE_STATE_STOP"] * (STEPS - 3)},
    }
    return {
        "id": "abc123",
        "version": "test",
        "length": STEPS,
        "metadata": {
            "dataset": "waymo",
            "ts": DT * np.arange(STEPS),
            "sdc_id": "7",
            "source_file": "shard-0",
        },
        "tracks": tracks,
        "dynamic_map_states": {"12": light},
        "map_features": features,
    }
