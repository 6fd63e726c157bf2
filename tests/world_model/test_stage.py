import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.errors import PerlsimError
from world_model.data import starts_of
from world_model.model import WorldModelConfig
from world_model.stage import WorldModelSettings, WorldModelStage


@pytest.fixture(scope="module")
def stage(network, host):
    settings = WorldModelSettings(num_updates=20, batch_size=4, learning_rate=3e-3)
    return WorldModelStage(WorldModelConfig(network=network), [host.bank], settings, host.bank)


def test_starts_leave_room_for_the_future(host):
    starts = starts_of(host.bank)
    assert len(starts.step) > 50
    assert (starts.step + 30 < np.asarray(host.bank.num_steps)[starts.scenario_idx]).all()


def test_a_sample_depends_on_its_number_alone_and_training_lowers_the_loss(stage):
    data = jax.device_put(stage.data())
    params = jax.jit(stage.init)(jax.random.key(0))
    state = stage.optimiser.init(params)

    @jax.jit
    def step(params, state, samples, update):
        (loss, metrics), gradient = jax.value_and_grad(stage.loss, has_aux=True)(
            params, data, samples, update
        )
        change, state = stage.optimiser.update(gradient, state, params)
        return jax.tree.map(jnp.add, params, change), state, loss, metrics

    numbers = jnp.arange(4, dtype=jnp.int32)
    first = step(params, state, numbers, jnp.int32(0))
    turned = step(params, state, numbers[::-1], jnp.int32(0))
    np.testing.assert_allclose(first[2], turned[2], rtol=1e-5)
    assert step(params, state, numbers + 4, jnp.int32(0))[2] != first[2]
    losses = []
    for update in range(20):
        params, state, loss, metrics = step(params, state, numbers, jnp.int32(update))
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    assert np.isfinite(losses).all() and {"min_ade", "regression"} <= metrics.keys()
    assert step._cache_size() == 1


def test_a_bank_without_room_for_a_future_is_refused(network):
    from perlsim.bank_build import build_bank
    from perlsim.readers.synthetic import generate

    short = build_bank(list(generate(1, 0, duration=2.0)), observed_pieces=network.observed_pieces)
    with pytest.raises(PerlsimError, match="3 s"):
        WorldModelStage(WorldModelConfig(network=network), [short.bank])
