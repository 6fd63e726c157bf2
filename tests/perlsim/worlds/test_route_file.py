"""Route files, and where along a route its first junction begins."""

import numpy as np
import pytest

from perlsim.errors import FormatError
from perlsim.scenario import Lanes, Ragged, Road
from perlsim.worlds import opendrive
from perlsim.worlds.route_file import first_junction, read_routes


def route(name="7", points=((0, -1, 2), (10, -1, 2)), scenario='<scenario name="a" type="ParkingExit"/>'):
    places = "".join(f'<position x="{x}" y="{y}" z="{z}"/>' for x, y, z in points)
    return f'<route id="{name}" town="Town99"><waypoints>{places}</waypoints><scenarios>{scenario}</scenarios></route>'


def write(path, *routes):
    path.write_text(f"<routes>{''.join(routes)}</routes>")
    return path


def test_routes_are_read_into_the_right_handed_frame(tmp_path):
    one, two = read_routes(write(tmp_path / "r.xml", route(), route("8", scenario="")))
    assert (one.route, one.town, one.scenario, one.length) == ("7", "Town99", "ParkingExit", 10.0)
    np.testing.assert_array_equal(one.points, [[0, 1, 2], [10, 1, 2]])
    assert (two.route, two.scenario) == ("8", "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "XML"),
        ("<routes>", "XML"),
        ("<maps/>", "root"),
        ("<routes/>", "no routes"),
        (f"<routes>{route()}{route()}</routes>", "same id"),
        (f"<routes>{route('')}</routes>", "an id"),
        (f"<routes>{route(points=((0, 0, 0),))}</routes>", "two waypoints"),
        (f"<routes>{route(points=((0, 0, 0), (0, 'nan', 0)))}</routes>", "number"),
    ],
)
def test_a_malformed_route_file_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "r.xml"
    path.write_text(content)
    with pytest.raises(FormatError, match=says) as caught:
        read_routes(path)
    assert str(path) in str(caught.value)


def crossing(height=0.0):
    """A lane along x to a junction from x = 30 to 50 m, a left turn in it, and the lane that follows northward."""
    t = np.linspace(0, np.pi / 2, 9)
    turn = np.stack([30 + 20 * np.sin(t), 20 - 20 * np.cos(t), np.full(9, height)], axis=-1)
    lines = [
        [[0, 0, height], [30, 0, height]],
        turn,
        [[50, 20, height], [50, 80, height]],
        [[80, 3.5, height], [0, 3.5, height]],  # oncoming, through the junction
    ]
    centre = Ragged.from_rows(lines, width=3)
    none = Ragged.from_rows([[]] * 4, dtype=np.int32)
    return Road(
        lanes=Lanes(
            centre,
            np.full(len(centre.values), 3.5),
            np.ones(4, np.int8),
            np.full(4, np.nan),
            np.array([False, True, False, True]),
            Ragged.from_rows([[1], [2], [], []], dtype=np.int32),
            none,
            none,
            ("a", "b", "c", "d"),
        )
    )


def test_a_junction_without_waypoints_begins_where_the_lane_before_it_ends():
    points = np.array(
        [[x, 0.3, 0] for x in range(5, 28, 2)] + [[50.2, y, 0] for y in range(25, 60, 2)], float
    )
    assert first_junction(points, crossing()) == pytest.approx(25.0, abs=0.5)


def test_a_junction_with_waypoints_begins_at_the_first_of_them():
    points = np.array([[x, 0.0, 0] for x in range(0, 29, 2)] + [[31, 0.1, 0], [35, 0.6, 0]], float)
    assert first_junction(points, crossing()) == pytest.approx(30.0, abs=1.0)


def test_oncoming_lanes_and_lanes_on_a_bridge_are_not_on_the_route():
    points = np.array([[x, 2.5, 0] for x in range(0, 28, 2)], float)
    assert first_junction(points, crossing()) is None
    through = np.array([[x, 0.0, 0] for x in range(0, 36, 2)], float)
    assert first_junction(through, crossing(height=6.0)) is None
    assert first_junction(through, Road()) is None


def test_the_first_junction_of_real_routes_is_where_the_town_has_it(real_data):
    routes = {r.route: r for r in read_routes(real_data / "benchmarks/bench2drive/bench2drive220_dev.xml")}
    assert len(routes) == 132
    path = opendrive.find_town(real_data / "maps", "Town05")
    assert path is not None
    road = opendrive.read(path, with_edges=False).road
    # By stepping along the lanes of this town with CARLA's own map library, to 0.5 m.
    assert first_junction(routes["25318"].points, road) is None
    assert first_junction(routes["26966"].points, road) == pytest.approx(30.5, abs=0.6)
    assert first_junction(routes["27506"].points, road) == pytest.approx(29.0, abs=0.6)
