"""Two CPU devices, set up before the first use of jax, and a few scenes to predict."""

import jax
import pytest

from perlsim import backend

backend.setup(2)


@pytest.fixture(scope="session")
def network():
    from world_model.encoder import network_of

    return network_of("debug")


@pytest.fixture(scope="session")
def host(network):
    """A bank of two embedded logs."""
    from perlsim.bank_build import build_bank
    from perlsim.readers.synthetic import generate

    logs = list(generate(2, 5, ("multi_lane", "signalised_junction"), duration=8.0))
    return build_bank(logs, max_agents=16, observed_pieces=network.observed_pieces, agent_paths=True)


@pytest.fixture(scope="session")
def bank(host):
    return jax.device_put(host.bank)


@pytest.fixture(scope="session")
def model(network):
    from world_model.model import WorldModel, WorldModelConfig

    return WorldModel(WorldModelConfig(network=network))


@pytest.fixture(scope="session")
def params(model):
    return jax.jit(model.init)(jax.random.key(0))


@pytest.fixture(scope="session")
def sample(network, bank):
    """The first scene at 2 s."""
    from functools import partial

    import jax.numpy as jnp

    from perlsim.bank import Scene
    from world_model.data import NO_AUGMENTATION, sample_at

    draw = jax.jit(partial(sample_at, network.observation, NO_AUGMENTATION))
    return draw(Scene(bank, jnp.int32(0)), jnp.int32(20), jax.random.key(0))
