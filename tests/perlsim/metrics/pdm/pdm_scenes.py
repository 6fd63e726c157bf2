"""Hand-built scenes for the PDM scorer, in one bank, so that all share one compiled program.

Two lanes along x (y = 0 and 3.5) and one against it (y = 7), drivable from y = −2 to 9; the ego is 4.5 m × 2 m,
centre 1.35 m ahead of its rear axle, and drives at 5 m/s along x for 1.5 s before the start at the origin.
"""

from types import SimpleNamespace

import numpy as np

from perlsim.bank_build import build_bank
from perlsim.metrics.pdm import PdmConfig, PdmScorer
from perlsim.scenario import Ego, Lanes, Lights, Markings, Ragged, Road, Route, Scenario, Tracks
from perlsim.vocabulary import AgentType, LightState

START, STEPS, HORIZON, SPEED = 15, 60, 40, 5.0


def mover(x=0.0, y=0.0, heading=0.0, speed=0.0, *, drift=None, kind=AgentType.VEHICLE, size=(4.5, 2.0, 1.6)):
    """A road user of constant velocity that is at (x, y) at the start."""
    velocity = np.array(drift if drift is not None else (speed * np.cos(heading), speed * np.sin(heading)))
    place = np.array([x, y]) + (np.arange(STEPS)[:, None] - START) * 0.1 * velocity
    return place, heading, velocity, kind, size


def _lines(*rows):
    return Ragged.from_rows([np.array(row, float) for row in rows], width=3, dtype=np.float32)


def road(*, lanes=True, edges=True, junction=False):
    along = [[-100, 0, 0], [200, 0, 0]], [[-100, 3.5, 0], [200, 3.5, 0]], [[200, 7, 0], [-100, 7, 0]]
    nobody = Ragged.from_rows([[] for _ in along], dtype=np.int32)
    given = Lanes(
        centre=_lines(*along),
        width=np.full(6, 3.5, np.float32),
        kind=np.ones(3, np.int8),
        speed_limit=np.full(3, np.nan, np.float32),
        in_junction=np.full(3, junction),
        successors=nobody,
        left=nobody,
        right=nobody,
        ids=("0", "1", "2"),
    )
    borders = [[-100, -2, 0], [200, -2, 0]], [[200, 9, 0], [-100, 9, 0]]
    return Road(
        lanes=given if lanes else Lanes(),
        markings=Markings(),
        edges=_lines(*borders) if edges else Ragged.from_rows([], width=3, dtype=np.float32),
    )


def scene(name, *others, ego=None, state=None, light_x=12.0, **changes):
    """A scenario with the ego first; a light of one state over lane 0 where ``state`` is given."""
    movers = [ego or mover(speed=SPEED), *others]
    tracks = Tracks(
        position=np.array([np.column_stack([m[0], np.zeros(STEPS)]) for m in movers], np.float32),
        heading=np.array([np.full(STEPS, m[1]) for m in movers], np.float32),
        velocity=np.array([np.tile(m[2], (STEPS, 1)) for m in movers], np.float32),
        size=np.array([m[4] for m in movers], np.float32),
        kind=np.array([int(m[3]) for m in movers], np.int8),
        valid=np.ones((len(movers), STEPS), bool),
        ids=tuple(str(k) for k in range(len(movers))),
    )
    count = 0 if state is None else 1
    lights = Lights(
        np.array([[light_x, 0, 0]], np.float32)[:count],
        np.zeros(count, np.float32),
        np.zeros(count, np.int32),
        np.full((count, STEPS), int(state or LightState.UNKNOWN), np.int8),
    )
    return Scenario(
        name,
        "made",
        0.1,
        tracks,
        ego=Ego(0, 2.7, 1.35),
        road=road(**changes),
        lights=lights,
        route=Route(np.array([[-50, 0, 0], [150, 0, 0]], np.float32), np.full(2, -1, np.int32)),
    ).validate()


def straight(speed=SPEED, *, acceleration=0.0, aside=0.0, until=None):
    """A candidate straight on, ``[40, 3]``; it stops dead ``until`` s after the start, or never."""
    times = 0.1 * np.arange(1, HORIZON + 1)
    times = times if until is None else np.minimum(times, until)
    x = speed * times + acceleration * times**2 / 2
    return np.stack([x, np.broadcast_to(aside, x.shape), np.zeros(HORIZON)], 1).astype(np.float32)


class Bench:
    """Scores of candidates in named scenes."""

    def __init__(self, scenes, config=None, chunk=None):
        self.names = [made.scenario_id for made in scenes]
        self.scenes = dict(zip(self.names, scenes, strict=True))
        host = build_bank(scenes, observed_pieces=None)
        self.host, self.scorer = host, PdmScorer(config or PdmConfig(tracker="none"), chunk=chunk)
        self.bank = self.scorer.put(host.bank)

    def __call__(self, name, *plans, start=START, **inputs):
        """Scores ``[N]`` of plans in one scene; two plans at a time are scored, so that programs are shared."""
        rows = [plans[min(k, len(plans) - 1)] for k in range(2 * -(-len(plans) // 2))]
        pairs = np.array(rows, np.float32).reshape(-1, 2, HORIZON, 3)
        count = len(pairs)
        index = np.full(count, self.names.index(name), np.int32)
        starts = SimpleNamespace(scenario_idx=index, start=np.full(count, start, np.int32))
        score = self.scorer(self.bank, starts, pairs, **inputs)
        parts = {key: np.asarray(value) for key, value in score._asdict().items()}
        merged = {key: value.reshape(-1, *value.shape[2:])[: len(plans)] for key, value in parts.items()}
        return type(score)(**merged)
