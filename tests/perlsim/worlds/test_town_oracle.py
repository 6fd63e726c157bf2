"""Towns against CARLA's own map of them; needs the package ``carla`` (0.9.16), which is no dependency."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from perlsim.geometry.polylines import arc_lengths, project
from perlsim.vocabulary import LaneType, MarkingType
from perlsim.worlds import opendrive

TOWNS = ("01", "02", "03", "04", "05", "06", "07", "10HD", "11", "12", "13", "15")
CENTRE = 0.05  # m
HEIGHT = 0.01  # m
WIDTH = 0.05  # m
# Links of the file to a lane that begins 3.5 m aside.
LEFT_OUT = {"Town03": {("1608.0.-2", "1608.1.-1")}}


@pytest.fixture(scope="module")
def oracle(real_data, tmp_path_factory):
    if importlib.util.find_spec("carla") is None:
        pytest.skip("no package carla: the oracle of CARLA's towns is absent")
    folder = tmp_path_factory.mktemp("oracle")

    def described(town):
        path, out = real_data / "maps" / "carla" / f"{town}.xodr.gz", folder / f"{town}.npz"
        program = Path(__file__).with_name("carla_oracle.py")
        subprocess.run([sys.executable, str(program), str(path), str(out)], check=True, timeout=300)
        return np.load(out), opendrive.read(path, with_edges=False)

    return described


@pytest.mark.slow
@pytest.mark.parametrize("number", TOWNS)
def test_lanes_lie_lead_and_belong_as_on_carlas_own_map(oracle, number, record_property):
    known, read = oracle(f"Town{number}")
    lanes = read.road.lanes
    lane_of = {name: idx for idx, name in enumerate(lanes.ids)}
    waypoints = known["waypoints"]
    waypoints = waypoints[np.lexsort(waypoints[:, 2::-1].T)]
    cuts = np.flatnonzero((np.diff(waypoints[:, :3], axis=0) != 0).any(1)) + 1
    worst, changes = np.zeros(3), np.zeros((2, 2), int)
    for rows in np.split(waypoints, cuts):
        name = "{:.0f}.{:.0f}.{:.0f}".format(*rows[0, :3])
        assert name in lane_of, f"lane {name} is missing"
        idx = lane_of[name]
        centre = lanes.centre[idx]
        hit = project(centre, rows[:, 3:5])
        width = lanes.width[lanes.centre.offsets[idx] : lanes.centre.offsets[idx + 1]]
        arcs = arc_lengths(centre)
        errors = (
            hit.distance,
            np.abs(np.interp(hit.arc, arcs, centre[:, 2]) - rows[:, 5]),
            np.abs(np.interp(hit.arc, arcs, width) - rows[:, 7]),
        )
        worst = np.maximum(worst, [error.max() for error in errors])
        assert lanes.in_junction[idx] == bool(rows[0, 8]), f"lane {name}"
        changes += _changes(read.sides, lanes.centre.offsets[idx] + hit.segment, rows[:, 9].astype(int))
        ends = centre[-1, :2] - centre[0, :2]
        steps = np.diff(rows[:, 3:5], axis=0).sum(0)
        if len(rows) > 2 and np.linalg.norm(ends) > 5:
            # CARLA samples along s: traffic on lanes left of the centre runs the other way.
            assert (steps @ ends > 0) == (rows[0, 2] < 0), f"lane {name} runs backwards"
    for kind, value in zip(("centre", "height", "width"), worst, strict=True):
        record_property(f"largest error of {kind} [m]", float(value))
    print(
        f"Town{number}: largest errors [m] centre {worst[0]:.4f}, height {worst[1]:.4f}, width {worst[2]:.4f}"
    )
    assert worst[0] < CENTRE and worst[1] < HEIGHT and worst[2] < WIDTH
    # Waypoints right at a change of marks fall to either side of it.
    assert changes[0, 1] + changes[1, 0] <= 0.001 * changes.sum() and changes.trace() > 0
    assert _links(lanes) == _carla_links(known["links"], lanes, lane_of) - LEFT_OUT.get(read.name, set())


def _changes(sides, points, carla):
    """How often each allows a change of lanes, CARLA by row and we by column.

    Town03's marks that are broken on the far side only say "decrease", which CARLA takes for the other way.
    """
    table = np.zeros((2, 2), int)
    for bit, ours, mark in (
        (1, sides.right_change, sides.right_mark),
        (2, sides.left_change, sides.left_mark),
    ):
        both = np.stack([(carla & bit) > 0, ours[points]], axis=1)[mark[points] != MarkingType.BROKEN_SOLID]
        np.add.at(table, tuple(both.T.astype(int)), 1)
    return table


def _links(lanes):
    """Links between driving lanes, by name; two-way lanes are none to CARLA."""
    driving = np.isin(lanes.kind, [LaneType.DRIVING, LaneType.FREEWAY])
    owner = np.repeat(np.arange(len(lanes)), np.diff(lanes.successors.offsets))
    pairs = {(lanes.ids[a], lanes.ids[b]) for a, b in zip(owner, lanes.successors.values, strict=True)}
    kept = {lanes.ids[idx] for idx in np.flatnonzero(driving)}
    return {(a, b) for a, b in pairs if a in kept and b in kept}


def _carla_links(table, lanes, lane_of):
    """CARLA's links, without the pairs that stand for a dead end, through sections of no length.

    `get_topology` pairs a lane that leads nowhere with the point at its own end, which it reports as part of
    the same lane or of the next section's lane of the same number, wherever that lies.
    """

    def name(row):
        return "{}.{}.{}".format(*row)

    following = {}
    for row in table:
        following.setdefault(name(row[:3]), set()).add(name(row[3:]))

    def through(lane):
        """The lane itself, or those behind it where its section is too short to hold lanes."""
        if lane in lane_of:
            return {lane}
        return set().union(*(through(other) for other in following.get(lane, ())))

    found = set()
    for a, others in following.items():
        for b in others:
            dead_end = a == b
            if a.split(".")[::2] == b.split(".")[::2] and a in lane_of and b in lane_of and len(others) == 1:
                gap = lanes.centre[lane_of[a]][-1] - lanes.centre[lane_of[b]][0]
                dead_end |= bool(np.linalg.norm(gap) > 0.2)
            if a in lane_of and not dead_end:
                found |= {(a, c) for c in through(b)}
    return found
