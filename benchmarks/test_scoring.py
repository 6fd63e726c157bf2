"""Speed of scoring candidate trajectories; run with ``pytest benchmarks/test_scoring.py --benchmark [--store STORE]``.

64 candidates a scene of 40 steps among 40 road users: the log's own trajectory, slower, faster and bent. Beside the
speed stands the agreement with the plain reference of the tests on a sample.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from perlsim.bank_build import build_bank
from perlsim.metrics.pdm import PdmConfig, PdmScorer
from perlsim.sim.rollout import sample_episodes

NUM_SCENES, NUM_CANDIDATES, NUM_AGENTS, TARGET = 512, 64, 40, 40_000
REFERENCE_PROGRESS = 20.0
_REFERENCE = Path(__file__).parents[1] / "tests" / "perlsim" / "metrics" / "pdm"


def logged_plans(host, starts, horizon=40) -> np.ndarray:
    """What the egos of the log drove from each start on, ``[B, H, 3]`` in the rear axle's frame."""
    bank, rows = host.bank, []
    for scenario, start in zip(starts.scenario_idx, starts.start, strict=True):
        steps = np.minimum(start + np.arange(horizon + 1), np.asarray(bank.num_steps)[scenario] - 1)
        ego = np.asarray(bank.tracks)[scenario, steps, :, 0].astype(float)
        rear = ego[:, :2] - np.asarray(bank.chassis)[scenario, 1] * ego[:, 3:5]
        cos, sin = ego[0, 3], ego[0, 4]
        local = (rear - rear[0]) @ np.array([[cos, -sin], [sin, cos]])
        turn = np.arctan2(ego[:, 4] * cos - ego[:, 3] * sin, ego[:, 3] * cos + ego[:, 4] * sin)
        rows.append(np.column_stack([local, turn])[1:])
    return np.array(rows, np.float32)


def candidates_of(plans: np.ndarray, seed: int) -> np.ndarray:
    """64 variants of each plan ``[B, N, H, 3]``: the first is the plan itself."""
    random = np.random.default_rng(seed)
    shape = (len(plans), NUM_CANDIDATES, 1)
    along, bend = random.uniform(0.3, 1.4, shape), random.normal(0, 0.01, shape)
    along[:, 0], bend[:, 0] = 1.0, 0.0
    x, y = plans[:, None, :, 0] * along, plans[:, None, :, 1] * along
    heading = plans[:, None, :, 2] + bend * x
    return np.stack([x, y + bend * x**2 / 2, heading], -1).astype(np.float32)


def agreement(scenarios, starts, candidates, score, rows=12, columns=(0, 17, 40)) -> float:
    """Share of sub-scores that the reference, one scene at a time, gives as well."""
    sys.path.insert(0, str(_REFERENCE))
    from pdm_reference import reference_score  # pyright: ignore[reportMissingImports]

    same = []
    for row in range(rows):
        scenario, start = scenarios[starts.scenario_idx[row]], int(starts.start[row])
        for column in columns:
            expected, _ = reference_score(
                scenario.replace(dt=0.1), start, candidates[row, column], reference=REFERENCE_PROGRESS
            )
            for name in ("progress", "epdms", "ego_progress"):
                expected.pop(name)
            for name, value in expected.items():
                got = float(np.asarray(getattr(score, name))[row, column])
                tolerance = 0.005 if name == "pdms" else 1e-4
                unknown = value is None or np.isnan(got)
                same.append(value is None if np.isnan(got) else not unknown and abs(value - got) < tolerance)
    return float(np.mean(same))


@pytest.mark.parametrize("extended", [False, True], ids=["pdms", "epdms"])
def test_scoring_of_candidates(benchmark, record, scenarios, extended):
    usable = [s for s in scenarios if abs(s.dt - 0.1) < 1e-3 and s.duration > 4.5]
    host = build_bank(usable, max_agents=NUM_AGENTS, observed_pieces=None)
    starts = sample_episodes(host, NUM_SCENES, 40, 0)
    candidates = candidates_of(logged_plans(host, starts), 0)
    scorer = PdmScorer(PdmConfig(extended=extended))
    bank, reference = scorer.put(host.bank), np.full(NUM_SCENES, REFERENCE_PROGRESS, np.float32)
    on_device = jax.device_put(candidates)

    def run():
        return jax.block_until_ready(scorer(bank, starts, on_device, reference))

    benchmark.pedantic(run, rounds=7, iterations=1, warmup_rounds=1)
    speed = NUM_SCENES * NUM_CANDIDATES / benchmark.stats.stats.median
    score = run()
    shares = {} if not extended else {"agreement": agreement(usable, starts, candidates, score)}
    record(
        candidates_per_s=speed,
        target=float(TARGET),
        reached=bool(speed >= TARGET),
        agents=host.info.num_agents,
        scenarios=len(usable),
        mean_pdms=float(np.nanmean(np.asarray(score.pdms))),
        **shares,
    )
    assert scorer.num_traces == 1
