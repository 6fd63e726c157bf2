"""``perlsim rollout``: simulates episodes bucket by bucket, and reports speed, memory and outcomes."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perlsim.errors import PerlsimError
from perlsim.loading import group, load
from perlsim.output import plain, write_json

if TYPE_CHECKING:
    from perlsim.cli import Rollout as Arguments
    from perlsim.rollout_report import BucketRun
    from perlsim.scenario import Scenario

# A bucket is timed this often at least, for this long at least, unless it would take far longer [s].
MIN_REPEATS, MIN_SECONDS, MAX_SECONDS = 3, 2.0, 30.0


def run(
    args: Arguments,
    load_policy: Callable[[Path], Any] | None = None,
    load_agents: Callable[[Path], Any] | None = None,
) -> int:
    """Runs the command, prints the report and writes it as JSON.

    Args:
        args: of the command.
        load_policy, load_agents: read learned policies and agent models from their folders.

    Returns:
        Exit code: 0, or 1 where some episode has numbers that are not finite.

    Raises:
        PerlsimError: an unknown name, a horizon that plans do not divide, no scenario with an ego, fewer
            devices than asked for.
    """
    from rich.console import Console

    from perlsim import backend

    backend.setup(args.devices)
    import jax

    from perlsim.policies import policy_of
    from perlsim.rollout_report import RolloutReport, print_rollout
    from perlsim.sim.agents import agents_of
    from perlsim.sim.reward import reward_of
    from perlsim.sim.rollout import Rollout, RolloutConfig

    console = Console()
    devices = _devices(jax.devices(), args.devices)
    weights = reward_of(args.reward or "perlad")
    config = RolloutConfig(horizon=args.horizon)
    rollout = Rollout(
        config, agents_of(args.agents, load_agents), policy_of(args.policy, load_policy), devices
    )
    scenarios, notes = load(args.store, args.split, replayed=rollout.policy.replays_log)
    buckets = group(scenarios, args.max_agents)
    shares = share_out(args.vmap, [len(bucket) for bucket in buckets])
    if unused := sum(len(bucket) for bucket, count in zip(buckets, shares, strict=True) if not count):
        notes.append(
            f"{unused} scenarios not used: --vmap {args.vmap} is fewer than the {len(buckets)} size buckets"
        )
    seconds = max(MIN_SECONDS / len(buckets), 0.3)
    runs = []
    for bucket, count in zip(buckets, shares, strict=True):
        if count:
            plain(console, f"{len(bucket)} scenarios, {count} episodes: compiling and running")
            runs.append(run_bucket(rollout, bucket, count, weights, args.seed, args.max_agents, seconds))
    report = RolloutReport(args, config, runs, notes, devices, peak_memory_gib(devices))
    print_rollout(report, console)
    write_json(args.json, report.to_json())
    return 1 if "NON_FINITE" in report.doubts() else 0


def run_bucket(
    rollout: Any,
    scenarios: Sequence[Scenario],
    count: int,
    weights: Any,
    seed: int,
    max_agents: int | None,
    seconds: float,
) -> BucketRun:
    """Builds the bank of one bucket, compiles, and times ``count`` episodes; the bank is released afterwards.

    Args:
        rollout: `perlsim.sim.rollout.Rollout`.
        scenarios: of one bucket.
        count: number of episodes.
        weights: of the reward.
        seed: of the episodes.
        max_agents: as of `build_bank`.
        seconds: shortest time to measure over [s].
    """
    import jax

    from perlsim.bank_build import build_bank
    from perlsim.policies import observed_pieces
    from perlsim.rollout_report import BucketRun
    from perlsim.sim.rollout import sample_episodes

    begin = time.perf_counter()
    pieces = observed_pieces(rollout.policy, rollout.agents)
    host = build_bank(
        scenarios, max_agents=max_agents, observed_pieces=pieces, agent_paths=rollout.requires_paths
    )
    build_seconds = time.perf_counter() - begin
    replayed = rollout.policy.replays_log
    episodes = sample_episodes(host, count, rollout.config.horizon, seed, replayed=replayed)
    bank = rollout.put(host.bank)
    begin = time.perf_counter()
    result = jax.block_until_ready(rollout(bank, episodes, weights, seed))
    first = time.perf_counter() - begin
    times: list[float] = []
    while not times or (
        (len(times) < MIN_REPEATS or sum(times) < seconds)
        and sum(times) + statistics.median(times) < MAX_SECONDS
    ):
        begin = time.perf_counter()
        jax.block_until_ready(rollout(bank, episodes, weights, seed))
        times.append(time.perf_counter() - begin)
    median = statistics.median(times)
    present = (np.asarray(host.bank.tracks)[:, :, 7] > 0).any(1).sum(1)
    return BucketRun(
        info=host.info,
        scenario_idx=np.asarray(episodes.scenario_idx),
        result=jax.tree.map(np.asarray, result),
        seconds=median,
        build_seconds=build_seconds,
        compile_seconds=max(first - median, 0.0),
        agents_per_episode=float(present[np.asarray(episodes.scenario_idx)].mean()),
    )


def share_out(total: int, sizes: Sequence[int]) -> list[int]:
    """Splits ``total`` in proportion to sizes, by largest remainder; each gets at least 1 if it suffices."""
    if total < len(sizes):
        largest = sorted(range(len(sizes)), key=lambda i: -sizes[i])[:total]
        return [int(i in largest) for i in range(len(sizes))]
    exact = [(total - len(sizes)) * size / sum(sizes) for size in sizes]
    shares = [1 + int(value) for value in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: int(exact[i]) - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def peak_memory_gib(devices: Sequence[Any]) -> float:
    """Most memory in use so far [GiB]: of the fullest accelerator, or of this process on a CPU."""
    stats = [device.memory_stats() for device in devices]
    if all(stats):
        return max(entry["peak_bytes_in_use"] for entry in stats) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def _devices(found: Sequence[Any], wanted: int | None) -> list[Any]:
    if wanted is not None and wanted > len(found):
        raise PerlsimError(f"{wanted} devices asked for, {len(found)} found", field="--devices")
    return list(found[:wanted])
