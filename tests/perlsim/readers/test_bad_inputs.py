"""What each reader makes of bad input: a clear refusal or a repair that the scenario states.

- File cut short, bits flipped, bytes lost or doubled, values of wrong types: refused, or read with repairs.
  tfrecords are refused by checksum, naming record and offset; a CARLA recording is read up to its last whole
  frame (tests named "damaged" beside each reader).
- Wrong version: refused, naming the version (CommonRoad, CARLA recorder, py123d) or, as nuPlan's files do not
  tell it, the missing column. The other formats carry no version.
- NaN position: the step is masked, or bridged where the log is resampled and the gap short; stated. JSON of
  GPUDrive and numbers of CommonRoad cannot be NaN: refused.
- Lane without length: dropped with its links; stated.
- No road user: the map alone, without an ego (Waymo, ScenarioNet, GPUDrive, CommonRoad), else refused.
- One step, 500 road users: read, all of it.
- Unknown light state: kept as UNKNOWN; stated. Argoverse has no lights.
- Id twice: Waymo and GPUDrive call the second ``id#2``; elsewhere the first box of a frame is kept (CARLA
  recorder and nuPlan: the last); stated. ScenarioNet's ids are the keys of a dictionary.
- Map far from the origin: see test_far_from_origin.py.
"""

import re

import numpy as np
import pytest
from bad_files import BAD, MANY

from perlsim.errors import FormatError
from perlsim.readers import FORMATS, ReadOptions

MASKED = "1 steps had positions that are not finite: masked"
BRIDGED = "1 boxes had positions that are not finite: left out"
RENAMED = "1 agents had an id that was taken and were given a new one"
FIRST_KEPT = "repeated an object within a frame: the first of each was kept"
LAST_KEPT = FIRST_KEPT.replace("first", "last")
REFUSED = {
    ("commonroad", "wrong version"): r"commonRoadVersion.*expected version 2020a",
    ("carla_recorder", "wrong version"): "expected version 1, found 2",
    ("nuplan", "wrong version"): r"lidar_box.*lacks yaw.*expected the schema of nuPlan v1\.1",
    ("py123d", "wrong version"): r"expected a log of py123d 0\.7\.x, found version 0\.9\.1",
    ("gpudrive", "NaN position"): "no valid JSON",
    ("commonroad", "NaN position"): "dynamicObstacle 41.*expected a finite number in x",
    ("av2_sensor", "no road user"): "no box",
    ("av2_motion", "no road user"): "the table has no rows",
    ("bench2drive", "no road user"): "expected a list of boxes, the ego first",
    ("carla_recorder", "no road user"): "no road user is in any frame",
    ("nuplan", "no road user"): "no sweep has an ego pose",
    ("py123d", "no road user"): "nothing usable is left",
}
REPAIRED = {
    "NaN position": dict.fromkeys(
        ("womd", "womd_example", "scenarionet", "av2_motion", "bench2drive"), MASKED
    )
    | dict.fromkeys(("av2_sensor", "carla_recorder", "nuplan", "py123d"), BRIDGED),
    "lane without length": dict.fromkeys(BAD, "1 lanes had no length: dropped"),
    "unknown light state": dict.fromkeys(BAD, "light states were unknown: kept as UNKNOWN"),
    "id twice": dict.fromkeys(("womd", "womd_example", "gpudrive"), RENAMED)
    | dict.fromkeys(("av2_sensor", "bench2drive", "py123d"), FIRST_KEPT)
    | dict.fromkeys(("carla_recorder", "nuplan"), LAST_KEPT)
    | {
        "av2_motion": "rows repeated a track and step: the first of each was kept",
        "commonroad": "1 obstacles had an id that was taken: left out",
    },
}
CELLS = [(name, case) for name, cases in BAD.items() for case in cases]


def scenarios_of(name, case, folder):
    written = BAD[name][case](folder)
    path, options = written if isinstance(written, tuple) else (written, ReadOptions())
    return [scenario.validate() for scenario in FORMATS[name].read(path, options)]


@pytest.mark.parametrize(("name", "case"), [cell for cell in CELLS if cell in REFUSED])
def test_what_cannot_be_mended_is_refused_with_the_reason(name, case, tmp_path):
    with pytest.raises(FormatError) as refusal:
        scenarios_of(name, case, tmp_path)
    assert re.search(REFUSED[name, case], str(refusal.value))


@pytest.mark.parametrize(("name", "case"), [cell for cell in CELLS if cell not in REFUSED])
def test_what_can_be_mended_is_mended_and_stated(name, case, tmp_path):
    (scenario,) = scenarios_of(name, case, tmp_path)
    if case == "one step":
        assert scenario.tracks.num_steps == 1 and scenario.tracks.valid.all()
    elif case == "500 road users":
        assert scenario.tracks.num_agents == MANY
        assert len(np.unique(scenario.tracks.position[:, -1], axis=0)) == MANY
    elif case == "no road user":
        assert scenario.tracks.num_agents == 0 and len(scenario.road.lanes) and not scenario.has_ego
    else:
        assert any(REPAIRED[case][name] in repair for repair in scenario.repairs), scenario.repairs


def test_every_format_is_given_every_bad_input_that_it_can_hold():
    always = {"NaN position", "no road user", "one step", "500 road users"}
    assert set(BAD) == set(FORMATS)
    assert all(always <= set(cases) for cases in BAD.values())
    absent = {case: {name for name in BAD if case not in BAD[name]} for _, case in CELLS}
    assert absent["lane without length"] == {"carla_recorder"}  # its maps are OpenDRIVE
    assert absent["unknown light state"] == {"av2_sensor", "av2_motion"}
    assert absent["id twice"] == {"scenarionet"}
    assert {name for name in BAD if "wrong version" in BAD[name]} == {
        "commonroad",
        "carla_recorder",
        "nuplan",
        "py123d",
    }
