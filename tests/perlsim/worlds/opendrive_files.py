"""Small OpenDRIVE maps, put together from pieces."""

import math

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


def document(*parts):
    """The whole file around roads, junctions and controllers."""
    return '<OpenDRIVE><header revMajor="1" revMinor="4"/>' + "".join(parts) + "</OpenDRIVE>"


def junction_with_two_ways():
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


def crossing():
    """Four approaches of one lane each; ways straight on and to the left, lights on every way.

    Approach i comes from heading i * 90 degrees; controller ``c<i>`` holds light ``<i>``.
    """
    reach = 20.0
    parts, connections = [], []
    for i in range(4):
        angle = i * math.pi / 2
        x, y = -reach * math.cos(angle), -reach * math.sin(angle)
        far = (x - 50 * math.cos(angle), y - 50 * math.sin(angle))
        link = '<successor elementType="junction" elementId="9"/>'
        plan = f'<geometry s="0" x="{far[0]}" y="{far[1]}" hdg="{angle}" length="50"><line/></geometry>'
        parts.append(road(plan, section(lane(1), lane(-1)), road_id=f"{i}", length=50, link=link))
    for i in range(4):
        angle = i * math.pi / 2
        x, y = -reach * math.cos(angle), -reach * math.sin(angle)
        for kind, target in (("straight", (i + 2) % 4), ("left", (i + 3) % 4)):
            name = f"{i}{target}"
            length = 2 * reach if kind == "straight" else reach * math.pi / 2
            shape = "<line/>" if kind == "straight" else f'<arc curvature="{1 / reach}"/>'
            plan = f'<geometry s="0" x="{x}" y="{y}" hdg="{angle}" length="{length}">{shape}</geometry>'
            link = (
                f'<predecessor elementType="road" elementId="{i}" contactPoint="end"/>'
                f'<successor elementType="road" elementId="{target}" contactPoint="end"/>'
            )
            way = lane(-1, '<predecessor id="-1"/><successor id="1"/>')
            tag = "signal" if kind == "straight" else "signalReference"
            light = (
                f'<signals><{tag} id="{i}" s="1" t="-4" type="1000001" dynamic="yes" orientation="+">'
                f'<validity fromLane="-1" toLane="-1"/></{tag}></signals>'
            )
            parts.append(
                road(
                    plan,
                    section("", way),
                    road_id=name,
                    length=length,
                    junction="9",
                    link=link,
                    extra=light,
                )
            )
            connections.append(
                f'<connection incomingRoad="{i}" connectingRoad="{name}" contactPoint="start">'
                '<laneLink from="-1" to="-1"/></connection>'
            )
    return parts, connections


def crossing_with_controllers(groups):
    """The crossing, its lights dealt to controllers: ``groups`` of light ids."""
    parts, connections = crossing()
    controllers, members = [], []
    for idx, group in enumerate(groups):
        control = "".join(f'<control signalId="{light}" type="0"/>' for light in group)
        controllers.append(f'<controller id="c{idx}">{control}</controller>')
        members.append(f'<controller id="c{idx}" sequence="{idx}"/>')
    junction = f'<junction id="9">{"".join(connections)}{"".join(members)}</junction>'
    return [*parts, *controllers, junction]
