"""A log format for tests: JSON files that say which made-up scenes they hold and how reading them goes wrong.

Run as a script, it is the perlsim command line with this format registered.
"""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np

from perlsim.errors import FormatError
from perlsim.readers import FORMATS, Format
from perlsim.scenario import Ego, Lanes, Lights, Ragged, Road, Route, Scenario, Tracks

FAKE = Format("fake", "fake_logs", "made-up logs", (".fake", ""))


def make_scenario(seed=0, *, agents=12, steps=60, dt=0.1, speed=None, turn_rate=0.0, **changes) -> Scenario:
    """Road users on arcs; the ego is the first, at the origin, heading along x at the first step."""
    rng = np.random.default_rng(seed)
    speeds = rng.uniform(2, 15, agents)
    headings = rng.uniform(-3, 3, agents)
    rates = rng.normal(0, 0.1, agents)
    starts = rng.uniform(-40, 40, (agents, 2))
    speeds[0] = speeds[0] if speed is None else speed
    headings[0], rates[0], starts[0] = 0.0, turn_rate, 0.0
    time_ = np.arange(steps) * dt
    heading = headings[:, None] + rates[:, None] * time_
    velocity = speeds[:, None, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    xy = starts[:, None] + np.cumsum(velocity, 1) * dt
    xy -= xy[:, :1] - starts[:, None]
    position = np.concatenate([xy, np.zeros((agents, steps, 1))], -1)
    tracks = Tracks(
        position.astype(np.float32),
        ((heading + np.pi) % (2 * np.pi) - np.pi).astype(np.float32),
        velocity.astype(np.float32),
        np.tile(np.array([4.5, 1.9, 1.6], np.float32), (agents, 1)),
        np.ones(agents, np.int8),
        np.ones((agents, steps), bool),
        tuple(f"agent {k}" for k in range(agents)),
    )
    scenario = Scenario(f"scene-{seed}", "fake", dt, tracks, ego=Ego(0, 2.7, 1.3), dataset="made-up")
    return scenario.replace(**changes)


def two_lanes(length=100.0) -> Lanes:
    """Two parallel lanes along x, the second to the left of the first; a third continues the first."""
    x = np.linspace(0, length, 11)
    lines = [
        np.stack([x + dx, np.full(11, y), np.zeros(11)], -1) for dx, y in ((0, 0), (0, 3.5), (length, 0))
    ]
    return Lanes(
        centre=Ragged.from_rows(lines, width=3, dtype=np.float32),
        width=np.full(33, 3.5, np.float32),
        kind=np.ones(3, np.int8),
        speed_limit=np.full(3, np.nan, np.float32),
        in_junction=np.zeros(3, bool),
        successors=Ragged.from_rows([[2], [], []], dtype=np.int32),
        left=Ragged.from_rows([[1], [], []], dtype=np.int32),
        right=Ragged.from_rows([[], [0], []], dtype=np.int32),
        ids=("a", "b", "c"),
    )


def with_road(scenario: Scenario, **lights) -> Scenario:
    """The scenario with `two_lanes`, one traffic light and a route."""
    steps = scenario.tracks.num_steps
    return scenario.replace(
        road=Road(two_lanes()),
        lights=Lights(
            np.zeros((1, 3), np.float32),
            np.zeros(1, np.float32),
            np.zeros(1, np.int32),
            np.full((1, steps), lights.get("state", 3), np.int8),
        ),
        route=Route(np.array([[0, 0, 0], [50, 0, 0]], np.float32), np.zeros(2, np.int32)),
    )


def write_log(path: Path, seeds, **content) -> Path:
    """A log with a scene for each seed; other keys see `read`."""
    path.write_text(json.dumps({"kind": "fake", "seeds": list(seeds), **content}))
    return path


def sniff(path: Path) -> bool:
    if path.is_dir():
        return (path / "log.marker").exists()
    return path.read_bytes()[:16] == b'{"kind": "fake",'


def read(path: Path, options):
    content = json.loads(path.read_text()) if path.is_file() else {"seeds": [777]}
    for number, seed in enumerate(content["seeds"]):
        time.sleep(content.get("sleep", 0))
        if content.get("fails_at") == number:
            raise FormatError("the scene is broken", file=path, field=f"seeds[{number}]")
        if content.get("bug_at") == number:
            raise ZeroDivisionError("a bug")
        while content.get("hangs_at") == number:
            pass
        if content.get("dies_at") == number:
            os.kill(os.getpid(), signal.SIGKILL)
        yield make_scenario(
            seed,
            recording_id=content.get("recording", f"recording-{seed}"),
            source_file=path.name,
            repairs=tuple(content.get("repairs", ())),
        )


if __name__ == "__main__":
    from perlsim.store import writer

    writer.COMMIT_SECONDS = 0.1  # many shards, so that a kill finds the writer at every stage
    from perlsim.cli import main

    FORMATS["fake"] = FAKE
    main()
