"""A small planner on a few generated logs."""

import dataclasses
import sys
from pathlib import Path

import jax
import pytest

from perlsim.bank_build import build_bank
from perlsim.readers.synthetic import generate
from planner.anchors import as_tuple
from planner.network import PlannerConfig
from planner.plans import PathShape
from planner.scenes import anchors_of, training_data
from world_model.encoder import NETWORKS

# Scenes made by hand are shared with the tests of the simulator.
sys.path.append(str(Path(__file__).resolve().parents[1] / "perlsim" / "sim"))

SHAPE = PathShape(steps=10)


@pytest.fixture(scope="session")
def host():
    return build_bank(list(generate(4, 2, ["merge", "unsignalised_junction"], duration=5.0)), max_agents=16)


@pytest.fixture(scope="session")
def planner(host):
    network = dataclasses.replace(NETWORKS["debug"], width=16, pool_width=8)
    return PlannerConfig(network=network, shape=SHAPE, anchors=as_tuple(anchors_of(host, SHAPE, 3)))


@pytest.fixture(scope="session")
def scenes(host):
    return training_data(host, SHAPE.steps, jax.random.key(4))
