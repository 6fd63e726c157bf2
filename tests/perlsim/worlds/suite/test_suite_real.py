"""The public benchmarks' routes, driven on the towns."""

import json

import pytest

from perlsim.cli import main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "routes", "count"),
    [("bench2drive-vector", "bench2drive/dev10.xml", 10), ("dos-vector", "dos/DOS_03_town05.xml", 13)],
)
def test_routes_are_driven_from_the_command_line_and_their_records_score(
    real_data, tmp_path, suite, routes, count
):
    maps = real_data / "maps"
    options = ["--suite", suite, "--routes", str(real_data / "benchmarks" / routes)]
    options += ["--maps", str(maps / "carla"), "--lights", str(maps / "carla_signals")]
    with pytest.raises(SystemExit) as caught:
        main(["eval", *options, "--policy", "idm_route", "-o", str(tmp_path / "run")])
    assert caught.value.code == 0
    with pytest.raises(SystemExit) as caught:
        main(["score", str(tmp_path / "run"), "--json", str(tmp_path / "score.json")])
    assert caught.value.code == 0
    scored = json.loads((tmp_path / "score.json").read_text())
    assert scored["num_routes"] == scored["num_records"] == count
    # Whoever follows the route behind leaders and lights leaves neither route nor lanes.
    for route in scored["routes"]:
        assert route["status"] in (
            "Perfect",
            "Completed",
            "Failed - Agent got blocked",
            "Failed - TickRuntime",
        )
