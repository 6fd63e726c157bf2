"""Route files: reading, writing, what is refused, and errors that say where."""

import json
import math

import numpy as np
import pytest

from perlsim.errors import FormatError
from perlsim.worlds.routes import leaderboard1, leaderboard2
from perlsim.worlds.routes.catalogue import BENCH2DRIVE_TYPES, DOS_TYPES, SCENARIO_TYPES, parse_parameters
from perlsim.worlds.routes.definitions import RouteDefinition, RouteScenario
from perlsim.worlds.routes.parameters import Form, Parsed, pose, written_pose

ROUTE = """<?xml version="1.0"?>
<routes>
  <!-- a comment -->
  <route id="7" town="Town99">
    <weathers><weather route_percentage="0" cloudiness="5.0" name="fair"/></weathers>
    <waypoints>
      <position x="10" y="20" z="1"/>
      <position x="30.5" y="20" z="1"/>
    </waypoints>
    <scenarios>
      <scenario name="HazardAtSideLane_1" type="HazardAtSideLane">
        <trigger_point x="12" y="20" z="1" yaw="90"/>
        <distance value="40"/>
        <bicycle_speed value="9"/>
      </scenario>
    </scenarios>
  </route>
</routes>
"""


def _written(tmp_path, text):
    path = tmp_path / "routes.xml"
    path.write_text(text)
    return path


def test_a_route_is_read_into_the_right_handed_frame(tmp_path):
    (route,) = leaderboard2.read(_written(tmp_path, ROUTE))
    np.testing.assert_allclose(route.waypoints, [[10, -20, 1], [30.5, -20, 1]])
    assert (route.route, route.town) == ("7", "Town99")
    assert route.scenarios[0].trigger == pytest.approx((12, -20, 1, -math.pi / 2))
    assert dict(route.weathers[0]) == {"cloudiness": 5.0, "route_percentage": 0.0}


def test_parameters_come_in_si_units_with_the_defaults_of_their_type(tmp_path):
    (route,) = leaderboard2.read(_written(tmp_path, ROUTE))
    values = route.scenarios[0].parameters.values
    assert values["distance"] == 40.0
    assert values["bicycle_speed"] == pytest.approx(9 / 3.6)
    assert values["bicycle_drive_distance"] == 50.0
    assert values["speed"] == pytest.approx(60 / 3.6)
    assert not route.scenarios[0].parameters.refused


def test_what_nothing_uses_is_refused_by_name_with_the_reason():
    parsed = parse_parameters("ControlLoss", {"speed": [{"value": "60"}], "colour": [{"value": "red"}]})
    assert set(parsed.refused) == {"speed", "colour"}
    assert "no such parameter" in parsed.refused["colour"]


def test_a_value_of_the_wrong_form_is_refused_and_the_default_taken():
    parsed = parse_parameters("ParkingCutIn", {"direction": [{"value": "40"}]})
    assert parsed.values["direction"] == "right"
    assert "'40'" in parsed.refused["direction"]


def test_an_unknown_type_is_refused_with_everything_it_says():
    parsed = parse_parameters("FallingPiano", {"distance": [{"value": "4"}]})
    assert set(parsed.refused) == {"type", "distance"} and not parsed.values


def test_a_flow_without_its_beginning_is_an_error():
    with pytest.raises(FormatError) as caught:
        parse_parameters("EnterActorFlow", {"end_actor_flow": [{"x": "1", "y": "2", "z": "3"}]})
    assert caught.value.field == "start_actor_flow"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('x="30.5"', 'x="east"', "route 7, position 1"),
        ('x="30.5"', 'x="inf"', "route 7, position 1"),
        ('yaw="90"', "", "route 7, scenario HazardAtSideLane_1"),
        ("trigger_point", "trigger", "route 7, scenario HazardAtSideLane_1"),
        ('<position x="30.5" y="20" z="1"/>', "", "route 7, waypoints"),
        ('id="7"', "", "route"),
        ('town="Town99"', "", "route 7"),
        ('cloudiness="5.0"', 'cloudiness="much"', "route 7, weather"),
    ],
)
def test_errors_name_the_file_the_route_and_the_field(tmp_path, old, new, field):
    path = _written(tmp_path, ROUTE.replace(old, new))
    with pytest.raises(FormatError) as caught:
        leaderboard2.read(path)
    assert caught.value.file == str(path) and caught.value.field == field


@pytest.mark.parametrize("text", ["", "<routes/>", "<maps><route id='1'/></maps>", "<routes><route>"])
def test_what_is_no_route_file_is_refused(tmp_path, text):
    with pytest.raises(FormatError):
        leaderboard2.read(_written(tmp_path, text))


def test_entities_are_not_resolved(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('<position x="0" y="0" z="0"/>')
    document = ROUTE.partition("?>")[2].replace("<waypoints>", "<waypoints>&more;")
    text = f'<!DOCTYPE routes [<!ENTITY more SYSTEM "{secret.as_uri()}">]>{document}'
    (route,) = leaderboard2.read(_written(tmp_path, text))
    assert len(route.waypoints) == 2


def _example(kind: str) -> RouteScenario:
    """A scenario of a type whose every parameter differs from its default."""
    values = {}
    for parameter in SCENARIO_TYPES[kind].parameters:
        values[parameter.name] = {
            Form.NUMBER: 7.25,
            Form.WORD: parameter.words[0] if parameter.words else "a.b",
            Form.INTERVAL: (3.5, 8.25),
            Form.POINT: (1.5, -2.5, 3.0),
            Form.POSES: ((1.0, 2.0, 3.0, 0.5), (4.0, 5.0, 6.0, -3.0)),
        }[parameter.form]
    return RouteScenario(f"{kind}_1", kind, (1.25, -3.5, 0.5, -1.0), Parsed(values))


@pytest.mark.parametrize("kind", SCENARIO_TYPES)
def test_every_type_survives_writing_and_reading(tmp_path, kind):
    before = RouteDefinition("3", "Town01", np.array([[1.0, -2.0, 3.0], [4.5, 5.25, 6.0]]), (_example(kind),))
    path = tmp_path / "out.xml"
    leaderboard2.write([before], path)
    (after,) = leaderboard2.read(path)
    np.testing.assert_allclose(after.waypoints, before.waypoints, atol=1e-9)
    one, two = before.scenarios[0], after.scenarios[0]
    assert (one.name, one.kind, two.parameters.refused) == (two.name, two.kind, {})
    np.testing.assert_allclose(two.trigger, one.trigger, atol=1e-9)
    for name, value in one.parameters.values.items():
        read = two.parameters.values[name]
        assert read == value if isinstance(value, str) else np.allclose(read, value, atol=1e-9)


def test_poses_survive_turning_the_frame_and_back():
    for heading in np.linspace(-np.pi, np.pi - 1e-6, 9):
        before = (1.0, -2.0, 0.5, float(heading))
        np.testing.assert_allclose(pose(written_pose(before)), before, atol=1e-9)


def test_the_catalogue_holds_the_types_of_bench2drive_and_dos():
    assert len(BENCH2DRIVE_TYPES) == 44
    assert DOS_TYPES == ("DOS_01", "DOS_02", "DOS_03", "DOS_04")


def test_trigger_definitions_of_the_first_leaderboard_are_read(tmp_path):
    transform = {"x": 5, "y": 6.5, "z": 0.0, "yaw": 360.0, "pitch": "0"}
    content = {
        "available_scenarios": [
            {
                "Town05": [
                    {
                        "scenario_type": "DOS_04",
                        "available_event_configurations": [
                            {
                                "transform": transform,
                                "other_actors": {"left": [transform], "right": [transform]},
                            }
                        ],
                    }
                ]
            }
        ]
    }
    path = tmp_path / "triggers.json"
    path.write_text(json.dumps(content))
    (trigger,) = leaderboard1.read_triggers(path)
    assert (trigger.town, trigger.scenario.kind) == ("Town05", "DOS_04")
    assert trigger.scenario.trigger == pytest.approx((5, -6.5, 0, 0))
    assert trigger.scenario.parameters.values["left"] == (pytest.approx((5, -6.5, 0, 0)),)
    assert set(trigger.scenario.parameters.refused) == {"right"}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"available_scenarios": [{"Town05": [{"scenario_type": "DOS_01"}]}]},
        {
            "available_scenarios": [
                {
                    "T": [
                        {
                            "scenario_type": "DOS_01",
                            "available_event_configurations": [{"transform": {"x": 1}}],
                        }
                    ]
                }
            ]
        },
        {
            "available_scenarios": [
                {"T": [{"scenario_type": "DOS_01", "available_event_configurations": ["nonsense"]}]}
            ]
        },
    ],
)
def test_broken_trigger_definitions_are_errors_that_name_the_file(tmp_path, content):
    path = tmp_path / "triggers.json"
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError) as caught:
        leaderboard1.read_triggers(path)
    assert caught.value.file == str(path) and caught.value.field
