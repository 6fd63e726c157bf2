"""OpenDRIVE: geometry against closed forms, and the lane graph on small maps."""

import time

import numpy as np
import pytest

from perlsim.errors import FormatError
from perlsim.geometry.polylines import arc_lengths
from perlsim.vocabulary import LaneType, MarkingType
from perlsim.worlds import opendrive
from perlsim.worlds.opendrive.reference_line import ReferenceLine
from perlsim.worlds.opendrive.xml import etree

LINE = '<geometry s="0" x="0" y="0" hdg="0" length="{0}"><line/></geometry>'
WIDTH = '<width sOffset="0" a="{0}" b="0" c="0" d="0"/>'
DRIVING = (
    '<lane id="{0}" type="driving"><link>{1}</link>'
    + WIDTH.format(3.5)
    + '<roadMark sOffset="0" type="{2}"/></lane>'
)


def road(plan, lanes, *, road_id="1", length=100.0, junction="-1", link="", extra="", rule=""):
    return (
        f'<road id="{road_id}" length="{length}" junction="{junction}" {rule}><link>{link}</link>'
        f"<planView>{plan}</planView><lanes>{lanes}</lanes>{extra}</road>"
    )


def section(left="", right="", s=0.0, centre='<roadMark sOffset="0" type="broken"/>'):
    return (
        f'<laneSection s="{s}"><left>{left}</left><center><lane id="0" type="none">{centre}</lane></center>'
        f"<right>{right}</right></laneSection>"
    )


def lane(lane_id, link="", mark="solid"):
    return DRIVING.format(lane_id, link, mark)


@pytest.fixture
def load(tmp_path):
    def loaded(*parts):
        text = '<OpenDRIVE><header revMajor="1" revMinor="4"/>' + "".join(parts) + "</OpenDRIVE>"
        path = tmp_path / "small.xodr"
        path.write_text(text)
        return opendrive.read(path)

    return loaded


def reference(plan):
    return ReferenceLine(etree.fromstring(f'<road id="1"><planView>{plan}</planView></road>'))


def test_an_arc_follows_its_circle():
    line = reference('<geometry s="0" x="1" y="2" hdg="0.3" length="80"><arc curvature="0.05"/></geometry>')
    s = np.linspace(0, 80, 50)
    xy, heading = line.at(s)
    centre = np.array([1, 2]) + 20 * np.array([-np.sin(0.3), np.cos(0.3)])
    np.testing.assert_allclose(np.linalg.norm(xy - centre, axis=1), 20, atol=1e-9)
    np.testing.assert_allclose(np.unwrap(heading), 0.3 + 0.05 * s, atol=1e-9)


def test_a_spiral_has_the_fresnel_integrals_as_coordinates():
    # Curvature pi s from 0: x + iy is the Fresnel integral; C(1), S(1) from Abramowitz and Stegun, table 7.7.
    line = reference(
        f'<geometry s="0" x="0" y="0" hdg="0" length="1"><spiral curvStart="0" curvEnd="{np.pi}"/></geometry>'
    )
    np.testing.assert_allclose(line.at(np.array([1.0]))[0][0], [0.7798934, 0.4382591], atol=5e-8)


@pytest.mark.parametrize(
    ("start", "end"), [(0.0, 0.1), (0.1, 0.0), (-0.02, 0.08), (0.05, 0.05000001)], ids=str
)
def test_a_spiral_turns_by_the_integral_of_its_curvature(start, end):
    line = reference(
        '<geometry s="0" x="0" y="0" hdg="1" length="60">'
        f'<spiral curvStart="{start}" curvEnd="{end}"/></geometry>'
    )
    s = np.linspace(0, 60, 6001)
    xy, heading = line.at(s)
    turn = 1 + start * s + (end - start) / 60 * s**2 / 2
    np.testing.assert_allclose(np.unwrap(heading), turn, atol=1e-9)
    steps = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    integral = np.concatenate([[[0, 0]], np.cumsum(0.5 * (steps[1:] + steps[:-1]) * 0.01, axis=0)])
    np.testing.assert_allclose(xy, integral, atol=1e-4)


def test_poly3_is_sampled_by_arc_length():
    line = reference(
        '<geometry s="0" x="0" y="0" hdg="0" length="40"><poly3 a="0" b="0" c="0.01" d="0"/></geometry>'
    )
    s = np.linspace(0, 40, 4001)
    xy, _ = line.at(s)
    np.testing.assert_allclose(xy[:, 1], 0.01 * xy[:, 0] ** 2, atol=1e-9)
    np.testing.assert_allclose(arc_lengths(xy), s, atol=1e-3)


@pytest.mark.parametrize(("p_range", "scale"), [("normalized", 10.0), ("arcLength", 1.0)])
def test_param_poly3_takes_its_parameter_range(p_range, scale):
    coefficients = f'aU="0" bU="{scale}" cU="0" dU="0" aV="0" bV="0" cV="{0.02 * scale**2}" dV="0"'
    line = reference(
        '<geometry s="0" x="0" y="0" hdg="0" length="10">'
        f'<paramPoly3 pRange="{p_range}" {coefficients}/></geometry>'
    )
    xy, heading = line.at(np.array([0.0, 5.0, 10.0]))
    np.testing.assert_allclose(xy, [[0, 0], [5, 0.5], [10, 2]], atol=1e-9)
    np.testing.assert_allclose(np.tan(heading), [0, 0.2, 0.4], atol=1e-9)


def test_right_lanes_run_along_s_and_left_lanes_against_it(load):
    read = load(road(LINE.format(100), section(lane(1), lane(-1))))
    rows = dict(zip(read.road.lanes.ids, read.road.lanes.centre.rows(), strict=True))
    np.testing.assert_allclose(rows["1.0.-1"][[0, -1]], [[0, -1.75, 0], [100, -1.75, 0]], atol=1e-9)
    np.testing.assert_allclose(rows["1.0.1"][[0, -1]], [[100, 1.75, 0], [0, 1.75, 0]], atol=1e-9)
    np.testing.assert_allclose(read.road.lanes.width, 3.5)


def test_left_hand_traffic_turns_every_lane_round(load):
    right = lane(-2) + lane(-1, mark="broken")
    lanes = load(road(LINE.format(100), section(lane(1), right), rule='rule="LHT"')).road.lanes
    rows = dict(zip(lanes.ids, lanes.centre.rows(), strict=True))
    assert rows["1.0.-1"][0, 0] == 100 and rows["1.0.1"][0, 0] == 0
    # Driving against s, the outer lane -2 lies on the left of lane -1.
    inner, outer = lanes.ids.index("1.0.-1"), lanes.ids.index("1.0.-2")
    assert lanes.left[inner].tolist() == [outer] and lanes.right[outer].tolist() == [inner]
    assert not lanes.right[inner].tolist()


@pytest.mark.parametrize(
    ("mark", "inwards", "outwards"),
    [
        ("broken", True, True),
        ("solid", False, False),
        ("solid broken", True, False),
        ("broken solid", False, True),
    ],
)
def test_neighbours_respect_the_line_between_them(load, mark, inwards, outwards):
    read = load(road(LINE.format(50), section("", lane(-1, mark=mark) + lane(-2)), length=50))
    lanes = read.road.lanes
    inner, outer = lanes.ids.index("1.0.-1"), lanes.ids.index("1.0.-2")
    assert (lanes.right[inner].tolist() == [outer]) is outwards
    assert (lanes.left[outer].tolist() == [inner]) is inwards


def test_a_double_mark_is_mirrored_left_of_the_centre_lane(load):
    read = load(
        road(LINE.format(50), section(lane(1, mark="solid broken"), lane(-1, mark="solid broken")), length=50)
    )
    found = {
        round(float(line[0, 1]), 1): MarkingType(int(kind))
        for line, kind in zip(read.road.markings.line.rows(), read.road.markings.kind, strict=True)
    }
    assert found == {-3.5: MarkingType.SOLID_BROKEN, 0.0: MarkingType.BROKEN, 3.5: MarkingType.BROKEN_SOLID}


def test_lane_offset_and_cubic_widths_move_the_lanes(load):
    wide = '<lane id="-1" type="driving"><width sOffset="0" a="3" b="0" c="0.0012" d="-0.000016"/></lane>'
    offset = '<laneOffset s="0" a="1" b="0" c="0" d="0"/>'
    read = load(road(LINE.format(50), offset + section("", wide), length=50))
    centre, width = read.road.lanes.centre[0], read.road.lanes.width
    expected = 3 + 0.0012 * centre[:, 0] ** 2 - 0.000016 * centre[:, 0] ** 3
    np.testing.assert_allclose(width, expected, atol=1e-9)
    np.testing.assert_allclose(centre[:, 1], 1 - expected / 2, atol=1e-9)


def test_elevation_and_speed_units_are_read(load):
    extra = (
        '<type s="0" type="motorway"><speed max="60" unit="mph"/></type>'
        '<elevationProfile><elevation s="0" a="5" b="0.1" c="0" d="0"/></elevationProfile>'
    )
    read = load(road(LINE.format(50), section("", lane(-1)), length=50, extra=extra))
    np.testing.assert_allclose(read.road.lanes.centre[0][[0, -1], 2], [5, 10], atol=1e-9)
    assert read.road.lanes.speed_limit[0] == pytest.approx(26.8224)
    assert read.road.lanes.kind[0] == LaneType.FREEWAY


def test_samples_stray_less_than_a_centimetre_from_the_curve(load):
    plan = '<geometry s="0" x="0" y="0" hdg="0" length="60"><arc curvature="0.12"/></geometry>'
    read = load(road(plan, section(lane(1), lane(-1) + lane(-2)), length=60))
    for name, centre in zip(read.road.lanes.ids, read.road.lanes.centre.rows(), strict=True):
        t = {"1": 1.75, "-1": -1.75, "-2": -5.25}[name.split(".")[2]]
        middle = 0.5 * (centre[1:] + centre[:-1])[:, :2]
        radius = np.linalg.norm(middle - [0, 1 / 0.12], axis=1)
        assert np.abs(radius - (1 / 0.12 - t)).max() <= 0.01
        assert np.diff(arc_lengths(centre)).max() <= 5.0 * (1 - 0.12 * t) + 1e-9


def _junction():
    """A road that leads into a junction, in which one road goes on straight and another turns left."""
    into = '<successor elementType="junction" elementId="9"/>'
    after = '<predecessor elementType="road" elementId="1" contactPoint="end"/>'
    after += '<successor elementType="road" elementId="4" contactPoint="start"/>'
    turn = '<predecessor elementType="road" elementId="1" contactPoint="end"/>'
    one = '<predecessor id="-1"/><successor id="-1"/>'
    signal = (
        '<signals><signal id="7" s="2" t="-5" type="1000001" dynamic="yes" orientation="+">'
        '<validity fromLane="-1" toLane="-1"/></signal></signals>'
    )
    straight = LINE.format(20).replace('x="0"', 'x="100"')
    left = '<geometry s="0" x="100" y="0" hdg="0" length="15.7"><arc curvature="0.1"/></geometry>'
    beyond = LINE.format(30).replace('x="0"', 'x="120"')
    stop = (
        '<signals><signal id="8" s="90" t="-4" type="206" dynamic="no" orientation="+">'
        '<validity fromLane="-1" toLane="-1"/></signal></signals>'
    )
    return (
        road(LINE.format(100), section(lane(1), lane(-1)), link=into, extra=stop),
        road(
            straight,
            section("", lane(-1, one)),
            road_id="2",
            length=20,
            junction="9",
            link=after,
            extra=signal,
        ),
        road(left, section("", lane(-1, one)), road_id="3", length=15.7, junction="9", link=turn),
        road(beyond, section("", lane(-1)), road_id="4", length=30),
        '<junction id="9"><connection incomingRoad="1" connectingRoad="2" contactPoint="start">'
        '<laneLink from="-1" to="-1"/></connection><connection incomingRoad="1" connectingRoad="3" '
        'contactPoint="start"><laneLink from="-1" to="-1"/></connection></junction>',
    )


def test_successors_lead_through_a_junction(load):
    lanes = load(*_junction()).road.lanes
    ids = lanes.ids
    following = {ids[i]: sorted(ids[j] for j in lanes.successors[i]) for i in range(len(lanes))}
    assert following == {
        "1.0.-1": ["2.0.-1", "3.0.-1"],
        "1.0.1": [],
        "2.0.-1": ["4.0.-1"],
        "3.0.-1": [],
        "4.0.-1": [],
    }
    assert {ids[i] for i in np.flatnonzero(lanes.in_junction)} == {"2.0.-1", "3.0.-1"}


def test_signals_govern_the_lanes_of_their_validity(load):
    read = load(*_junction())
    signals, ids = read.signals, read.road.lanes.ids
    light, sign = signals.ids.index("7"), signals.ids.index("8")
    rows = {int(s): i for i, s in enumerate(signals.lane_signal_idx)}
    assert ids[signals.lane_idx[rows[light]]] == "2.0.-1"
    # On a road inside the junction traffic stops where it enters, not where the post stands.
    np.testing.assert_allclose(signals.stop[rows[light]], [100, -1.75, 0], atol=1e-9)
    np.testing.assert_allclose(signals.stop[rows[sign]], [90, -1.75, 0], atol=1e-9)
    np.testing.assert_allclose(read.road.stop_signs.position, [[90, -1.75, 0]], atol=1e-9)


def test_a_crosswalk_is_placed_by_its_local_corners(load):
    corners = "".join(
        f'<cornerLocal u="{u}" v="{v}" z="0"/>' for u, v in ((2, 1), (-2, 1), (-2, -1), (2, -1))
    )
    extra = (
        f'<objects><object id="1" type="crosswalk" s="40" t="1" hdg="{np.pi / 2}">'
        f"<outline>{corners}</outline></object></objects>"
    )
    read = load(road(LINE.format(100), section("", lane(-1)), extra=extra))
    np.testing.assert_allclose(
        read.road.crosswalks[0][:, :2], [[39, 3], [39, -1], [41, -1], [41, 3]], atol=1e-9
    )


def test_sections_without_length_are_passed_through(load):
    both = '<predecessor id="-1"/><successor id="-1"/>'
    sections = (
        section("", lane(-1, both))
        + section("", lane(-1, both), s=50)
        + section("", lane(-1, both), s=50.001)
    )
    lanes = load(road(LINE.format(100), sections)).road.lanes
    assert lanes.ids == ("1.0.-1", "1.2.-1")
    assert lanes.successors[0].tolist() == [1]


def test_a_lane_without_width_is_not_there_but_its_neighbours_are(load):
    none = lane(-1).replace('a="3.5"', 'a="0"')
    lanes = load(road(LINE.format(100), section("", none + lane(-2)))).road.lanes
    assert lanes.ids == ("1.0.-2",)
    np.testing.assert_allclose(lanes.centre[0][:, 1], -1.75)


def test_edges_enclose_the_drivable_lanes_on_their_left(load):
    read = load(road(LINE.format(100), section(lane(1), lane(-1))))
    ring = read.road.edges[0]
    x, y = ring[:, 0], ring[:, 1]
    assert 0.5 * np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) == pytest.approx(700, rel=1e-3)


def test_cropping_keeps_what_reaches_into_the_box_and_renumbers_it(load):
    read = load(*_junction())
    small, new_idx = opendrive.crop(read.road, (102.0, -10.0, 160.0, 20.0))
    assert "1.0.1" not in small.lanes.ids and "4.0.-1" in small.lanes.ids
    for old, name in enumerate(read.road.lanes.ids):
        assert new_idx[old] == (small.lanes.ids.index(name) if name in small.lanes.ids else -1)
    names = {
        small.lanes.ids[i]: [small.lanes.ids[j] for j in small.lanes.successors[i]]
        for i in range(len(small.lanes))
    }
    assert names["2.0.-1"] == ["4.0.-1"]
    assert len(small.stop_signs.position) == 0
    assert small.edges.values[:, 0].min() >= read.road.edges.values[:, 0].min()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<OpenDRIVE><header revMajor='2'/></OpenDRIVE>", "version"),
        ("<OpenDRIVE><header revMajor='1'/></OpenDRIVE>", "no roads"),
        ("<other/>", "OpenDRIVE"),
        ("<OpenDRIVE><header", "XML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path, text, expected):
    path = tmp_path / "wrong.xodr"
    path.write_text(text)
    with pytest.raises(FormatError, match=expected) as caught:
        opendrive.read(path)
    assert "wrong.xodr" in str(caught.value)


def test_a_number_that_is_none_is_named(load):
    with pytest.raises(FormatError, match="curvature"):
        load(
            road(
                '<geometry s="0" x="0" y="0" hdg="0" length="9"><arc curvature="x"/></geometry>',
                section("", lane(-1)),
            )
        )


def test_an_absurd_length_is_refused_quickly(load):
    start = time.monotonic()
    with pytest.raises(FormatError, match=r"points|finite"):
        load(road(LINE.format("1e300"), section("", lane(-1)), length=1e300))
    assert time.monotonic() - start < 5
