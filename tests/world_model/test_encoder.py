import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.errors import PerlsimError
from world_model.encoder import NETWORKS, SceneEncoder, network_of, nothing_seen


@pytest.fixture(scope="module")
def encoder(network):
    module = SceneEncoder(network)
    params = jax.jit(module.init)(jax.random.key(1), nothing_seen(network))
    return jax.jit(module.apply), params


def test_tokens_cover_every_element_and_only_valid_ones_are_not_zero(encoder, network, sample):
    apply, params = encoder
    tokens = apply(params, sample.seen)
    lanes, boundaries = network.observed_pieces
    assert tokens.tokens.shape == (2 + 8 + lanes + boundaries + 8, network.width)
    assert tokens.valid.sum() > 10
    assert not np.asarray(tokens.tokens)[~np.asarray(tokens.valid)].any()
    np.testing.assert_array_equal(tokens.agents, tokens.tokens[2:10])


def test_what_padding_holds_changes_nothing(encoder, sample):
    apply, params = encoder
    seen = sample.seen
    dirty = seen._replace(
        lanes=jnp.where(seen.lanes_valid[:, None], seen.lanes, 7.0),
        agents=jnp.where(seen.agents_valid[:, None], seen.agents, 3.0),
        past=jnp.where(seen.past_valid[..., None], seen.past, -5.0),
        stop_lines=jnp.where(seen.stop_lines_valid[:, None], seen.stop_lines, 2.0),
        boundaries=jnp.where(seen.boundaries_valid[:, None], seen.boundaries, 4.0),
    )
    assert not jax.tree.all(jax.tree.map(lambda a, b: jnp.array_equal(a, b), seen, dirty))
    for clean, other in zip(apply(params, seen), apply(params, dirty), strict=True):
        np.testing.assert_allclose(clean, other, atol=1e-5)


def test_road_users_in_another_order_give_their_tokens_in_that_order(encoder, sample):
    apply, params = encoder
    order = jnp.array([3, 1, 0, 2, 7, 6, 5, 4])
    fields = ("agents", "agents_valid", "past", "past_valid")
    shuffled = sample.seen._replace(**{name: getattr(sample.seen, name)[order] for name in fields})
    np.testing.assert_allclose(
        apply(params, shuffled).agents, apply(params, sample.seen).agents[order], atol=2e-5
    )


def test_an_empty_scene_has_finite_tokens_and_gradients(encoder, network):
    apply, params = encoder
    empty = nothing_seen(network)

    def total(params):
        return sum(jnp.sum(part.astype(jnp.float32) ** 2) for part in apply(params, empty))

    value, gradient = jax.value_and_grad(total)(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_sizes_are_those_that_the_names_promise():
    small, base = NETWORKS["small"], NETWORKS["base"]
    assert small.observation.num_agents == 32 and small.lane_pieces == 64
    assert base.observation.num_agents == 50 and base.lane_pieces >= 100
    for network in NETWORKS.values():
        assert network.width % network.heads == 0
    with pytest.raises(PerlsimError, match="smal"):
        network_of("smal")
