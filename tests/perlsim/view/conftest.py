"""A store of synthetic logs, and a run of the form that perlsim eval writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from perlsim.readers.synthetic import generate
from perlsim.scenario import Scenario
from perlsim.store import ScenarioStore

FAMILIES = ("signalised_junction", "multi_lane", "parked_street")
POLICIES = ("straight", "slow/er")  # the second has a name that cannot be one of a file


@pytest.fixture(scope="session")
def scenarios() -> list[Scenario]:
    return [next(iter(generate(1, 3, [family]))) for family in FAMILIES]


@pytest.fixture(scope="session")
def store(scenarios, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("view") / "logs"
    ScenarioStore.create(path).append(scenarios)
    return path


@pytest.fixture(scope="session")
def run_folder(scenarios, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("view") / "run"
    write_run(path, scenarios)
    return path


def write_run(path: Path, scenarios: list[Scenario]) -> None:
    """Rollouts of two policies: the log with the ego 0.5 m aside, and at nine tenths of its way."""
    (path / "rollouts").mkdir(parents=True)
    for number, name in enumerate(POLICIES):
        place = path / "rollouts" / name.replace("/", "_")
        lines = []
        simulated = [_window(scenario, aside=0.5 * number, pace=1 - 0.1 * number) for scenario in scenarios]
        # The second policy lacks the last scene.
        for scenario in simulated[: len(simulated) - number]:
            ego, tracks = scenario.ego.idx, scenario.tracks
            ahead = tracks.position[ego, ::5, :2].tolist()
            lines.append(
                {
                    "scene_id": scenario.scenario_id,
                    "metrics": {"pdms": 0.9 - 0.2 * number, "ego_progress": 0.75, "epdms": None},
                    "events": [
                        {"t": 1.0, "kind": "CROSSES_SOLID", "agent": None},
                        {"t": 2.0, "kind": "COLLISION", "agent": tracks.ids[(ego + 1) % len(tracks.ids)]},
                    ],
                    "plans": [
                        {"t": 0.5 * k, "path": ahead[k : k + 4], "speed": [5.0] * 20}
                        for k in range(len(ahead) - 4)
                    ],
                    "log_ego": [None, *np.c_[tracks.position[ego, 1:, :2], tracks.heading[ego, 1:]].tolist()],
                }
            )
        ScenarioStore.create(place).append(simulated[: len(lines)])
        place.with_name(f"{place.name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "run.json").write_text(json.dumps({"schema": 1, "kind": "eval", "policies": list(POLICIES)}))


def _window(scenario: Scenario, aside: float, pace: float, start: int = 20, steps: int = 41) -> Scenario:
    from dataclasses import replace

    part = slice(start, start + steps)
    tracks, ego = scenario.tracks, scenario.ego.idx
    position = tracks.position[:, part].copy()
    first = position[ego, :1]
    position[ego] = first + (position[ego] - first) * pace
    left = np.stack([-np.sin(tracks.heading[ego, part]), np.cos(tracks.heading[ego, part])], 1)
    position[ego, :, :2] += aside * left
    velocity = tracks.velocity[:, part].copy()
    velocity[ego] *= pace
    return scenario.replace(
        scenario_id=f"{scenario.scenario_id}@{start}",
        tracks=replace(
            tracks,
            position=position,
            velocity=velocity,
            heading=tracks.heading[:, part],
            valid=tracks.valid[:, part],
        ),
        lights=replace(scenario.lights, state=scenario.lights.state[:, part]),
    )
