"""OpenDRIVE: geometry against closed forms, and the lane graph on small maps."""

import time

import numpy as np
import pytest
from opendrive_files import (
    LINE,
    crossing_with_controllers,
    document,
    junction_with_two_ways,
    lane,
    road,
    section,
)

from perlsim.errors import FormatError
from perlsim.geometry.polylines import arc_lengths
from perlsim.vocabulary import LaneType, MarkingType
from perlsim.worlds import opendrive
from perlsim.worlds.opendrive.reference_line import ReferenceLine
from perlsim.worlds.opendrive.xml import etree


@pytest.fixture
def load(tmp_path):
    def loaded(*parts):
        path = tmp_path / "small.xodr"
        path.write_text(document(*parts))
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


def test_successors_lead_through_a_junction(load):
    lanes = load(*junction_with_two_ways()).road.lanes
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
    read = load(*junction_with_two_ways())
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
    read = load(*junction_with_two_ways())
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


def test_the_surface_turns_about_the_reference_line_by_the_superelevation(load):
    tilt = 0.1
    extra = (
        '<elevationProfile><elevation s="0" a="5" b="0" c="0" d="0"/></elevationProfile>'
        f'<lateralProfile><superelevation s="0" a="{tilt}" b="0" c="0" d="0"/></lateralProfile>'
    )
    lanes = load(road(LINE.format(50), section(lane(1), lane(-1)), length=50, extra=extra)).road.lanes
    # Positive: the left side is higher.
    for name, side in (("1.0.1", 1), ("1.0.-1", -1)):
        expected = [side * 1.75 * np.cos(tilt), 5 + side * 1.75 * np.sin(tilt)]
        points = lanes.centre[lanes.ids.index(name)][:, 1:]
        np.testing.assert_allclose(points, np.broadcast_to(expected, points.shape), atol=1e-9)
    np.testing.assert_allclose(lanes.width, 3.5)


def test_the_lateral_shape_is_cubic_across_and_linear_along(load):
    shape = "".join(
        f'<shape s="{s}" t="{t}" a="{a}" b="{b}" c="0" d="0"/>'
        for s, t, a, b in ((0, -5, 0, 0), (0, 0, 0, 0), (40, -5, 1, -0.2), (40, 0, 0, 0.4))
    )
    extra = f"<lateralProfile>{shape}</lateralProfile>"
    lanes = load(road(LINE.format(40), section(lane(1), lane(-1)), length=40, extra=extra)).road.lanes
    right = lanes.centre[lanes.ids.index("1.0.-1")]
    np.testing.assert_allclose(right[:, 2], (1 - 0.2 * (-1.75 + 5)) * right[:, 0] / 40, atol=1e-9)
    left = lanes.centre[lanes.ids.index("1.0.1")]
    np.testing.assert_allclose(left[:, 2], 0.4 * 1.75 * left[:, 0] / 40, atol=1e-9)


def test_a_sudden_width_is_followed_within_centimetres(load):
    jump = "".join(
        f'<width sOffset="{s}" a="{a}" b="0" c="0" d="0"/>' for s, a in ((0, 3), (20, 3.5), (39.99, 3))
    )
    lanes = load(
        road(LINE.format(40), section("", f'<lane id="-1" type="driving">{jump}</lane>'), length=40)
    ).road.lanes
    centre = lanes.centre[0]
    apart = (np.abs(centre[:, 0] - 20) > 0.031) & (centre[:, 0] < 39.939)
    expected = np.where(centre[:, 0] < 20, -1.5, -1.75)
    np.testing.assert_allclose(centre[apart, 1], expected[apart], atol=1e-9)
    assert centre[-1, 1] == pytest.approx(-1.5) and (np.diff(centre[:, 0]) > 0.01).all()


@pytest.mark.parametrize(
    ("paint", "change", "inwards", "outwards"),
    [
        ("broken", 'laneChange="none"', False, False),
        ("broken", 'laneChange="both"', True, True),
        ("broken", 'laneChange="increase"', True, False),
        ("broken", 'laneChange="decrease"', False, True),
        ("solid", 'laneChange="both"', False, False),
        ("none", 'laneChange="none"', False, False),
        ("none", "", True, True),
    ],
)
def test_changes_of_lanes_need_both_the_paint_and_the_attribute(load, paint, change, inwards, outwards):
    inner = lane(-1, mark=paint).replace("<roadMark ", f"<roadMark {change} ")
    read = load(road(LINE.format(50), section("", inner + lane(-2)), length=50))
    lanes, sides = read.road.lanes, read.sides
    first, second = lanes.ids.index("1.0.-1"), lanes.ids.index("1.0.-2")
    assert bool(lanes.right[first].tolist()) is outwards
    assert bool(lanes.left[second].tolist()) is inwards
    points = np.repeat(np.arange(len(lanes)), np.diff(lanes.centre.offsets))
    assert (sides.right_change[points == first] == outwards).all()
    assert (sides.left_change[points == second] == inwards).all()


def test_the_sides_of_a_lane_lie_half_its_width_off_and_carry_the_paint_as_it_is_driven(load):
    marks = '<roadMark sOffset="0" type="solid broken"/><roadMark sOffset="30" type="curb"/>'
    left = lane(1).replace('<roadMark sOffset="0" type="solid"/>', marks)
    read = load(road(LINE.format(50), section(left, lane(-1)), length=50))
    lanes, sides = read.road.lanes, read.sides
    points = np.repeat(np.arange(len(lanes)), np.diff(lanes.centre.offsets))
    centre = lanes.centre.values
    np.testing.assert_allclose(0.5 * (sides.left + sides.right), centre, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(sides.left - sides.right, axis=1), lanes.width, atol=1e-9)
    against = points == lanes.ids.index("1.0.1")
    # Driven against s, its outer border is on the right; along +s the mark left of the centre lane reads
    # broken-solid, seen from the lane solid on the left.
    x = centre[against, 0]
    behind = np.append(0.5 * (x[1:] + x[:-1]), x[-1]) > 30
    assert (sides.right_mark[against][behind] == opendrive.CURB).all()
    assert (sides.right_mark[against][~behind] == MarkingType.SOLID_BROKEN).all()
    assert not sides.right_change[against][behind].any()
    assert (sides.left_mark == MarkingType.BROKEN).all() and sides.left_change.all()
    y_side = np.sign(sides.left[:, 1] - sides.right[:, 1])
    assert (y_side[against] == -1).all() and (y_side[~against] == 1).all()


def test_controllers_hold_the_lights_of_their_junction_in_sequence(load):
    read = load(*crossing_with_controllers([("2",), ("0", "1"), ("1", "3")]))
    controllers = read.controllers
    assert controllers.ids == ("c0", "c1", "c2") and set(controllers.junctions) == {"9"}
    rows = [[read.signals.ids[i] for i in row] for row in controllers.signals.rows()]
    assert rows == [["2"], ["0", "1"], ["3"]]
    assert {read.junctions[i] for i in np.flatnonzero(read.road.lanes.in_junction)} == {"9"}
    assert {read.junctions[i] for i in np.flatnonzero(~read.road.lanes.in_junction)} == {""}


def test_painted_stop_lines_are_lines_and_no_crosswalks(load):
    corners = '<cornerLocal u="-2" v="0" z="0"/><cornerLocal u="2" v="0" z="0"/>'
    extra = (
        f'<objects><object id="1" name="StopLineCrosswalk" type="-1" s="40" t="1" hdg="{np.pi / 2}">'
        f"<outline>{corners}</outline></object>"
        '<object id="2" name="LadderCrosswalk" type="-1" s="20" t="0" length="4" width="3"/></objects>'
    )
    read = load(road(LINE.format(100), section("", lane(-1)), extra=extra))
    np.testing.assert_allclose(read.stop_lines[0][:, :2], [[40, -1], [40, 3]], atol=1e-9)
    assert len(read.stop_lines) == 1 and len(read.road.crosswalks) == 1
    assert np.ptp(read.road.crosswalks[0][:, 0]) == pytest.approx(4)


def test_a_border_record_places_a_lane_by_its_distance_from_the_reference_line(load):
    border = '<lane id="-1" type="driving"><border sOffset="0" a="-4" b="-0.02" c="0" d="0"/></lane>'
    lanes = load(road(LINE.format(50), section("", border), length=50)).road.lanes
    np.testing.assert_allclose(lanes.width, 4 + 0.02 * lanes.centre[0][:, 0], atol=1e-9)


def test_several_boxes_keep_what_one_of_them_meets(load):
    read = load(*junction_with_two_ways())
    boxes = opendrive.boxes_along(np.array([[0.0, 0.0], [60.0, 0.0]]), 5.0, stride=20.0)
    assert len(boxes) == 3 and boxes[:, 0].tolist() == [-5, 15, 35]
    small, _ = opendrive.crop(read.road, boxes)
    assert set(small.lanes.ids) == {"1.0.1", "1.0.-1"}
    apart = np.array([[-10.0, -10.0, 10.0, 10.0], [140.0, -10.0, 160.0, 10.0]])
    assert set(opendrive.crop(read.road, apart)[0].lanes.ids) == {"1.0.1", "1.0.-1", "4.0.-1"}


def stencil(object_id, s, t, hdg=0.0):
    return f'<object id="{object_id}" name="Stencil_STOP" type="-1" s="{s}" t="{t}" hdg="{hdg}"/>'


def test_a_painted_stop_without_a_sign_stops_its_lane_at_its_end(load):
    painted = stencil(1, 95, -1.75) + stencil(2, 60, -1.75) + stencil(3, 4, 1.75, np.pi) + stencil(4, 95, 30)
    read = load(road(LINE.format(100), section(lane(1), lane(-1)), extra=f"<objects>{painted}</objects>"))
    signs, ids = read.road.stop_signs, read.road.lanes.ids
    assert [ids[idx] for idx in signs.lane_idx] == ["1.0.-1", "1.0.-1", "1.0.1"]
    np.testing.assert_allclose(signs.position[:, :2], [[100, -1.75], [61.5, -1.75], [0, 1.75]], atol=1e-9)
    np.testing.assert_allclose(np.abs(signs.heading), [0, 0, np.pi], atol=1e-9)


def test_a_painted_stop_beside_a_sign_is_part_of_it(load):
    *roads, junction = junction_with_two_ways()
    assert "<signals><signal" in roads[0]
    roads[0] = roads[0].replace(
        "<signals><signal", f"<objects>{stencil(1, 88, -1.75)}</objects><signals><signal"
    )
    signs = load(*roads, junction).road.stop_signs
    np.testing.assert_allclose(signs.position, [[90, -1.75, 0]], atol=1e-9)


def test_a_stop_line_written_as_a_signal_crosses_its_lane(load):
    extra = '<signals><signal id="1" name="StopLine2" type="-1" dynamic="no" s="40" t="-1.7"/></signals>'
    read = load(road(LINE.format(50), section(lane(1), lane(-1)), length=50, extra=extra))
    np.testing.assert_allclose(read.stop_lines[0], [[40, -3.5, 0], [40, 0, 0]], atol=1e-9)
    assert len(read.road.stop_signs.position) == 0
