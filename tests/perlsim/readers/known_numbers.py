"""Numbers that a correct reader meets on logs that carry an ego: overlaps, heading, speed."""

import numpy as np
import shapely

from perlsim.geometry.polylines import wrap


def boxes(position, heading, size):
    """Footprints of boxes as shapely polygons."""
    corner = np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]]) * size[..., None, :2]
    cos, sin = np.cos(heading)[..., None], np.sin(heading)[..., None]
    x, y = corner[..., 0], corner[..., 1]
    return shapely.polygons(np.stack([x * cos - y * sin, x * sin + y * cos], -1) + position[..., None, :2])


def ego_overlaps(scenario):
    """Number of steps and road users whose boxes overlap the ego's at the same height."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    gap = tracks.position - tracks.position[ego]
    near = tracks.valid & tracks.valid[ego]
    near &= (np.linalg.norm(gap[..., :2], axis=-1) < 15) & (np.abs(gap[..., 2]) < 3)
    near[ego] = False
    agent, step = np.nonzero(near)
    own = boxes(tracks.position[ego, step], tracks.heading[ego, step], tracks.size[[ego] * len(step)])
    others = boxes(tracks.position[agent, step], tracks.heading[agent, step], tracks.size[agent])
    return int(shapely.intersects(own, others).sum())


def motion_errors(scenario):
    """Median errors of the moving ego: heading [rad] against motion, speed (relative) against differences."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    valid, path = tracks.valid[ego], tracks.position[ego, :, :2].astype(float)
    velocity = (path[2:] - path[:-2]) / (2 * scenario.dt)
    speed = np.linalg.norm(velocity, axis=1)
    moving = valid[2:] & valid[1:-1] & valid[:-2] & (speed > 1.0)
    if not moving.any():
        return 0.0, 0.0
    turn = wrap(np.arctan2(velocity[:, 1], velocity[:, 0]) - tracks.heading[ego, 1:-1])
    logged = np.linalg.norm(tracks.velocity[ego, 1:-1], axis=1)
    return float(np.median(np.abs(turn[moving]))), float(
        np.median(np.abs(logged / np.maximum(speed, 1) - 1)[moving])
    )
