"""Traces of rollouts, and rollouts made into scenarios."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "sim"))
from made_scenes import mover, road_of, scene

from perlsim.bank import VALID, Scene, X
from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.policies import policy_of
from perlsim.readers.synthetic import generate
from perlsim.sim.agents import agents_of
from perlsim.sim.core import logged_pose
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import Episodes, Rollout, RolloutConfig
from perlsim.sim.types import Event
from perlsim.store import ScenarioStore
from perlsim.trace import EGO_X, Tracer, agents_along, simulated_scenario

CONFIG = RolloutConfig(horizon=40)


def episodes_of(*starts):
    count = len(starts)
    return Episodes(
        np.arange(count, dtype=np.int32), np.array(starts, np.int32), np.arange(count, dtype=np.int32)
    )


@pytest.fixture(scope="module")
def logs():
    return list(generate(3, 0))


@pytest.fixture(scope="module")
def host(logs):
    return build_bank(logs, observed_pieces=None, agent_paths=True)


@pytest.fixture(scope="module")
def replayed(host):
    """Log replay among reacting road users, from three starts."""
    tracer = Tracer(CONFIG, agents_of("idm"), policy_of("log_replay"))
    return tracer(tracer.put(host.bank), episodes_of(0, 20, 30), seed=4)


def test_a_trace_tells_the_same_as_the_totals_of_a_rollout(host, replayed):
    rollout = Rollout(CONFIG, agents_of("idm"), policy_of("log_replay"))
    totals = rollout(rollout.put(host.bank), episodes_of(0, 20, 30), reward_of("perlad"), seed=4)
    happened = replayed.events
    live = np.where(happened.over, 0, happened.events)
    np.testing.assert_array_equal(np.bitwise_or.reduce(live, axis=1), totals.happened)
    np.testing.assert_array_equal((~happened.over[:, 1:]).sum(1), totals.steps)
    whole = np.asarray(totals.steps) == CONFIG.horizon
    gained = happened.route_arc[:, -1] - happened.route_arc[:, 0]
    np.testing.assert_allclose(gained[whole], np.asarray(totals.progress)[whole], atol=1e-3)


def test_only_what_is_asked_for_is_emitted(host):
    tracer = Tracer(CONFIG, agents_of("log"), policy_of("constant_velocity"), outputs=("ego",))
    trace = tracer(tracer.put(host.bank), episodes_of(0, 0, 0))
    assert trace.ego.shape == (3, 41, 5)
    assert trace.agents is trace.events is trace.plans is None
    with pytest.raises(PerlsimError, match="everything"):
        Tracer(CONFIG, agents_of("log"), policy_of("constant_velocity"), outputs=("everything",))


def test_plans_are_anchored_where_the_ego_was_when_it_made_them(replayed):
    anchors = replayed.ego[:, : -1 : CONFIG.replan_every, :2]
    np.testing.assert_allclose(replayed.plans.anchor[..., :2], anchors, atol=1e-6)


def test_a_simulated_scenario_is_a_log_whose_replay_reproduces_it(logs, replayed, tmp_path):
    """The others exactly; the ego as closely as controllers follow any log."""
    made = [
        simulated_scenario(log, replayed.episode(k), start, made_by="policy log_replay, agents idm")
        for k, (log, start) in enumerate(zip(logs, (0, 20, 30), strict=True))
    ]
    ScenarioStore.create(tmp_path / "store").append(made)
    stored = list(ScenarioStore.open(tmp_path / "store"))
    assert [s.scenario_id for s in stored] == [
        f"{log.scenario_id}@{n}" for log, n in zip(logs, (0, 20, 30), strict=True)
    ]
    assert all("policy log_replay" in s.repairs[-1] for s in stored)
    again = build_bank(stored, observed_pieces=None)
    tracer = Tracer(CONFIG, agents_of("log"), policy_of("log_replay"))
    trace = tracer(tracer.put(again.bank), episodes_of(0, 0, 0))
    for k in range(3):

        def rows(agents):
            """Places at the last step, whatever the order of the slots."""
            last = agents[-1][:, agents[-1][VALID] > 0]
            return np.sort(last[X, 1:])

        np.testing.assert_allclose(rows(trace.agents[k]), rows(replayed.agents[k]), atol=1e-5)
    distance = np.hypot(*(trace.ego - replayed.ego)[..., :2].transpose(2, 0, 1))
    assert np.median(distance[:, -1]) < 0.5
    assert distance.max() < 2.0


def test_lights_of_a_simulated_scenario_start_with_the_episode(logs, host):
    with_lights = next(k for k, log in enumerate(logs) if len(log.lights.position))
    tracer = Tracer(CONFIG, agents_of("log"), policy_of("log_replay"))
    start = 37
    episode = Episodes(*(np.array([n], np.int32) for n in (with_lights, start, 0)))
    trace = tracer(tracer.put(host.bank), episode)
    log = logs[with_lights]
    made = simulated_scenario(log, trace.episode(0), start)
    np.testing.assert_array_equal(made.lights.state, log.lights.state[:, start : start + 41])
    assert made.start_time == pytest.approx(log.start_time + 3.7)


def test_a_simulated_scenario_can_stop_where_the_episode_ended():
    crash = scene("crash", mover(speed=10.0, steps=60), mover(x=20.0, speed=0.0, steps=60), road=road_of())
    host = build_bank([crash], observed_pieces=None)
    tracer = Tracer(CONFIG, agents_of("log"), policy_of("constant_velocity"))
    trace = tracer(tracer.put(host.bank), episodes_of(0)).episode(0)
    hit = int(np.argmax(trace.events.begun & int(Event.AT_FAULT) != 0))
    assert 10 < hit < 20
    assert trace.events.hit_agent[hit] == 1
    assert simulated_scenario(crash, trace, 0).tracks.num_steps == 41
    stopped = simulated_scenario(crash, trace, 0, until_over=True)
    assert stopped.tracks.num_steps == hit + 1


def test_road_users_react_to_an_ego_that_moves_as_told():
    """A follower brakes behind an ego that stands, and does not where the ego drives on."""
    made = scene(
        "following", mover(speed=10.0, steps=60), mover(x=-15.0, speed=10.0, steps=60), road=road_of()
    )
    host = build_bank([made], observed_pieces=None, agent_paths=True)

    def follower(speed):
        x = speed * 0.1 * np.arange(1, 41)
        poses = np.stack([x, 0 * x, 0 * x], 1).astype(np.float32)
        bank = jax.tree.map(np.asarray, host.bank)
        bank = jax.device_put(bank)
        rows = agents_along(agents_of("idm"), Scene(bank, 0), 0, poses, jax.random.key(0))
        assert rows.shape[0] == 41
        np.testing.assert_allclose(rows[1:, X, 0], x, atol=1e-4)
        return float(rows[-1, X, 1])

    assert follower(0.0) < -2.0
    assert follower(10.0) > 10.0


def test_an_ego_may_begin_elsewhere_than_in_the_log(host):
    tracer = Tracer(CONFIG, agents_of("log"), policy_of("constant_velocity"), outputs=("ego",))
    bank = tracer.put(host.bank)
    from perlsim.bank import Scene

    episodes = episodes_of(0, 0, 0)
    logged = jax.vmap(lambda idx, start: logged_pose(Scene(bank, idx), start))(*map(np.asarray, episodes[:2]))
    moved = logged._replace(x=logged.x + 1.5)
    trace = tracer(bank, episodes, ego=moved)
    np.testing.assert_allclose(trace.ego[:, 0, EGO_X] - logged.x, 1.5, atol=1e-5)
