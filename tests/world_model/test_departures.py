import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import VALID, VX, Scene, X, Y
from perlsim.sim.idm import IdmAgents
from world_model.departures import KINDS, Departure, departed, departed_ego, draw_departure, logged_ego

START = 20


@pytest.fixture(scope="module")
def scene(bank):
    return Scene(bank, jnp.int32(0))


def departure(kind: str, factor=1.0, cap=jnp.inf, shift=0.0) -> Departure:
    values = (KINDS.index(kind), 5.0, factor, cap, shift, 1.5, 0.0)
    return Departure(*(jnp.float32(value) for value in values))


def speeds(poses, scene) -> np.ndarray:
    first = scene.agents_at(START)[:2, 0]
    places = np.concatenate([np.asarray(first)[None], np.asarray(poses)[:, :2]])
    return np.hypot(*np.diff(places, axis=0).T) / 0.1


def test_an_ego_that_does_not_depart_follows_its_log(scene):
    same = departed_ego(scene, jnp.int32(START), departure("shifts"), 30)
    logged = logged_ego(scene, jnp.int32(START), 30)
    np.testing.assert_allclose(same[:, :2], logged[:, :2], atol=0.3)


def test_a_stopping_ego_brakes_as_hard_as_told_and_stands(scene):
    poses = departed_ego(scene, jnp.int32(START), departure("stops", factor=0.0), 40)
    driven = speeds(poses, scene)
    begin = float(scene.bank.log_speed[0, START])
    assert begin > 2.0
    np.testing.assert_allclose(driven[2], begin - 5.0 * 0.25, atol=0.15)
    assert driven[-1] < 1e-3


def test_a_creeping_ego_keeps_to_its_cap(scene):
    driven = speeds(departed_ego(scene, jnp.int32(START), departure("creeps", cap=1.0), 40), scene)
    assert driven[-1] < 1.05 and driven[0] > 1.5


def test_a_shifted_ego_ends_beside_its_path_without_sliding(scene):
    poses = np.asarray(departed_ego(scene, jnp.int32(START), departure("shifts", shift=2.0), 40))
    straight = np.asarray(departed_ego(scene, jnp.int32(START), departure("shifts"), 40))
    assert abs(np.hypot(*(poses - straight)[-1, :2]) - 2.0) < 0.1
    dx, dy = np.diff(poses[:, :2], axis=0).T
    turn = np.arctan2(dy, dx) - poses[1:, 2]
    moving = np.hypot(dx, dy) > 0.2
    assert np.abs(np.arctan2(np.sin(turn), np.cos(turn)))[moving].max() < 0.15


def test_draws_are_of_all_kinds_and_within_their_ranges():
    drawn = jax.vmap(draw_departure)(jax.random.split(jax.random.key(0), 200))
    assert set(np.asarray(drawn.kind)) == set(range(len(KINDS)))
    assert (np.asarray(drawn.deceleration) <= 7.0).all() and (np.asarray(drawn.deceleration) >= 3.0).all()
    assert (np.asarray(drawn.shift)[np.asarray(drawn.kind) != KINDS.index("shifts")] == 0).all()


def test_a_departed_bank_keeps_the_past_and_changes_the_future(host):
    bank = departed(host, IdmAgents(), seed=3)
    assert bank.tracks.shape == host.bank.tracks.shape
    np.testing.assert_array_equal(bank.tracks[:, :5], host.bank.tracks[:, :5])
    ego = np.hypot(*(bank.tracks - host.bank.tracks)[:, :, X : Y + 1, 0].transpose(2, 0, 1))
    assert (ego[:, -1] > 1.0).all()
    np.testing.assert_array_equal(bank.tracks[:, :, VALID], host.bank.tracks[:, :, VALID])
    assert np.isfinite(bank.tracks).all() and bank.log_speed.min() >= 0
    assert np.abs(bank.tracks[:, :, VX]).max() < 40.0
