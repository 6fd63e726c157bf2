"""Whole trajectories of policies, in the frame of the rear axle."""

import jax
import jax.numpy as jnp
import numpy as np
import policy_scenes as made
import pytest
from made_scenes import lanes_of, road_of, scene

from perlsim.bank import Scene
from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.policies import policy_of
from perlsim.policies.proposals import PROPOSED_STEPS, proposal_of, propose_from_plan
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init
from perlsim.sim.types import Plan

# Box centres of made scenes lie so far ahead of the rear axle [m].
TO_CENTRE = 1.35
RADIUS, SPEED, START = 20.0, 6.0, 10


def circling():
    """An ego whose rear axle drives a left circle round (0, 20) from the origin, in a town of its own direction."""
    turned = 0.1 * SPEED / RADIUS * np.arange(made.STEPS)
    one = made.car(speed=SPEED)
    rear = np.column_stack([RADIUS * np.sin(turned), RADIUS * (1 - np.cos(turned)), 0 * turned])
    one["position"] = rear + TO_CENTRE * np.column_stack([np.cos(turned), np.sin(turned), 0 * turned])
    one["heading"] = (turned + np.pi) % (2 * np.pi) - np.pi
    one["velocity"] = SPEED * np.column_stack([np.cos(turned), np.sin(turned)])
    return scene("circle", one, road=road_of(lanes_of(made.line(-40, 0, 60, 0))))


def proposal(policy, scenario, start):
    bank = jax.device_put(build_bank([scenario], observed_pieces=None).bank)

    @jax.jit
    def of(bank):
        here = Scene(bank, jnp.int32(0))
        state = init(SimConfig(), LogAgents(), here, jnp.int32(start), jax.random.key(0))
        return proposal_of(policy, here, state, jax.random.key(0))

    return np.asarray(of(bank))


def test_log_replay_proposes_the_logged_poses_of_the_rear_axle():
    found = proposal(policy_of("log_replay"), circling(), START)
    turned = 0.1 * SPEED / RADIUS * np.arange(1, PROPOSED_STEPS + 1)
    expected = np.column_stack([RADIUS * np.sin(turned), RADIUS * (1 - np.cos(turned)), turned])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_where_the_log_ends_its_last_pose_holds():
    found = proposal(policy_of("log_replay"), circling(), made.STEPS - 11)
    np.testing.assert_allclose(found[10:], np.repeat(found[9:10], 30, 0), atol=1e-5)
    assert found[9, 0] > found[8, 0]


def test_constant_velocity_proposes_a_straight_line_at_the_present_speed():
    found = proposal(policy_of("constant_velocity"), circling(), START)
    np.testing.assert_allclose(found[:, 0], 0.1 * SPEED * np.arange(1, PROPOSED_STEPS + 1), rtol=1e-5)
    np.testing.assert_array_equal(found[:, 1:], 0.0)


def planned(path, spacing, speed):
    bank = build_bank([scene("plan", made.car(speed=5.0))], observed_pieces=None).bank
    plan = Plan.ahead(jnp.asarray(path, jnp.float32), spacing, jnp.asarray(speed, jnp.float32))
    return np.asarray(jax.jit(propose_from_plan)(Scene(jax.device_put(bank), jnp.int32(0)), plan))


def test_a_plan_becomes_a_trajectory_with_its_speeds_the_last_of_which_holds():
    path = np.column_stack([np.arange(8.0), np.zeros(8)])
    found = planned(path, 1.0, [2.0] * 10 + [4.0] * 10)
    np.testing.assert_allclose(found[[9, 19, 39], 0], [2.0, 6.0, 14.0], atol=1e-4)
    np.testing.assert_allclose(found[:, 1:], 0.0, atol=1e-6)


def test_on_a_curved_plan_the_rear_axle_trails_the_box_centre():
    turned = np.arange(30) / RADIUS
    path = np.column_stack([RADIUS * np.sin(turned), RADIUS * (1 - np.cos(turned))])
    found = planned(path, 1.0, [5.0] * 20)
    centre = found[:, :2] + TO_CENTRE * np.column_stack([np.cos(found[:, 2]), np.sin(found[:, 2])])
    radius = np.hypot(centre[:, 0] - TO_CENTRE, centre[:, 1] - RADIUS)
    np.testing.assert_allclose(radius, RADIUS, atol=0.02)
    np.testing.assert_allclose(found[:, 2], 0.5 / RADIUS * np.arange(1, 41), atol=0.02)


def test_a_policy_without_proposals_is_asked_for_its_plan():
    class Planner:
        def init(self, scene, start, key):
            return ()

        def act(self, carry, observation, key):
            path = jnp.stack([jnp.arange(10.0), jnp.zeros(10)], 1)
            return carry, Plan.ahead(path, 1.0, jnp.full(20, 3.0))

    found = proposal(Planner(), circling(), START)
    assert found[-1, 0] == pytest.approx(12.0, abs=1e-3)


def test_unknown_policies_are_named_with_the_known_ones():
    with pytest.raises(PerlsimError, match="pdm_open") as error:
        policy_of("pdm_open")
    assert "pdm_closed" in str(error.value.remedy)
