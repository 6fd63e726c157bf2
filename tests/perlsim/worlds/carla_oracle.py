"""Run as a program: what ``carla.Map`` knows of a town, written to an archive of arrays.

CARLA's map may crash its process, so that it gets one of its own: ``carla_oracle.py TOWN.xodr.gz OUT.npz``.
"""

import gzip
import math
import sys
from pathlib import Path

import numpy as np

STEP = 1.0  # m between waypoints


def describe(path: Path) -> dict[str, np.ndarray]:
    """Waypoints and links between lanes, right-handed.

    Waypoints: road, section, lane, x, y, z, heading, width, in junction, change of lanes (1 right, 2 left, 3 both).
    """
    import carla

    data = path.read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    world = carla.Map(path.name.split(".")[0], text)
    rows = []
    for waypoint in world.generate_waypoints(STEP):
        at = waypoint.transform.location
        lane = waypoint.road_id, waypoint.section_id, waypoint.lane_id
        heading = -math.radians(waypoint.transform.rotation.yaw)
        known = waypoint.lane_width, waypoint.is_junction, int(waypoint.lane_change)
        rows.append((*lane, at.x, -at.y, at.z, heading, *known))
    links = [
        (a.road_id, a.section_id, a.lane_id, b.road_id, b.section_id, b.lane_id)
        for a, b in world.get_topology()
    ]
    return {"waypoints": np.array(rows, float), "links": np.array(links, np.int64)}


if __name__ == "__main__":
    np.savez(sys.argv[2], **describe(Path(sys.argv[1])))
