"""A small made town, its routes, and their cases."""

from pathlib import Path

from perlsim.worlds.routes import load
from perlsim.worlds.routes.graph import TownGraph
from perlsim.worlds.suite.scene import Case, case_of
from perlsim.worlds.towns import load_town

LANE = (
    '<lane id="{0}" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>'
    '<roadMark sOffset="0" type="solid"/></lane>'
)
LIGHT = (
    '<signals><signal id="7" s="60" t="-5" type="1000001" dynamic="yes" orientation="+">'
    '<validity fromLane="-1" toLane="-1"/></signal></signals>'
)
# A straight road of 600 m, and another one beside its far end, 200 m away.
TOWN = (
    '<OpenDRIVE><header revMajor="1" revMinor="4"/>'
    + "".join(
        f'<road id="{name}" length="{length}" junction="-1"><link/><planView>'
        f'<geometry s="0" x="{x}" y="{y}" hdg="0" length="{length}"><line/></geometry></planView><lanes>'
        f'<laneSection s="0"><left>{LANE.format(1)}</left><center><lane id="0" type="none">'
        f'<roadMark sOffset="0" type="broken"/></lane></center><right>{LANE.format(-1)}</right></laneSection>'
        f"</lanes>{extra}</road>"
        for name, x, y, length, extra in (("1", 0, 0, 600, LIGHT), ("2", 500, 40, 80, ""))
    )
    + "</OpenDRIVE>"
)
ROUTE = (
    '<route id="{0}" town="Small"><waypoints><position x="10" y="1.75" z="0"/>'
    '<position x="{1}" y="1.75" z="0"/></waypoints><scenarios>{2}</scenarios></route>'
)
SCENARIO = '<scenario name="{0}_1" type="{0}"><trigger_point x="20" y="1.75" z="0" yaw="0"/>{1}</scenario>'


def write_town(folder: Path) -> Path:
    """The folder with the town's map."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Small.xodr").write_text(TOWN)
    return folder


def write_routes(path: Path, *routes: str) -> Path:
    """The file with routes, made with `ROUTE`."""
    path.write_text(f"<routes>{''.join(routes)}</routes>")
    return path


def case_with(tmp_path: Path, script, length: float = 500.0) -> Case:
    """The case of a route along the long road."""
    town = load_town(write_town(tmp_path / "maps") / "Small.xodr", cache=tmp_path / "cache")
    routes = write_routes(
        tmp_path / "routes.xml", ROUTE.format(1, 10 + length, SCENARIO.format("ControlLoss", ""))
    )
    (route,) = load.load(routes, lambda _: TownGraph(town.map.road.lanes))
    return case_of(route, town, script)
