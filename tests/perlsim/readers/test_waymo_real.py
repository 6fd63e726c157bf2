"""Real logs of the Waymo family and of nuScenes meet the numbers that a correct reader meets."""

import numpy as np
import pytest
from real_egos import assert_ego_is_plausible

from perlsim.geometry import polylines
from perlsim.readers import FORMATS

FOLDERS = {"womd": "womd/*scenario*", "womd_example": "womd/*example*"}
FOLDERS |= {"scenarionet": "scenarionet/*.pkl", "gpudrive": "gpudrive/*.json"}


def check(name, path):
    for scenario in FORMATS[name].read(path):
        assert (
            scenario.tracks.num_agents > 0 and len(scenario.road.lanes) > 0 and len(scenario.road.edges) > 0
        )
        if not scenario.has_ego:
            assert "ego" in scenario.missing
            continue
        assert_ego_is_plausible(scenario)
        route = scenario.route.points
        driven = scenario.tracks.position[scenario.ego.idx][scenario.tracks.valid[scenario.ego.idx]]
        hit = polylines.project(route, driven)
        assert hit.distance.max() <= 3.001, path.name
        assert polylines.arc_lengths(route)[-1] - hit.arc.max() >= 98.0, path.name
        assert np.abs(polylines.wrap(np.diff(polylines.headings(route)))).max() <= 0.301, path.name


@pytest.mark.parametrize("name", FOLDERS)
def test_real_files_meet_the_known_numbers(name, real_data):
    paths = sorted((real_data / "logs").glob(FOLDERS[name]))
    assert paths
    for path in paths:
        check(name, path)
