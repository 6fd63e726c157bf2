"""Paths, anchors and plans."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import Scene
from perlsim.bank_build import build_bank
from perlsim.policies.simple import LogReplay
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init, logged_pose
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import Episodes, Rollout, RolloutConfig
from planner.anchors import cluster, driven_paths, target_of
from planner.plans import PATHS, PathShape, drive_candidates, extended, plan_of, speed_profile
from planner.scenes import Perturbation, draw


def straight(speed=8.0, **options):
    from made_scenes import mover, scene

    return build_bank([scene("straight", mover(speed=speed, **options))])


def targets_at(host, ego_change, num_waypoints=6, spacing=2.0, start=5):
    bank = jax.tree.map(jnp.asarray, host.bank)
    scene, start = Scene(bank, jnp.int32(0)), jnp.int32(start)
    ego = ego_change(logged_pose(scene, start))
    paths = jnp.asarray(driven_paths(host))
    return np.asarray(target_of(paths, scene, start, ego, num_waypoints, spacing).waypoints)


def test_anchors_are_the_middles_of_well_separated_clusters():
    random = np.random.default_rng(0)
    middles = np.stack([np.linspace([2, 0], [12, end], 6) for end in (-5.0, 0.0, 4.0)])
    paths = np.repeat(middles, 40, 0) + random.normal(0, 0.1, (120, 6, 2))
    np.testing.assert_allclose(cluster(random.permutation(paths), 3), middles, atol=0.1)


def test_anchors_of_too_few_paths_repeat():
    path = np.linspace([2, 0], [12, 0], 6)[None]
    np.testing.assert_allclose(cluster(path, 3), np.repeat(path, 3, 0), atol=1e-5)


@pytest.mark.parametrize("name", PATHS)
def test_targets_lie_on_the_driven_path_at_even_arcs(name):
    shape = PATHS[name]
    got = targets_at(straight(), lambda pose: pose, shape.num_waypoints, shape.spacing)
    want = np.column_stack(
        [shape.spacing * np.arange(1, shape.num_waypoints + 1), np.zeros(shape.num_waypoints)]
    )
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_beyond_the_logs_end_targets_follow_the_route():
    from made_scenes import mover, scene

    # The ego stops logging at x = 24 m; its route turns left 30 m from the start.
    route = np.array([[0, 0, 0], [30, 0, 0], [30, 60, 0]], float)
    host = build_bank([scene("turn", mover(speed=8.0), route=route)])
    got = targets_at(host, lambda pose: pose, start=29)
    # From x = 23.2: 7 m to the corner, then up.
    np.testing.assert_allclose(got[2], [6.0, 0.0], atol=0.2)
    np.testing.assert_allclose(got[5], [6.8, 5.2], atol=0.3)


def test_an_ego_beside_the_path_is_led_back_smoothly():
    def aside(pose):
        return pose._replace(y=pose.y + 0.8)

    got = targets_at(straight(), aside, 20, 1.0)
    assert -0.1 < got[0, 1] < 0
    np.testing.assert_allclose(got[-1, 1], -0.8, atol=0.05)
    assert (np.diff(got[:, 1]) < 1e-3).all()


def test_a_turned_ego_starts_along_its_own_heading():
    def turned(pose):
        return pose._replace(heading=jnp.float32(0.1), cos=jnp.cos(0.1), sin=jnp.sin(0.1))

    got = targets_at(straight(), turned, 20, 1.0)
    assert abs(np.arctan2(got[0, 1], got[0, 0])) < 0.02
    far = got[-1] - got[-2]
    assert np.arctan2(far[1], far[0]) == pytest.approx(-0.1, abs=0.02)


def test_paths_go_on_along_the_route_or_straight_where_it_is_far():
    shape = PathShape()
    waypoints = jnp.column_stack([2.0 * jnp.arange(1, 7), jnp.zeros(6)])
    route = jnp.column_stack([2.0 * jnp.arange(20), jnp.full(20, 1.0)])
    near = np.asarray(extended(shape, waypoints, route, 2.0))
    assert near.shape == (shape.num_points, 2) and shape.num_points == 17
    np.testing.assert_allclose(near[:7, 1], 0.0, atol=1e-6)
    np.testing.assert_allclose(near[-1], [32.0, 1.0], atol=1e-3)
    for other in (route + jnp.array([0.0, 9.0]), jnp.zeros((20, 2))):
        far = np.asarray(extended(shape, waypoints, other, 2.0))
        np.testing.assert_allclose(far[-1], [32.0, 0.0], atol=1e-3)


def test_speeds_of_a_plan_run_evenly_to_the_target_or_are_constant():
    ramp = np.asarray(speed_profile(PathShape(ramp=1.0), jnp.float32(10.0), jnp.float32(5.0)))
    np.testing.assert_allclose(ramp[[0, 4, 9, 19]], [9.5, 7.5, 5.0, 5.0], rtol=1e-5)
    np.testing.assert_allclose(speed_profile(PathShape(ramp=0.0), jnp.float32(10.0), jnp.float32(5.0)), 5.0)


def test_the_target_speed_of_a_sample_brings_a_plan_to_where_the_log_will_be():
    host, shape = straight(speed=8.0), PathShape(steps=20)
    from planner.scenes import training_data

    data = training_data(host, shape.steps, jax.random.key(0))
    for number in range(4):
        sample = draw(data, Perturbation(share=1.0), shape, jnp.int32(number))
        driven = speed_profile(shape, sample.ego.speed, sample.target_speed)
        mean = 0.5 * (np.r_[sample.ego.speed, driven[:-1]] + np.asarray(driven))
        want = 8.0 * 0.1 * (int(sample.start) + 20)
        assert float(sample.ego.x) + 0.1 * mean.sum() == pytest.approx(want, abs=0.05)


def test_a_plan_rollout_earns_what_the_simulators_rollout_says():
    host, shape = straight(), PathShape(steps=20, ramp=0.0)
    bank = jax.tree.map(jnp.asarray, host.bank)
    scene, start = Scene(bank, jnp.int32(0)), jnp.int32(0)
    weights = reward_of("perlad")

    @dataclasses.dataclass(frozen=True)
    class Constant(LogReplay):
        def act(self, carry, observation, key):
            points = jnp.column_stack([2.0 * jnp.arange(17.0), jnp.zeros(17)])
            return carry, plan_of(shape, points, jnp.float32(8.0), jnp.float32(6.0))

    jax.tree_util.register_dataclass(Constant)
    config = RolloutConfig(horizon=20, replan_every=20)
    episodes = Episodes(*(np.zeros(1, np.int32),) * 3)
    want = Rollout(config, LogAgents(), Constant())(host.bank, episodes, weights)

    state = init(SimConfig(), LogAgents(), scene, start, jax.random.key(0))
    points = jnp.column_stack([2.0 * jnp.arange(17.0), jnp.zeros(17)])[None]
    got = jax.jit(drive_candidates, static_argnums=(0, 1))(
        shape, SimConfig(), LogAgents(), weights.typed(), 0.98, scene, state, points, jnp.array([6.0])
    )
    assert float(got.reward[0]) == pytest.approx(float(want.reward[0]), abs=1e-4)
    assert float(got.progress[0]) == pytest.approx(float(want.progress[0]), abs=1e-3)
