"""Scenes made by hand: a straight road along x, an ego that starts at the origin, and what it is to meet."""

import numpy as np

from perlsim.scenario import Ego, Lanes, Lights, Markings, Ragged, Road, Route, Scenario, StopSigns, Tracks
from perlsim.vocabulary import AgentType

STEPS = 31
CAR = (4.5, 2.0, 1.6)


def mover(
    x=0.0, y=0.0, heading=0.0, speed=0.0, *, z=0.0, drift=None, kind=AgentType.VEHICLE, size=CAR, steps=STEPS
):
    """A road user of constant velocity, along its heading or (vx, vy) = ``drift``."""
    velocity = np.array(drift if drift is not None else (speed * np.cos(heading), speed * np.sin(heading)))
    place = np.array([x, y]) + np.arange(steps)[:, None] * 0.1 * velocity
    return {
        "position": np.column_stack([place, np.full(steps, z)]),
        "heading": np.full(steps, heading),
        "velocity": np.tile(velocity, (steps, 1)),
        "size": size,
        "kind": int(kind),
    }


def tracks_of(movers, valid=None):
    count, steps = len(movers), len(movers[0]["heading"])
    return Tracks(
        position=np.array([m["position"] for m in movers], np.float32),
        heading=np.array([m["heading"] for m in movers], np.float32),
        velocity=np.array([m["velocity"] for m in movers], np.float32),
        size=np.array([m["size"] for m in movers], np.float32),
        kind=np.array([m["kind"] for m in movers], np.int8),
        valid=np.ones((count, steps), bool) if valid is None else valid,
        ids=tuple(str(k) for k in range(count)),
    )


def line(x0, y0, x1, y1, z=0.0):
    """A polyline of two points."""
    return np.array([[x0, y0, z], [x1, y1, z]])


def lanes_of(*lines, width=3.5, in_junction=False):
    count, points = len(lines), sum(map(len, lines))
    nobody = Ragged.from_rows([[] for _ in lines], dtype=np.int32)
    return Lanes(
        centre=Ragged.from_rows(lines, width=3, dtype=np.float32),
        width=np.full(points, width, np.float32),
        kind=np.ones(count, np.int8),
        speed_limit=np.full(count, np.nan, np.float32),
        in_junction=np.full(count, in_junction),
        successors=nobody,
        left=nobody,
        right=nobody,
        ids=tuple(str(k) for k in range(count)),
    )


def road_of(lanes=None, markings=(), edges=None, signs=()):
    """A road; markings as (line, MarkingType), signs as (x, y)."""
    edges = [line(-40, -6, 160, -6), line(160, 6, -40, 6)] if edges is None else edges
    return Road(
        lanes=lanes if lanes is not None else lanes_of(line(-40, 0, 160, 0)),
        markings=Markings(
            Ragged.from_rows([points for points, _ in markings], width=3, dtype=np.float32),
            np.array([int(kind) for _, kind in markings], np.int8),
        ),
        edges=Ragged.from_rows(edges, width=3, dtype=np.float32),
        stop_signs=StopSigns(
            np.array([(x, y, 0.0) for x, y in signs], np.float32).reshape(-1, 3),
            np.zeros(len(signs), np.float32),
            np.zeros(len(signs), np.int32),
        ),
    )


def light(state, x=12.0, y=0.0, z=0.0, heading=0.0, steps=STEPS):
    """One traffic light over lane 0, of one state all the time."""
    return Lights(
        np.array([[x, y, z]], np.float32),
        np.array([heading], np.float32),
        np.zeros(1, np.int32),
        np.full((1, steps), int(state), np.int8),
    )


def scene(name, ego, *others, road=None, lights=None, route=None):
    """A scenario; the route goes straight on along x unless given."""
    route = line(0, 0, 100, 0) if route is None else route
    return Scenario(
        name,
        "made",
        0.1,
        tracks_of([ego, *others]),
        ego=Ego(0, 2.7, 1.35),
        road=road_of() if road is None else road,
        lights=lights or Lights(state=np.zeros((0, len(ego["heading"])), np.int8)),
        route=Route(np.asarray(route, np.float32), np.zeros(len(route), np.int32)),
    ).validate()
