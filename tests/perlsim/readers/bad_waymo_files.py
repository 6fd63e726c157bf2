"""Logs of the Waymo family with one thing wrong in each, made from the sound ones of `waymo_files`.

Each function gives, by case, a function that writes the log into an empty folder and returns what to read.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import waymo_files as waymo

from perlsim.readers.tfrecord import framed
from perlsim.readers.womd_schema import message_class

MANY = 500  # road users of a crowded log
NAN = float("nan")


def saved(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def womd(change):
    def write(folder):
        message = waymo.scenario_message()
        change(message)
        return saved(folder, "x.tfrecord", framed(message.SerializeToString()))

    return write


def womd_cases():
    def still_lane(message):
        (lane,) = [f.lane for f in message.map_features if f.id == 12]
        for point in lane.polyline:
            point.CopyFrom(lane.polyline[0])

    def nobody(message):
        del message.tracks[:]
        message.ClearField("sdc_track_index")

    def one_step(message):
        for track in message.tracks:
            del track.states[1:]
        del message.timestamps_seconds[1:], message.dynamic_map_states[1:]
        message.current_time_index = 0

    def crowd(message):
        for k in range(MANY - 3):
            track = message.tracks.add()
            track.CopyFrom(message.tracks[1])
            track.id = 1000 + k
            for state in track.states:
                state.center_y += 4.0 * (k + 1)

    def same_id(message):
        message.tracks[1].id = message.tracks[2].id

    return {
        "NaN position": womd(lambda m: setattr(m.tracks[1].states[3], "center_x", NAN)),
        "lane without length": womd(still_lane),
        "no road user": womd(nobody),
        "one step": womd(one_step),
        "500 road users": womd(crowd),
        "unknown light state": womd(lambda m: setattr(m.dynamic_map_states[9].lane_states[0], "state", 99)),
        "id twice": womd(same_id),
    }


def womd_example(change):
    def write(folder):
        message = message_class("Example")()
        message.ParseFromString(waymo.example_record()[12:-4])
        for entry in message.features.feature:
            kind = "int64" if entry.value.int64_list.value else "float"
            values = getattr(entry.value, f"{kind}_list").value
            new = change(entry.key, np.array(values)) if len(values) else None
            if new is not None:
                del values[:]
                values.extend(np.ravel(new).tolist())
        return saved(folder, "x.tfrecord", framed(message.SerializeToString()))

    return write


def womd_example_cases():
    slots = 8

    def of_key(name, change):
        return womd_example(lambda key, values: change(values.copy()) if key == name else None)

    def put(value, *where):
        def change(values):
            values[list(where)] = value
            return values

        return change

    def still_lane(values):
        points, count = values.reshape(-1, 3), len(waymo.CENTRES[10])
        points[:count] = points[0]
        return points

    def one_step(key, values):
        return values[:0] if "/past/" in key or "/future/" in key else None

    def crowd(key, values):
        if not key.startswith("state/"):
            return None
        rows = values.reshape(slots, -1)
        rows = np.concatenate([rows[:3], np.repeat(rows[1:2], MANY - 3, axis=0)])
        if key == "state/id":
            rows[:, 0] = np.arange(MANY)
        if key.endswith("/y"):
            rows[3:] += 4.0 * np.arange(1, MANY - 2)[:, None]
        return rows

    def nobody(key, values):
        return 0 * values if (key.endswith("/valid") and key.startswith("state")) or "sdc" in key else None

    return {
        "NaN position": of_key("state/current/x", put(NAN, 1)),
        "lane without length": of_key("roadgraph_samples/xyz", still_lane),
        "no road user": womd_example(nobody),
        "one step": womd_example(one_step),
        "500 road users": womd_example(crowd),
        "unknown light state": of_key("traffic_light_state/current/state", put(99, 0)),
        "id twice": of_key("state/id", put(9.0, 1)),
    }


def document_cases(suffix, make, dump, change):
    """Of a format that is one document; ``change`` maps cases to functions that alter it."""

    def case(alter):
        def write(folder):
            document = make()
            alter(document)
            return saved(folder, f"x{suffix}", dump(document))

        return write

    return {name: case(alter) for name, alter in change.items()}


def scenarionet_cases():
    def one_step(document):
        for track in document["tracks"].values():
            track["state"] = {name: values[:1] for name, values in track["state"].items()}
        light = document["dynamic_map_states"]["12"]["state"]
        light["object_state"] = light["object_state"][:1]
        document["metadata"]["ts"] = document["metadata"]["ts"][:1]
        document["length"] = 1

    def crowd(document):
        van = document["tracks"]["8"]
        for k in range(MANY - 3):
            state = {**van["state"], "position": van["state"]["position"] + np.float32([0, 4 * k + 4, 0])}
            document["tracks"][str(1000 + k)] = {**van, "state": state}

    def nobody(document):
        document["tracks"].clear()
        document["metadata"].pop("sdc_id")

    def still_lane(document):
        lane = document["map_features"]["12"]
        lane["polyline"] = np.repeat(lane["polyline"][:1], 5, axis=0)

    def odd_light(document):
        document["dynamic_map_states"]["12"]["state"]["object_state"][9] = "LANE_STATE_PURPLE"

    changes = {
        "NaN position": lambda d: d["tracks"]["8"]["state"]["position"].__setitem__((3, 0), np.nan),
        "lane without length": still_lane,
        "no road user": nobody,
        "one step": one_step,
        "500 road users": crowd,
        "unknown light state": odd_light,
    }
    return document_cases(".pkl", waymo.scenarionet_document, pickle.dumps, changes)


def gpudrive_cases():
    def one_step(document):
        for thing in document["objects"]:
            thing |= {name: thing[name][:1] for name in ("position", "heading", "velocity", "valid")}
        light = document["tl_states"]["12"]
        light |= {name: values[:1] for name, values in light.items()}

    def crowd(document):
        van = document["objects"][1]
        for k in range(MANY - 3):
            places = [{**place, "y": place["y"] + 4 * k + 4} for place in van["position"]]
            document["objects"].append({**van, "position": places, "id": 1000 + k})

    def nobody(document):
        document["objects"].clear()
        document["metadata"].clear()

    changes = {
        "NaN position": lambda d: d["objects"][1]["position"][3].update(x=NAN),
        "lane without length": lambda d: d["roads"][2].update(geometry=d["roads"][2]["geometry"][:1] * 5),
        "no road user": nobody,
        "one step": one_step,
        "500 road users": crowd,
        "unknown light state": lambda d: d["tl_states"]["12"]["state"].__setitem__(9, "purple"),
        "id twice": lambda d: d["objects"][1].update(id=9),
    }
    return document_cases(".json", waymo.gpudrive_document, lambda d: json.dumps(d).encode(), changes)
