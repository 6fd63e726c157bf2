"""Speed of rollouts on real or embedded maps; run with ``pytest benchmarks/ --benchmark [--store STORE]``."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from workloads import Sharded, multi_episode, observing_episode

from perlsim.bank_build import build_bank
from perlsim.policies import policy_of
from perlsim.scenario import Ragged
from perlsim.sim.agents import agents_of
from perlsim.sim.observe import ObservationConfig
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import Rollout, RolloutConfig, sample_episodes

NUM_ENVS, NUM_AGENTS = 4096, 32


def timed(benchmark, run, rounds: int = 7) -> float:
    """Median seconds of a run; one unmeasured run first."""
    benchmark.pedantic(run, rounds=rounds, iterations=1, warmup_rounds=1)
    return benchmark.stats.stats.median


def rollout_speed(benchmark, record, scenarios, target, *, horizon=80, envs=NUM_ENVS, agents="log", **config):
    """Times a rollout with all outcomes and PerlAD's reward, and notes what it came to."""
    outcomes_for = config.get("outcomes_for", "ego")
    paths = {"agent_paths": True} if agents != "log" else {}
    host = build_bank(
        scenarios, max_agents=NUM_AGENTS, outcomes_for=outcomes_for, observed_pieces=None, **paths
    )
    rollout = Rollout(RolloutConfig(horizon=horizon, **config), agents_of(agents), policy_of("log_replay"))
    bank, weights = rollout.put(host.bank), reward_of("perlad")
    episodes = sample_episodes(host, envs, horizon, 0)
    seconds = timed(benchmark, lambda: jax.block_until_ready(rollout(bank, episodes, weights)))
    speed = envs * horizon / seconds
    record(
        scene_steps_per_s=speed,
        agent_steps_per_s=speed * host.info.num_agents,
        target=target,
        reached=bool(speed >= target),
        envs=envs,
        agents=host.info.num_agents,
        map_points=host.info.map_points,
        scenarios=len(scenarios),
    )
    assert rollout.num_traces == 1
    return speed


def test_log_agents_with_all_outcomes_of_the_ego(benchmark, record, scenarios):
    rollout_speed(benchmark, record, scenarios, 1.5e6)


def test_log_agents_with_outcomes_of_everyone(benchmark, record, scenarios):
    rollout_speed(benchmark, record, scenarios, 3e5, horizon=40, outcomes_for="all")


def test_outcomes_of_everyone_computed_afresh(benchmark, record, scenarios):
    """Road users whose places no log tells, so that the map is asked about each of them at each step."""
    config = {"horizon": 40, "outcomes_for": "all", "agents": "constant_velocity"}
    rollout_speed(benchmark, record, scenarios, 0.0, **config)


def test_idm_agents(benchmark, record, scenarios):
    rollout_speed(benchmark, record, scenarios, 2e4, horizon=40, agents="idm")


def test_observation_of_the_ego_at_every_step(benchmark, record, scenarios):
    horizon, observation = 40, ObservationConfig()
    host = build_bank(scenarios, max_agents=NUM_AGENTS)
    episodes = sample_episodes(host, NUM_ENVS, horizon, 0)
    episode = partial(observing_episode, observation, horizon, reward_of("perlad"))
    run = Sharded(episode, host.bank, episodes, chunk=128 if jax.default_backend() == "cpu" else NUM_ENVS)
    speed = NUM_ENVS * horizon / timed(benchmark, run)
    seen, _ = run()
    floats = sum(int(np.prod(part.shape[1:])) for part in seen if part.dtype == np.float32)
    record(scene_steps_per_s=speed, floats=floats, target=7e5, reached=bool(speed >= 7e5))
    assert floats >= 1848


def test_everyone_controlled_and_observed(benchmark, record, scenarios):
    horizon, envs, observation = 20, 512, ObservationConfig()
    host = build_bank(scenarios, max_agents=NUM_AGENTS, outcomes_for="all")
    episodes = sample_episodes(host, envs, horizon, 0)
    run = Sharded(partial(multi_episode, observation, horizon), host.bank, episodes, chunk=4)
    speed = envs * horizon * NUM_AGENTS / timed(benchmark, run)
    _, seen = run()
    floats = sum(int(np.prod(part.shape[2:])) for part in seen if part.dtype == np.float32)
    record(agent_steps_per_s=speed, floats=floats, target=6e5, reached=bool(speed >= 6e5))
    assert floats >= 1848


@pytest.mark.parametrize("envs", [256, 1024, 4096, 16384])
def test_scaling_over_environments(benchmark, record, scenarios, envs):
    rollout_speed(benchmark, record, scenarios, 0.0, envs=envs)


@pytest.mark.parametrize("agents", [8, 16, 64, 128])
def test_scaling_over_agents(benchmark, record, scenarios, agents):
    horizon = 40
    host = build_bank(scenarios, max_agents=agents, observed_pieces=None)
    rollout = Rollout(RolloutConfig(horizon=horizon), agents_of("log"), policy_of("log_replay"))
    bank, weights = rollout.put(host.bank), reward_of("perlad")
    episodes = sample_episodes(host, NUM_ENVS, horizon, 0)
    seconds = timed(benchmark, lambda: jax.block_until_ready(rollout(bank, episodes, weights)))
    record(scene_steps_per_s=NUM_ENVS * horizon / seconds, agents=agents)


def with_map_points(scenario, count: int):
    """The scenario with its lanes repeated beside its map, out of reach, until it has ``count`` map points."""
    road = scenario.road
    have = len(road.edges.values) + len(road.markings.line.values) + len(road.lanes.centre.values)
    copies = max(0, -(-(count - have) // max(len(road.edges.values), 1)))
    rows, width = road.edges.rows(), np.ptp(road.edges.values[:, 0]) + 500.0
    far = [row + np.float32([width * (k + 1), 0, 0]) for k in range(copies) for row in rows]
    return replace(
        scenario, road=replace(road, edges=Ragged.from_rows(rows + far, width=3, dtype=np.float32))
    )


MAP_POINTS = (1_000, 5_000, 20_000)


def test_cost_of_a_step_does_not_grow_with_the_map(benchmark, record):
    """CPU time with more and more map points on embedded scenes, measured in turns."""
    from perlsim.readers.synthetic import generate

    horizon, weights, runs = 80, reward_of("perlad"), {}
    scenes = list(generate(24, 0))
    rollout = Rollout(RolloutConfig(horizon=horizon), agents_of("log"), policy_of("log_replay"))
    for points in MAP_POINTS:
        larger = [with_map_points(scene, points) for scene in scenes]
        host = build_bank(larger, max_agents=NUM_AGENTS, observed_pieces=None)
        bank, episodes = rollout.put(host.bank), sample_episodes(host, NUM_ENVS, horizon, 0)
        runs[points] = partial(lambda b, e: jax.block_until_ready(rollout(b, e, weights)), bank, episodes)
        runs[points]()
    times = {points: [] for points in runs}

    def all_in_turn():
        for points, run in runs.items():
            begin = resource.getrusage(resource.RUSAGE_SELF)
            run()
            end = resource.getrusage(resource.RUSAGE_SELF)
            times[points].append(end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)

    benchmark.pedantic(all_in_turn, rounds=9, iterations=1, warmup_rounds=1)
    medians = {points: statistics.median(times[points]) for points in MAP_POINTS}
    ratio = medians[MAP_POINTS[-1]] / medians[MAP_POINTS[0]]
    curve = {f"cpu_s_{points}": medians[points] for points in MAP_POINTS}
    record(ratio=ratio, target=1.2, reached=bool(ratio <= 1.2), **curve)


def test_memory_of_4096_environments(benchmark, record, request):
    """Peak memory of the command itself, in a process of its own."""
    store = request.config.getoption("--store")
    command = [sys.executable, "-m", "perlsim.cli", "rollout", "--vmap", "4096", "--max-agents", "32"]
    command += ["--store", store] if store else []

    def run():
        subprocess.run(command, check=True, capture_output=True)

    benchmark.pedantic(run, rounds=1, iterations=1)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    record(peak_memory_gib=peak, target=4.0, reached=bool(peak <= 4.0))
    assert peak <= 4.0
