"""Realism: histograms by hand, features in closed form, and what must not change a score."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("sim", "geometry")]
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_scenes import lanes_of, light, line, mover, road_of, scene
from road_oracle import RoadOracle

from perlsim.bank import STEP, VX, VY, Scene, X, Y
from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.metrics.realism import (
    CHALLENGE_2024,
    CHALLENGE_2025,
    Feature,
    RealismSettings,
    realism,
    realism_of,
)
from perlsim.metrics.realism.edges import EdgeDistance
from perlsim.metrics.realism.features import LEAD_IN, features_of, with_edges
from perlsim.metrics.realism.likelihood import log_likelihoods, once
from perlsim.metrics.realism.simulate import logged_of
from perlsim.readers import FORMATS
from perlsim.readers.synthetic import generate
from perlsim.scenario import Ego, Ragged
from perlsim.vocabulary import AgentType, LightState

SHORT = RealismSettings(start=2, horizon=24)
BINS = Feature("speed", 0.0, 10.0, 5, 0.1, 1.0)


def of_one(values):
    """Values of one road user, ``[..., N, 1]``."""
    return np.asarray(values, float)[..., None]


def test_likelihoods_are_the_smoothed_shares_of_the_simulated_bins():
    simulated = of_one([[1.0, 3.0, 3.5], [2.0, 2.1, 9.0]])
    found = np.exp(log_likelihoods(BINS, of_one([0.5, 3.9, 8.0, 5.0]), simulated, np.ones(2)))
    # Counts 1, 4, 0, 0, 1 and a tenth for each of five bins.
    np.testing.assert_allclose(found[:, 0], np.array([1.1, 4.1, 1.1, 0.1]) / 6.5)


def test_a_rollout_that_stands_for_several_counts_as_often():
    simulated = of_one([[1.0, 3.0], [5.0, 5.0]])
    weighed = log_likelihoods(BINS, of_one([1.0]), simulated, np.array([3.0, 1.0]))
    repeated = log_likelihoods(BINS, of_one([1.0]), simulated[[0, 0, 0, 1]], np.ones(4))
    np.testing.assert_allclose(weighed, repeated)
    np.testing.assert_allclose(np.exp(weighed), 3.1 / 8.5)


def test_values_out_of_range_count_in_the_end_bins_and_unknown_ones_nowhere():
    simulated = of_one([[-3.0, 77.0, np.nan, np.nan]])
    found = np.exp(log_likelihoods(BINS, of_one([-1.0, 10.0, 3.0, np.nan]), simulated, np.ones(1)))[:, 0]
    np.testing.assert_allclose(found, [1.1 / 2.5, 1.1 / 2.5, 0.1 / 2.5, np.nan])
    nothing = log_likelihoods(BINS, of_one([3.0]), np.full((1, 2, 1), np.nan), np.ones(1))
    np.testing.assert_allclose(np.exp(nothing), 1 / 5)


def test_an_indicator_is_as_likely_as_it_is_frequent_among_the_rollouts():
    collision = next(feature for feature in CHALLENGE_2025 if feature.name == "collision_indication")
    simulated = of_one(np.arange(32)[:, None] < 8)
    for logged, share in ((1.0, 8), (0.0, 24)):
        found = np.exp(log_likelihoods(collision, of_one([logged]), simulated, np.ones(32)))
        np.testing.assert_allclose(found, (share + 0.001) / 32.002)


def test_an_indicator_is_set_once_it_was_set_at_a_counted_step():
    values = np.array([[0, 0, np.nan], [1, 0, np.nan], [0, 1, np.nan]], float)
    counted = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1]], bool)
    np.testing.assert_array_equal(once(values, counted), [[1.0, 0.0, np.nan]])


def test_the_weights_of_both_challenges_sum_to_one():
    for features in (CHALLENGE_2024, CHALLENGE_2025):
        assert sum(feature.weight for feature in features) == pytest.approx(1.0)
    assert "traffic_light_violation" not in {feature.name for feature in CHALLENGE_2024}


def features_in(scenario, start=2, horizon=24):
    """The log's features, as numpy, road users on the last axis."""
    bank = build_bank([scenario], observed_pieces=None).bank
    one = Scene(jax.device_put(bank), jnp.int32(0))
    tracks = np.asarray(logged_of(horizon, one, jnp.int32(start)))
    found = jax.tree.map(np.asarray, jax.jit(features_of)(one, jnp.int32(start), tracks))
    edges = EdgeDistance(scenario.road.edges) if len(scenario.road.edges) else None
    return with_edges(found, edges, tracks[LEAD_IN:], bank.boxes[0])


def moving(places, headings, **options):
    """A road user at given places and headings."""
    one = mover(**options)
    one["position"][:, :2], one["heading"] = places, np.asarray(headings)
    one["velocity"] = np.gradient(places, 0.1, axis=0)
    return one


def test_a_car_of_constant_speed_neither_accelerates_nor_turns():
    found = features_in(scene("s", mover(speed=5), mover(20, 3, speed=10)))
    inner = slice(0, -2)
    np.testing.assert_allclose(found.linear_speed[inner, 1], 10, rtol=1e-4)
    for values in (found.linear_acceleration, found.angular_speed, found.angular_acceleration):
        np.testing.assert_allclose(values[inner, 1], 0, atol=1e-3)
    assert np.isnan(found.linear_speed[-1, 1]) and np.isnan(found.linear_acceleration[-2:, 1]).all()


def test_derivatives_of_a_spiral_are_those_of_its_formula_across_the_wrap_of_headings():
    times = np.arange(31) * 0.1
    turned = 2.5 + 0.3 * times + 0.1 * times**2
    speed = 6.0 + 2.0 * times
    places = np.cumsum(speed[:, None] * np.stack([np.cos(turned), np.sin(turned)], 1) * 0.1, 0)
    wrapped = np.mod(turned + np.pi, 2 * np.pi) - np.pi
    found = features_in(scene("s", mover(speed=5), moving(places + 30, wrapped)))
    steps, inner = 2 + 1 + np.arange(24), slice(0, -2)
    np.testing.assert_allclose(found.angular_speed[inner, 1], (0.3 + 0.2 * times[steps])[inner], atol=2e-3)
    np.testing.assert_allclose(found.angular_acceleration[inner, 1], 0.2, atol=0.02)
    np.testing.assert_allclose(found.linear_speed[inner, 1], speed[steps][inner], atol=0.15)
    np.testing.assert_allclose(found.linear_acceleration[inner, 1], 2.0, atol=0.05)


def test_distances_to_others_and_to_the_edge_are_those_of_the_boxes():
    found = features_in(scene("s", mover(speed=5), mover(10, 0, speed=5), mover(10, 4.9, speed=5)))
    np.testing.assert_allclose(found.distance_to_nearest_object[:, 0], 10 - 4.5, rtol=1e-4)
    np.testing.assert_allclose(found.distance_to_nearest_object[:, 1], 4.9 - 2.0, rtol=1e-4)
    # Edges at y = ±6, half width 1.
    np.testing.assert_allclose(found.distance_to_road_edge[:, :3], [[-5.0, -5.0, -0.1]] * 24, atol=1e-4)
    assert not found.offroad_indication[:, :3].any() and not found.collision_indication[:, :3].any()
    beyond = features_in(scene("s", mover(speed=5), mover(10, 5.2, speed=5), mover(11, 5.2, speed=5)))
    np.testing.assert_allclose(beyond.distance_to_road_edge[:, 1], 0.2, atol=1e-4)
    assert (beyond.offroad_indication[:, 1:3] == 1).all() and (beyond.collision_indication[:, 1:3] == 1).all()


def test_time_to_collision_is_the_gap_over_the_closing_speed():
    found = features_in(scene("s", mover(-60, speed=1), mover(0, speed=10), mover(30, speed=4)))
    gap = 25.5 - 6 * 0.1 * (3 + np.arange(24))
    np.testing.assert_allclose(found.time_to_collision[:, 1], np.minimum(gap / 6, 5), rtol=1e-3)
    assert (found.time_to_collision[:, 2] == 5).all()


def test_running_a_red_light_is_seen_at_the_step_of_the_crossing():
    road = road_of(lanes_of(line(-40, 0, 160, 0)))
    for state, crossed in ((LightState.RED, True), (LightState.GREEN, False)):
        crossing = scene("s", mover(-50, speed=1), mover(0, speed=8), road=road, lights=light(state))
        violated = features_in(crossing).traffic_light_violation[:, 1]
        # The front, 2.25 m ahead, reaches 12 m after 1.22 s: step 13 of the log, the 11th from step 2 on.
        assert np.flatnonzero(violated).tolist() == ([10] if crossed else [])


def test_distances_to_the_edge_are_those_of_brute_force_on_maps_with_levels():
    random = np.random.default_rng(0)
    for scenario in generate(4, 5):
        edges, oracle = EdgeDistance(scenario.road.edges), RoadOracle(scenario)
        low, high = scenario.road.edges.values.min(0), scenario.road.edges.values.max(0)
        points = random.uniform(low - 5, high + 5, (60, 3))
        # Heights of the choice of a level exactly, so that both see the same edges.
        points[:, 2] = np.round(points[:, 2] * 2) / 2
        expected = [-oracle.edge_distance(*point) for point in points]
        np.testing.assert_allclose(edges(points), expected, atol=1e-3)


def test_a_level_without_edges_is_unknown_and_a_higher_one_is_not_seen():
    bridge = EdgeDistance(Ragged.from_rows([line(0, 0, 50, 0), line(0, 4, 50, 4, z=8.0)], width=3))
    np.testing.assert_allclose(bridge(np.array([[10, 3, 0], [10, 3, 8], [10, 3, 20.0]])), [-3.0, 1.0, np.nan])


def street(*others, **options):
    """A street with an ego, a car that brakes, one that goes on, and whoever else."""
    times = np.arange(31) * 0.1
    places = np.stack([30 + 12 * times - 2 * times**2, np.full(31, 3.5)], 1)
    braking = moving(places, np.zeros(31))
    return scene("street", mover(speed=8), braking, mover(45, -3, speed=6), *others, **options)


def test_a_log_is_most_likely_under_itself():
    log = realism_of([street()], "log", 32, 0, SHORT)
    constant = realism_of([street()], "constant_velocity", 32, 0, SHORT)
    assert log.ade == log.min_ade == 0 and constant.ade > 0.1
    assert log.likelihoods["collision_indication"] == pytest.approx(32.001 / 32.002)
    for name, value in log.likelihoods.items():
        assert np.isnan(value) or value >= constant.likelihoods[name]
    assert log.meta > constant.meta
    assert log.scenes[0].num_agents == 2 and log.counts["distance_to_nearest_object"] == 2 * 24


def test_what_the_log_lacks_is_not_available_and_left_out_of_the_meta_metric():
    bare = street(road=replace(road_of(), edges=Ragged.from_rows([], width=3)))
    found = realism_of([bare], "log", 2, 0, SHORT)
    for name in ("distance_to_road_edge", "offroad_indication", "traffic_light_violation"):
        assert np.isnan(found.likelihoods[name]) and found.counts[name] == found.num_scenes[name] == 0
    assert np.isnan(found.groups["map_based"]) and np.isnan(found.offroad_rate)
    assert found.coverage == pytest.approx(1 - 0.05 - 0.25 - 0.05)
    weights = {feature.name: feature.weight for feature in CHALLENGE_2025}
    known = [name for name, value in found.likelihoods.items() if np.isfinite(value)]
    expected = sum(weights[n] * found.likelihoods[n] for n in known) / sum(weights[n] for n in known)
    assert found.meta == pytest.approx(expected)
    lit = realism_of([street(lights=light(LightState.GREEN))], "log", 2, 0, SHORT)
    assert lit.coverage == pytest.approx(1.0)


def same(one, other):
    """Whether two scenes score the same, but for rounding."""
    np.testing.assert_allclose(list(one.likelihoods.values()), list(other.likelihoods.values()), rtol=1e-5)
    np.testing.assert_allclose(one[3:-2], other[3:-2], rtol=1e-5)
    assert one.counts == other.counts


def test_order_of_road_users_padding_and_other_scenes_change_nothing():
    walker = mover(20, -5, 1.5, 1.2, kind=AgentType.PEDESTRIAN, size=(0.7, 0.7, 1.7))
    plain = street(walker)
    tracks = plain.tracks
    order = np.array([3, 1, 0, 2])
    fields = ("position", "heading", "velocity", "size", "kind", "valid")
    turned = replace(tracks, **{name: getattr(tracks, name)[order] for name in fields})
    shuffled = plain.replace(
        tracks=replace(turned, ids=tuple(tracks.ids[k] for k in order)), ego=replace(plain.ego, idx=2)
    )
    crowd = scene("crowd", mover(speed=8), *(mover(50 + 8 * k, speed=1) for k in range(20)))
    alone, permuted, padded = (
        realism_of(scenarios, "constant_velocity", 2, 0, SHORT).scenes[-1]
        for scenarios in ([plain], [shuffled], [crowd, plain])
    )
    same(alone, permuted)
    same(alone, padded)


def test_who_enters_later_counts_for_nobody():
    late = mover(30.5, 3.5)
    scenario = street(late)
    valid = scenario.tracks.valid.copy()
    valid[3, :6] = False
    entering = scenario.replace(tracks=replace(scenario.tracks, valid=valid))
    with_late, without = (realism_of([s], "log", 2, 0, SHORT).scenes[0] for s in (entering, street()))
    same(with_late, without)


def test_static_obstacles_and_on_demand_those_who_hardly_drive_are_not_scored():
    cone, parked = mover(60, 3, kind=AgentType.STATIC, size=(0.5, 0.5, 1.0)), mover(70, -5)
    scenario = street(cone, parked)
    # The street's cars drive 15.4 and 14.4 m.
    for least, count in ((0.0, 3), (5.0, 2), (15.0, 1), (50.0, 0)):
        found = realism_of([scenario], "log", 1, 0, replace(SHORT, least_driven=least))
        assert [one.num_agents for one in found.scenes] == ([count] if count else [])
        assert found.left_out == (() if count else ("street",))
    assert np.isnan(found.meta)


def test_where_the_log_has_no_ego_nobody_brakes_for_one():
    scenario = scene("no ego", mover(-25, speed=9), mover(-25, -3.5, speed=9))
    scenario = scenario.replace(
        ego=Ego(), road=road_of(lanes_of(line(-80, 0, 160, 0), line(-80, -3.5, 160, -3.5)))
    )
    assert realism_of([scenario], "idm", 1, 0, SHORT).ade < 0.5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Wandering:
    """Road users that drive at speeds drawn anew at each step."""

    requires_paths: ClassVar[bool] = False
    replays_log: ClassVar[bool] = False

    def init(self, scene, start, key):
        return ()

    def act(self, memory, scene, state, ego_future, key):
        factor = jax.random.uniform(key, (state.agents.shape[1],), minval=0.0, maxval=2.0)
        rows = jnp.arange(state.agents.shape[0])[:, None]
        step = jnp.where(rows == X, state.agents[VX], jnp.where(rows == Y, state.agents[VY], 0.0)) * STEP
        return memory, state.agents + factor * step


def test_rollouts_of_a_model_that_draws_differ_and_repeat_with_the_seed():
    found = realism([street()], Wandering(), 12, 0, SHORT)
    again = realism([street()], Wandering(), 12, 0, SHORT)
    other = realism([street()], Wandering(), 12, 1, SHORT)
    assert found.scenes[0].num_distinct == 12
    np.testing.assert_equal(found.likelihoods, again.likelihoods)
    assert found.meta == again.meta != other.meta
    assert found.min_ade < found.ade


def test_scenes_that_are_too_short_or_hold_the_ego_alone_are_named():
    alone = scene("alone", mover(speed=8))
    found = realism_of([street(), alone, street().replace(scenario_id="second")], "log", 1, 0, SHORT)
    assert found.left_out == ("alone",) and [s.scene_id for s in found.scenes] == ["street", "second"]
    with pytest.raises(PerlsimError, match="long"):
        realism_of([street()], "log")
    with pytest.raises(PerlsimError, match="start"):
        realism_of([street()], "log", 1, 0, replace(SHORT, start=0))
    with pytest.raises(PerlsimError, match="unknown agent model"):
        realism_of([street()], "clairvoyant")


def in_order(scenarios):
    """Scores log, idm and constant velocity, after checks of what must hold for any logs."""
    log, idm, constant = (realism_of(scenarios, name) for name in ("log", "idm", "constant_velocity"))
    assert log.ade == 0 < idm.ade
    for other in (idm, constant):
        assert other.counts == log.counts
        for mine, theirs in zip(log.scenes, other.scenes, strict=True):
            # Nothing explains values better than their own shares, but for the smoothing.
            for name, value in mine.likelihoods.items():
                assert np.isnan(value) or value > theirs.likelihoods[name] - 0.01
            assert mine.meta > theirs.meta - 1e-3
    return log, idm, constant


def test_on_real_logs_the_log_is_most_likely_then_reacting_cars_then_constant_velocity(real_data):
    paths = [
        real_data / "logs" / "gpudrive" / f"{name}.json" for name in ("1c365f15b70ebdbf", "6d2a107f2e8390a")
    ]
    scenarios = [scenario for path in paths for scenario in FORMATS["gpudrive"].read(path)]
    log, idm, constant = in_order(scenarios)
    assert log.meta > idm.meta > constant.meta


@pytest.mark.slow
def test_the_same_order_holds_over_all_real_logs_of_one_source(real_data):
    paths = sorted((real_data / "logs" / "gpudrive").glob("*.json"))
    scenarios = [scenario for path in paths for scenario in FORMATS["gpudrive"].read(path)]
    log, idm, constant = in_order(scenarios)
    assert len(log.scenes) + len(log.left_out) == len(scenarios)
    assert log.meta > idm.meta > constant.meta
    for group in log.groups:
        assert log.groups[group] > idm.groups[group] > constant.groups[group]
