"""Runs models of road users in scenes made by hand, beside an ego that brakes or keeps its speed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import STEP, VALID, VX, VY, Scene
from perlsim.bank_build import build_bank
from perlsim.geometry.boxes import box_gap
from perlsim.sim.core import SimConfig, init, with_ego
from perlsim.sim.idm import IdmAgents

LONG = 151
EGO_BRAKING = 6.0


def bank_of(*scenarios, **options):
    return build_bank(scenarios, observed_pieces=None, agent_paths=True, **options)


@jax.jit
def _run(agents, bank, target_speed):
    scene = Scene(bank, jnp.int32(0))
    state = init(SimConfig(), agents, scene, jnp.int32(0), jax.random.key(3))

    def one(state, _):
        memory, rows = agents.act(state.memory, scene, state, None, jax.random.fold_in(state.key, state.step))
        ego = state.ego
        speed = jnp.maximum(jnp.minimum(ego.speed, target_speed), ego.speed - EGO_BRAKING * STEP)
        ego = ego._replace(x=ego.x + speed * STEP * ego.cos, y=ego.y + speed * STEP * ego.sin, speed=speed)
        state = replace(state, ego=ego, agents=rows, memory=memory, step=state.step + 1)
        rows = with_ego(state)
        boxes = scene.agent_boxes(rows)
        gap = box_gap(jax.tree.map(lambda part: part[0], boxes), boxes)
        hit = (gap < 0) & (rows[VALID] > 0) & (jnp.arange(len(gap)) > 0)
        return state, (rows, hit)

    return jax.lax.scan(one, state, None, length=LONG - 1)[1]


def run(scenario, *, steps=100, ego_speed=0.0, agents=None):
    """Rows ``[steps, 8, A]`` with the ego in slot 0, and whom the ego overlaps ``[steps, A]``.

    The ego goes straight on and brakes by 6 m/s² until it has the wanted speed.
    """
    bank = scenario if hasattr(scenario, "info") else bank_of(scenario)
    agents = IdmAgents() if agents is None else agents
    rows, hit = _run(agents, bank.bank, jnp.float32(ego_speed))
    return np.asarray(rows)[:steps], np.asarray(hit)[:steps]


def num_traces():
    return _run._cache_size()


def speeds(rows):
    return np.hypot(rows[:, VX], rows[:, VY])


def present(rows):
    return rows[:, VALID] > 0
