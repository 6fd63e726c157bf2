"""Proposals, their choice and the emergency brake, in scenes made by hand."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import policy_scenes as made
import pytest

from perlsim.bank import Scene
from perlsim.bank_build import build_bank
from perlsim.policies import policy_of
from perlsim.policies.pdm_closed import PdmClosed, reference_progress
from perlsim.readers.synthetic import generate
from perlsim.sim.agents import LogAgents, agents_of
from perlsim.sim.core import SimConfig, init
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import Rollout, RolloutConfig, sample_episodes
from perlsim.sim.types import Event

START = 20


@functools.cache
def host():
    return made.built()


@jax.jit
def _choose(bank, idx):
    here = Scene(bank, idx)
    state = init(SimConfig(), LogAgents(), here, jnp.int32(START), jax.random.key(0))
    return PdmClosed().choose_at_start(here, state)


def choices(bank):
    return jax.vmap(_choose, (None, 0))(bank, jnp.arange(len(host()[0])))


@functools.cache
def chosen():
    names, built = host()
    found, policy = choices(built.bank), PdmClosed()
    return {
        name: SimpleNamespace(
            speed=np.asarray(found.speed[row]),
            poses=np.asarray(found.candidate[row]),
            emergency=bool(found.emergency[row]),
            offset=policy.offsets[int(found.number[row]) // len(policy.fractions)],
            fraction=policy.fractions[int(found.number[row]) % len(policy.fractions)],
        )
        for row, name in enumerate(names)
    }


def test_on_a_free_road_it_drives_in_the_middle_at_the_limit():
    free = chosen()["free"]
    assert (free.offset, free.fraction) == (0.0, 1.0)
    assert not free.emergency


def test_it_passes_a_car_that_stands_half_in_its_lane_beside_it():
    passed = chosen()["half in"]
    assert passed.offset == 1.0
    assert passed.speed.min() > 5.0
    assert not passed.emergency


def test_it_stops_behind_a_car_that_blocks_the_lane():
    # 46 m ahead of the front at 2 s; the plan's 4 s bring it near.
    stops = chosen()["standing"]
    assert stops.poses[-1, 0] < 70.0 - 20.0 - made.CAR[0] - 1.0
    assert stops.speed[-1] < 6.0


def test_it_brakes_with_all_it_has_where_even_the_best_proposal_collides_soon():
    assert not chosen()["standing"].emergency
    sudden = chosen()["sudden"]
    assert sudden.emergency
    np.testing.assert_allclose(sudden.speed[:11], 10.0 - 6.0 * 0.1 * np.arange(11), atol=1e-3)


def test_it_does_not_read_the_future_of_the_log():
    built = host()[1]
    before, after = choices(built.bank), choices(made.changed_future(built, START))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert not np.array_equal(before.candidate, choices(made.changed_future(built, START - 1)).candidate)


@pytest.mark.slow
def test_its_progress_is_the_reference_and_counts_for_nothing_in_a_collision():
    names, built = host()

    @jax.jit
    def reference(bank, idx):
        return reference_progress(PdmClosed(), Scene(bank, idx), jnp.int32(START), jax.random.key(0))

    found = jax.vmap(reference, (None, 0))(built.bank, jnp.arange(len(names)))
    progress = dict(zip(names, np.asarray(found), strict=True))
    # The tracker lags behind the proposal.
    assert progress["free"] == pytest.approx(chosen()["free"].poses[-1, 0], abs=3.0)
    assert progress["sudden"] == 0.0


@pytest.mark.slow
def test_the_better_baseline_has_fewer_collisions_of_its_own_fault_in_closed_loop():
    built = build_bank(list(generate(48, 11)), observed_pieces=None, agent_paths=True)
    faults = {}
    for name in ("constant_velocity", "idm_route", "pdm_closed"):
        run = Rollout(RolloutConfig(horizon=80), agents_of("idm"), policy_of(name), jax.devices()[:1])
        episodes = sample_episodes(built, 48, 80, 0, replayed=False)
        result = run(run.put(built.bank), episodes, reward_of("perlad"))
        faults[name] = int((np.asarray(result.happened) & int(Event.AT_FAULT) > 0).sum())
    assert faults["constant_velocity"] > 2 * faults["idm_route"]
    assert faults["pdm_closed"] <= faults["idm_route"] + 1
