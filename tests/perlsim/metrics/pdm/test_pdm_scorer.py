"""The scorer as a program: batches, chunks, inputs and rewards."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from perlsim.errors import PerlsimError
from perlsim.metrics.pdm import PdmConfig, PdmScorer, every_step
from perlsim.readers.synthetic import generate
from perlsim.sim.rollout import sample_episodes


@pytest.fixture(scope="module")
def crowd():
    """Bank, starts and random candidates of generated scenes, with their scores."""
    from perlsim.bank_build import build_bank

    host = build_bank(list(generate(3, 5)), max_agents=16, observed_pieces=None)
    starts = sample_episodes(host, 6, 40, 1)
    random = np.random.default_rng(2)
    speed, bend = random.uniform(0, 12, (6, 4, 1)), random.normal(0, 0.03, (6, 4, 1))
    arc = speed * 0.1 * np.arange(1, 41)
    plans = np.stack([arc, bend * arc**2 / 2, bend * arc], -1).astype(np.float32)
    scorer = PdmScorer()
    return scorer, scorer.put(host.bank), starts, plans


def same(first, second):
    for name, a, b in zip(first._fields, first, second, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-5, atol=2e-4, err_msg=name)


def picked(starts, rows):
    return SimpleNamespace(scenario_idx=starts.scenario_idx[rows], start=starts.start[rows])


def test_a_score_does_not_depend_on_the_other_candidates_or_scenes(crowd):
    scorer, bank, starts, plans = crowd
    whole = scorer(bank, starts, plans)
    assert 0 < np.asarray(whole.no_at_fault_collisions).mean() <= 1
    shuffled = scorer(bank, starts, plans[:, ::-1])
    same(whole, jax.tree.map(lambda leaf: leaf[:, ::-1], shuffled))
    rows = np.array([4, 0, 0, 2, 5, 1])
    same(jax.tree.map(lambda leaf: leaf[rows], whole), scorer(bank, picked(starts, rows), plans[rows]))
    others = plans.copy()
    others[:, 1:] = 0
    others[:, 3] = np.nan
    mixed = scorer(bank, starts, others)
    assert np.isnan(np.asarray(mixed.no_at_fault_collisions)[:, 3]).all()
    same(jax.tree.map(lambda leaf: leaf[:, 0], whole), jax.tree.map(lambda leaf: leaf[:, 0], mixed))
    assert scorer.num_traces == 1


def test_scenes_that_do_not_fill_the_devices_are_scored_alike(crowd):
    scorer, bank, starts, plans = crowd
    fewer = scorer(bank, picked(starts, np.arange(5)), plans[:5])
    assert fewer.pdms.shape == (5, 4)
    same(jax.tree.map(lambda leaf: leaf[:5], scorer(bank, starts, plans)), fewer)


@pytest.mark.slow
def test_chunks_change_nothing(crowd):
    scorer, bank, starts, plans = crowd
    chunked = PdmScorer(devices=jax.devices()[:1], chunk=3)
    same(scorer(bank, starts, plans), chunked(chunked.put(jax.tree.map(np.asarray, bank)), starts, plans))


def test_candidates_of_half_a_second_are_filled_in(crowd):
    coarse = np.array([[2.5, 0, 0], [5, 0.5, 0.2], [7.5, 1.5, -3.1], [10, 2, 3.1]], np.float32)
    fine = np.asarray(every_step(coarse))
    assert fine.shape == (20, 3)
    np.testing.assert_allclose(fine[4::5, :2], coarse[:, :2], atol=1e-6)
    np.testing.assert_allclose(fine[0], [0.5, 0, 0], atol=1e-6)
    assert np.abs(np.diff(fine[:, 2])).max() < 0.7


def test_wrong_shapes_and_names_are_refused_by_name(crowd):
    scorer, bank, starts, plans = crowd
    with pytest.raises(PerlsimError, match="candidates"):
        scorer(bank, starts, plans[:2])
    with pytest.raises(PerlsimError, match="too short"):
        scorer(bank, starts, plans[:, :, :8])
    with pytest.raises(PerlsimError, match="unknown tracker"):
        PdmScorer(PdmConfig(tracker="mpc"))
