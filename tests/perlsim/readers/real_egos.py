"""What holds for the logged ego of every correctly read log."""

import numpy as np
import shapely


def assert_ego_is_plausible(scenario):
    """The ego overlaps no other box, faces where it moves, and its speed is that of its positions."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    assert ego >= 0
    assert not _overlaps(scenario)
    seen = tracks.valid[ego]
    whole = seen[2:] & seen[1:-1] & seen[:-2]
    moved = (tracks.position[ego, 2:, :2] - tracks.position[ego, :-2, :2]) / (2 * scenario.dt)
    speed = np.linalg.norm(moved, axis=1)
    moving = whole & (speed > 1.0)
    if moving.any():
        apart = np.arctan2(moved[:, 1], moved[:, 0]) - tracks.heading[ego, 1:-1]
        apart = np.abs((apart + np.pi) % (2 * np.pi) - np.pi)[moving]
        assert np.median(apart) <= 0.11
        logged = np.linalg.norm(tracks.velocity[ego, 1:-1], axis=1)
        assert np.median(np.abs(logged - speed)[moving] / speed[moving]) <= 0.031


def _overlaps(scenario):
    """Pairs (step, agent) of boxes that the ego's box overlaps."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    found = []
    for step in np.flatnonzero(tracks.valid[ego]).tolist():
        near = np.abs(tracks.position[:, step] - tracks.position[ego, step])
        near = tracks.valid[:, step] & (near[:, :2].max(1) < 20) & (near[:, 2] < 3)
        own = _box(tracks, ego, step)
        others = [agent for agent in np.flatnonzero(near).tolist() if agent != ego]
        found += [(step, agent) for agent in others if own.intersection(_box(tracks, agent, step)).area > 0]
    return found


def _box(tracks, agent, step):
    heading = tracks.heading[agent, step]
    along, aside = tracks.size[agent, :2] / 2
    corners = np.array([[along, aside], [-along, aside], [-along, -aside], [along, -aside]])
    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    return shapely.Polygon(corners @ turn.T + tracks.position[agent, step, :2])
