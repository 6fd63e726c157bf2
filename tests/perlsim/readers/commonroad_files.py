"""Writes small CommonRoad files: a road of two lanelets east, one west, a junction, and who is on it."""

from pathlib import Path


def bound(tag, points, marking=None):
    inner = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in points)
    paint = f"<lineMarking>{marking}</lineMarking>" if marking else ""
    return f"<{tag}>{inner}{paint}</{tag}>"


def lanelet(key, left, right, *, paint=(None, None), kind="urban", extra=""):
    return (
        f'<lanelet id="{key}">{bound("leftBound", left, paint[0])}{bound("rightBound", right, paint[1])}'
        f"<laneletType>{kind}</laneletType>{extra}</lanelet>"
    )


def along(y, x=(0, 100)):
    return [(x[0], y), (0.5 * (x[0] + x[1]), y), (x[1], y)]


def default_lanelets():
    """1 (left) and 2 (right) run east; 3 west; 4 follows 1 and 5 turns left behind it; 6 follows 4."""
    turn_left = [(100, 4), (108, 6), (112, 14)]
    turn_right = [(100, 0), (112, 3), (116, 14)]
    stop = (
        "<stopLine><point><x>98</x><y>4</y></point><point><x>98</x><y>0</y></point></stopLine>"
        '<trafficLightRef ref="70"/><trafficLightRef ref="71"/>'
    )
    return [
        lanelet(
            1,
            along(4),
            along(0),
            paint=("solid_solid", "dashed"),
            extra='<successor ref="4"/><successor ref="5"/><successor ref="999"/>'
            '<adjacentLeft ref="3" drivingDir="opposite"/><adjacentRight ref="2" drivingDir="same"/>'
            + stop
            + '<trafficSignRef ref="60"/>',
        ),
        lanelet(
            2,
            # The shared border, sampled elsewhere and 1 cm off.
            [(0, 0.01), (33, 0.01), (100, 0.01)],
            along(-4),
            paint=("dashed", "solid"),
            extra='<adjacentLeft ref="1" drivingDir="same"/><trafficSignRef ref="61"/>',
        ),
        lanelet(
            3,
            along(4)[::-1],
            along(8)[::-1],
            extra='<adjacentLeft ref="1" drivingDir="opposite"/>',
            kind="highway",
        ),
        lanelet(4, along(4, (100, 150)), along(0, (100, 150)), extra='<successor ref="6"/>'),
        lanelet(5, turn_left, turn_right),
        lanelet(6, along(4, (150, 200)), along(0, (150, 200)), kind="busLane"),
        lanelet(7, [(40, 10), (44, 10)], [(40, 9), (44, 9)], kind="crosswalk"),
        lanelet(8, [(40, 12), (44, 12)], [(40, 10), (44, 10)], kind="sidewalk"),
    ]


SIGNS = (
    '<trafficSign id="60"><trafficSignElement><trafficSignID>R2-1</trafficSignID>'
    "<additionalValue>13.4112</additionalValue></trafficSignElement></trafficSign>"
    '<trafficSign id="61"><trafficSignElement><trafficSignID>R1-1</trafficSignID>'
    "</trafficSignElement></trafficSign>"
)
INTERSECTION = (
    '<intersection id="80"><incoming id="81"><incomingLanelet ref="1"/>'
    '<successorsStraight ref="4"/><successorsLeft ref="5"/></incoming></intersection>'
)


def light(
    key, direction, *, durations=(3, 2, 5), colours=("green", "yellow", "red"), offset=0, active="true"
):
    cycle = "".join(
        f"<cycleElement><duration>{d}</duration><color>{c}</color></cycleElement>"
        for d, c in zip(durations, colours, strict=True)
    )
    return (
        f'<trafficLight id="{key}"><cycle>{cycle}<timeOffset>{offset}</timeOffset></cycle>'
        f"<direction>{direction}</direction><active>{active}</active></trafficLight>"
    )


LIGHTS = light(70, "left", offset=4) + light(71, "straight")


def exact(name, value):
    return f"<{name}><exact>{value}</exact></{name}>"


def between(name, low, high):
    return f"<{name}><intervalStart>{low}</intervalStart><intervalEnd>{high}</intervalEnd></{name}>"


def state(tag, x, y, time, *, heading=0.0, speed=10.0, position=None):
    where = position or f"<point><x>{x}</x><y>{y}</y></point>"
    turn = heading if isinstance(heading, str) else exact("orientation", heading)
    return f"<{tag}><position>{where}</position>{turn}{exact('time', time)}{exact('velocity', speed)}</{tag}>"


RECTANGLE = "<rectangle><length>4.0</length><width>1.8</width></rectangle>"


def car(key, x, y, *, steps=10, first=0, shape=RECTANGLE, heading=0.0, kind="car", direction=1.0):
    """A car east (or, with ``direction`` −1, west) at 10 m/s."""
    states = [state("state", x + direction * i, y, first + i, heading=heading) for i in range(1, steps + 1)]
    return (
        f'<dynamicObstacle id="{key}"><type>{kind}</type><shape>{shape}</shape>'
        + state("initialState", x, y, first, heading=heading)
        + f"<trajectory>{''.join(states)}</trajectory></dynamicObstacle>"
    )


def parked(key, x, y, shape=RECTANGLE, kind="parkedVehicle"):
    return (
        f'<staticObstacle id="{key}"><type>{kind}</type><shape>{shape}</shape>'
        + state("initialState", x, y, 0, speed=0.0)
        + "</staticObstacle>"
    )


def problem(key=90, x=20.0, y=2.0, goal='<lanelet ref="6"/>', time=0):
    where = f"<position>{goal}</position>" if goal else ""
    return (
        f'<planningProblem id="{key}">{state("initialState", x, y, time, speed=7.0)}'
        f"<goalState>{where}{between('time', 30, 40)}</goalState></planningProblem>"
    )


def document(*parts, version="2020a", dt="0.1", name="XXX_Town-1_2_T-1"):
    inner = "".join(parts)
    return (
        f'<?xml version="1.0"?><commonRoad benchmarkID="{name}" commonRoadVersion="{version}"'
        f' timeStepSize="{dt}">{inner}</commonRoad>'
    )


def default_parts():
    return [*default_lanelets(), SIGNS, LIGHTS, INTERSECTION, car(40, 50, -2), problem()]


def write(folder: Path, *parts, **options) -> Path:
    """A file of the given parts, or of the default ones."""
    file = folder / "scene.xml"
    file.write_text(document(*(parts or default_parts()), **options))
    return file
