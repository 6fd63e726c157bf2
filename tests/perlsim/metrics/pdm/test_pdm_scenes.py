"""Each sub-score on both sides of its threshold, in scenes made by hand; poses are taken as they are."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from pdm_scenes import START, Bench, mover, scene, straight

from perlsim.metrics.pdm import PdmConfig, Previous, SubScore, as_reward, extended_total
from perlsim.metrics.pdm.comfort import ComfortSignals, comfort_bounds
from perlsim.sim.types import Pose
from perlsim.vocabulary import AgentType, LightState

SCENES = [
    scene("empty"),
    scene("parked", mover(24.55)),
    scene("cone", mover(22.5, kind=AgentType.STATIC, size=(0.5, 0.5, 1.0))),
    scene("rammed from behind", mover(-12, speed=10)),
    scene("rammed in front", mover(30, heading=np.pi, speed=10)),
    scene("cut in on", mover(-1.0, 3.2, drift=(5.0, -1.0))),
    scene("cut in on across lanes", mover(-1.0, 4.95, drift=(5.0, -1.0)), ego=mover(y=1.75, speed=5)),
    scene("parked behind", mover(24.05)),
    scene("oncoming lane", ego=mover(y=7.0, speed=5)),
    scene("oncoming junction", ego=mover(y=7.0, speed=5), junction=True),
    scene("red light", state=LightState.RED),
    scene("green light", state=LightState.GREEN),
    scene("bare", lanes=False, edges=False),
    scene("overlapping", mover(1.0, speed=5.0)),
    scene("fast", ego=mover(speed=20.0)),
]


@pytest.fixture(scope="module")
def bench():
    return Bench(SCENES)


def failed_at(score, which):
    return score.failure_time[:, which]


def test_a_parked_car_is_hit_at_fault_or_missed_by_centimetres(bench):
    # The front is 2.25 m ahead and the parked rear at 22.3 m: 4 s at 5.0 m/s fall short by 5 cm.
    score = bench("parked", straight(5.0), straight(5.02))
    assert score.no_at_fault_collisions.tolist() == [1.0, 0.0]
    assert score.hit_agent.tolist() == [-1, 1]
    assert failed_at(score, SubScore.NO_AT_FAULT_COLLISIONS).tolist() == [np.inf, 4.0]


def test_a_fixed_object_costs_half(bench):
    score = bench("cone", straight(5.0), straight(4.9))
    assert score.no_at_fault_collisions.tolist() == [0.5, 1.0]
    assert score.pdms[0] == pytest.approx(0.5 * (5 + 0 + 2) / 12)


def test_who_is_rammed_from_behind_or_while_standing_is_not_at_fault(bench):
    assert bench("rammed from behind", straight(5.0)).no_at_fault_collisions[0] == 1
    standing = straight(0.0)
    score = bench("rammed in front", straight(5.0), standing)
    assert score.no_at_fault_collisions.tolist() == [0.0, 1.0]
    assert score.time_to_collision.tolist() == [0.0, 1.0]


def test_a_side_contact_is_at_fault_across_lanes_only(bench):
    assert bench("cut in on", straight(5.0)).no_at_fault_collisions[0] == 1
    score = bench("cut in on across lanes", straight(5.0))
    assert score.no_at_fault_collisions[0] == 0 and score.hit_agent[0] == 1


@pytest.fixture(scope="module")
def lenient():
    """Only PDMS, without those that the ego overlaps at the start."""
    return Bench(SCENES, PdmConfig(tracker="none", extended=False, ignore_initial_overlaps=True))


def logged_agents(bench, name):
    return np.array(bench.host.bank.tracks)[None, bench.names.index(name), START : START + 41]


def test_an_overlap_at_the_start_counts_unless_it_is_to_be_left_out(bench, lenient):
    assert bench("overlapping", straight(5.0)).no_at_fault_collisions[0] == 0
    agents = logged_agents(lenient, "overlapping")
    assert lenient("overlapping", straight(5.0), agents=agents).no_at_fault_collisions[0] == 1


def test_given_road_users_replace_the_logged_ones_and_the_reward_is_the_score(lenient):
    starts = SimpleNamespace(scenario_idx=np.ones(1, np.int32), start=np.full(1, START, np.int32))
    assert lenient.names[1] == "parked"
    plans = np.stack([straight(5.0), straight(5.0)])[None]
    agents = logged_agents(lenient, "parked")
    reward = as_reward(lenient.scorer, lenient.bank)
    assert reward(starts, plans, agents=agents).tolist() == [[1.0, 1.0]]
    agents[..., 0, 1] = 10.0
    assert reward(starts, plans, agents=agents).tolist() == [[0.0, 0.0]]
    extended = as_reward(lenient.scorer, lenient.bank, extended=True, unknown=-1.0)
    assert extended(starts, plans, agents=agents).tolist() == [[-1.0, -1.0]]
    assert lenient.scorer.num_traces == 1


def test_drivable_area_ends_at_its_edge(bench):
    score = bench("empty", straight(aside=-0.95), straight(aside=-1.05))
    assert score.drivable_area_compliance.tolist() == [1.0, 0.0]
    assert score.pdms[1] == 0 and failed_at(score, SubScore.DRIVABLE_AREA_COMPLIANCE)[1] == pytest.approx(0.1)


def test_time_to_collision_looks_0_9_s_ahead(bench):
    # At 3.0 s the front is at 17.25 m and 0.9 s later would be at 21.75 m; the parked rear is at 21.8 m.
    score = bench("parked behind", straight(5.0, until=3.1), straight(5.02, until=3.1))
    assert score.time_to_collision.tolist() == [1.0, 0.0]
    assert score.no_at_fault_collisions.tolist() == [1.0, 1.0]
    assert score.ttc_agent.tolist() == [-1, 1]
    assert failed_at(score, SubScore.TIME_TO_COLLISION)[1] == pytest.approx(3.0)


def test_progress_is_a_share_of_the_reference_and_counts_in_full_up_to_5_m(bench):
    plans = straight(5.0), straight(1.0)
    for reference, shares in (
        (40.0, [0.5, 0.1]),
        (20.0, [1.0, 0.2]),
        (4.9, [1.0, 1.0]),
        (5.2, [1.0, 4 / 5.2]),
    ):
        score = bench("empty", *plans, reference_progress=np.array([reference]))
        np.testing.assert_allclose(score.ego_progress, shares, atol=2e-3)
    np.testing.assert_allclose(score.progress, [20.0, 4.0], atol=1e-3)
    assert bench("empty", *plans).ego_progress.tolist() == [1.0, 1.0]


def test_comfort_ends_at_2_4_and_4_05_metres_per_square_second(bench):
    plans = [straight(5.0, acceleration=a) for a in (2.3, 2.5)]
    score = bench("empty", *plans)
    assert score.comfort.tolist() == [1.0, 0.0]
    braking = bench("fast", *[straight(20.0, acceleration=a) for a in (-3.95, -4.15)])
    assert braking.comfort.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("part", "inside", "outside"),
    [
        ("longitudinal", -4.04, -4.06),
        ("longitudinal", 2.39, 2.41),
        ("lateral", -4.88, 4.9),
        ("jerk", 8.36, -8.38),
        ("longitudinal_jerk", 4.12, -4.14),
        ("yaw_rate", -0.94, 0.96),
        ("yaw_acceleration", 1.92, -1.94),
    ],
)
def test_each_bound_of_comfort_is_its_own(part, inside, outside):
    nothing = ComfortSignals(*(jnp.zeros(3) for _ in ComfortSignals._fields))
    for value, fine in ((inside, True), (outside, False)):
        signals = nothing._replace(**{part: jnp.array([0.0, value, 0.0])})
        assert bool(comfort_bounds(signals).all()) is fine


def test_driving_direction_counts_metres_against_the_traffic_in_11_steps(bench):
    score = bench("oncoming lane", *[straight(v) for v in (1.75, 1.9, 5.4, 5.5)])
    # The first step's metres are those of the speed of the plan, so 11 steps of 0.1 s: 1.93, 2.09, 5.94, 6.05 m.
    assert score.driving_direction_compliance.tolist() == [1.0, 0.5, 0.5, 0.0]
    assert bench("oncoming junction", straight(5.5)).driving_direction_compliance[0] == 1
    assert bench("empty", straight(5.5)).driving_direction_compliance[0] == 1


def test_a_red_light_is_crossed_where_the_front_passes_its_line(bench):
    plans = straight(2.42), straight(2.45)
    score = bench("red light", *plans)
    assert score.traffic_light_compliance.tolist() == [1.0, 0.0]
    assert failed_at(score, SubScore.TRAFFIC_LIGHT_COMPLIANCE)[1] == pytest.approx(4.0)
    assert bench("green light", *plans).traffic_light_compliance.tolist() == [1.0, 1.0]


def test_lane_keeping_fails_after_20_steps_beside_the_centre(bench):
    beside = np.where(np.arange(40) < 19, 0.6, 0.0), np.where(np.arange(40) < 20, 0.6, 0.0)
    score = bench("empty", *[straight(aside=row) for row in beside], straight(aside=0.45))
    assert score.lane_keeping.tolist() == [1.0, 0.0, 1.0]
    assert failed_at(score, SubScore.LANE_KEEPING)[1] == pytest.approx(2.0)


def test_history_comfort_sees_the_jump_between_past_and_plan_that_comfort_of_the_plan_does_not(bench):
    gentle, harder = straight(5.0), straight(5.0, acceleration=2.2)
    score = bench("empty", gentle, harder)
    assert score.comfort.tolist() == [1.0, 1.0]
    assert score.history_comfort.tolist() == [1.0, 0.0]
    assert np.isnan(bench("empty", gentle, start=14).history_comfort[0])


@pytest.fixture(scope="module")
def compared(bench):
    """Two plans at a red light, judged against the plan before and with a human who crosses it too."""
    zero = np.zeros(1, np.float32)
    then = Pose(zero - 2.5, zero, zero, zero, zero + 1, zero, zero + 5)
    before = Previous(then, np.zeros((1, 0, 4), np.float32), straight(5.0)[None])
    plans = straight(5.0, acceleration=0.65), straight(5.0, acceleration=0.75)
    alone = bench("red light", *plans)
    human = type(alone)(*(np.asarray(value)[:1][None] for value in alone))
    return alone, bench("red light", *plans, previous=before, human=human)


def test_extended_comfort_compares_accelerations_with_the_plan_before(compared):
    alone, score = compared
    assert score.extended_comfort.tolist() == [1.0, 0.0]
    assert np.isnan(alone.extended_comfort).all()
    assert failed_at(score, SubScore.EXTENDED_COMFORT).tolist() == [np.inf, 0.0]


def test_what_the_human_fails_no_candidate_fails(compared):
    alone, score = compared
    assert alone.epdms.tolist() == [0.0, 0.0] and score.traffic_light_compliance.tolist() == [0.0, 0.0]
    parts = 5 + 5 + 2 * score.lane_keeping + 2 * score.history_comfort + 2 * score.extended_comfort
    np.testing.assert_allclose(score.epdms, parts / 16, atol=1e-6)
    np.testing.assert_allclose(
        extended_total(alone, alone, with_change=False), (parts - 2 * score.extended_comfort) / 14
    )


def test_totals_follow_from_their_parts(bench):
    score = bench("red light", straight(2.42, aside=0.6), straight(2.42), reference_progress=np.array([20.0]))
    share = 9.68 / 20
    np.testing.assert_allclose(score.pdms, (5 * share + 5 + 2 * score.comfort) / 12, atol=1e-3)
    parts = 2 * score.history_comfort + 2 * score.lane_keeping
    np.testing.assert_allclose(score.epdms, (5 * share + 5 + parts) / 14, atol=1e-3)
    assert score.lane_keeping.tolist() == [0.0, 1.0]


def test_what_a_scene_lacks_is_not_available(bench):
    score = bench("bare", straight(5.0))
    for name in ("drivable_area_compliance", "driving_direction_compliance", "lane_keeping", "pdms", "epdms"):
        assert np.isnan(getattr(score, name)[0]), name
    assert np.isnan(score.traffic_light_compliance[0]) and np.isnan(score.ego_progress[0])
    assert score.no_at_fault_collisions[0] == 1 and score.comfort[0] == 1
    assert np.isnan(bench("empty", straight(5.0)).traffic_light_compliance[0])
    assert START == 15
