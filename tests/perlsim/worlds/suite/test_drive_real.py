"""Real routes, driven and recorded as logs."""

import json

import numpy as np
import pytest

from perlsim.cli import main
from perlsim.geometry.polylines import project
from perlsim.info.sanity import sanity_of
from perlsim.store import ScenarioStore
from perlsim.worlds.routes import leaderboard2


@pytest.mark.slow
def test_a_benchmark_is_driven_into_a_store_of_sane_logs(real_data, tmp_path):
    maps, routes = real_data / "maps", real_data / "benchmarks" / "bench2drive" / "dev10.xml"
    options = [
        "--routes",
        str(routes),
        "--maps",
        str(maps / "carla"),
        "--lights",
        str(maps / "carla_signals"),
    ]
    options += ["--policy", "idm_route", "--keep", "all", "--json", str(tmp_path / "totals.json")]
    with pytest.raises(SystemExit) as caught:
        main(["drive", *options, "-o", str(tmp_path / "store")])
    assert caught.value.code == 0
    assert json.loads((tmp_path / "totals.json").read_text())["routes"] == 10
    store = ScenarioStore.open(tmp_path / "store")
    types = {route.route: route.scenarios[0].kind for route in leaderboard2.read(routes)}
    seen = set()
    for scene in store:
        notes = dict(note.split(": ", 1) for note in scene.notes)
        assert notes["scenario"] == types[notes["route"]]
        seen.add(notes["route"])
        ego = scene.tracks.position[scene.ego.idx].astype(np.float64)
        assert project(scene.route.points.astype(np.float64), ego).distance.max() < 5.0
        sanity = sanity_of(scene)
        # Not a number where the ego stands.
        assert sanity is not None and not sanity.heading_error > 0.1 and not sanity.speed_error > 0.05
    assert seen == set(types)
