"""``perlsim rollout``: simulates episodes bucket by bucket, and reports speed, memory and outcomes."""

from __future__ import annotations

import difflib
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perlsim.errors import PerlsimError

if TYPE_CHECKING:
    from rich.console import Console

    from perlsim.cli import Rollout as Arguments
    from perlsim.rollout_report import BucketRun
    from perlsim.scenario import Scenario

# Scenarios of the embedded default.
EMBEDDED_SCENARIOS = 48
# Most scenarios of a store that one call uses, evenly spread over it: more would only cost time to load.
MAX_SCENARIOS = 512
# A bucket is timed this often at least, for this long at least, unless it would take far longer [s].
MIN_REPEATS, MIN_SECONDS, MAX_SECONDS = 3, 2.0, 30.0


def run(args: Arguments) -> int:
    """Runs the command, prints the report and writes it as JSON.

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
    weights = named(reward_of, args.reward or "perlad")
    config = RolloutConfig(horizon=args.horizon)
    rollout = Rollout(config, named(agents_of, args.agents), named(policy_of, args.policy), devices)
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
    from perlsim.rollout_report import BucketRun
    from perlsim.sim.rollout import sample_episodes

    begin = time.perf_counter()
    # Rule-based policies are privileged: nothing is observed.
    host = build_bank(
        scenarios, max_agents=max_agents, observed_pieces=None, agent_paths=rollout.requires_paths
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


def load(store: Path | None, split: str | None, *, replayed: bool = True) -> tuple[list[Scenario], list[str]]:
    """The scenarios to simulate, and notes about those that were left out.

    Args:
        store: folder of a store; None makes embedded synthetic logs.
        split: of the store; None takes all.
        replayed: whether to leave out scenarios whose egos are logged at a single step.

    Raises:
        PerlsimError: a split without a store, an unknown split, a selection without any ego.
    """
    if store is None:
        from perlsim.readers.synthetic import generate

        if split is not None:
            raise PerlsimError(
                "embedded logs have no splits", field="--split", remedy="name a store with --store"
            )
        return list(generate(EMBEDDED_SCENARIOS, 0)), []
    from perlsim.store import SPLITS, ScenarioStore

    if split is not None and split not in SPLITS:
        raise PerlsimError(f"unknown split {split!r}{_nearest(split, SPLITS)}", field="--split")
    opened = ScenarioStore.open(store)
    selected = opened.select(split=split)
    with_ego = opened.select(split=split, has_ego=True)
    notes = []
    if without := len(selected) - len(with_ego):
        notes.append(f"{without} of {len(selected)} scenarios left out: their logs name no ego")
    if len(with_ego) > MAX_SCENARIOS:
        notes.append(f"{MAX_SCENARIOS} of {len(with_ego)} scenarios used, evenly spread over the store")
        with_ego = [with_ego[i] for i in np.linspace(0, len(with_ego) - 1, MAX_SCENARIOS).astype(int)]
    scenarios = [opened[number] for number in with_ego]
    least = 2 if replayed else 1
    driven = [scenario for scenario in scenarios if scenario.tracks.valid[scenario.ego.idx].sum() >= least]
    if still := len(scenarios) - len(driven):
        notes.append(
            f"{still} scenarios left out: their egos are logged at a single step, nothing can be replayed"
        )
    if not driven:
        raise PerlsimError(
            f"none of {len(selected)} scenarios has an ego that drives",
            file=store,
            remedy="choose one with --ego at import, or import logs that have one",
        )
    return driven, notes


def group(scenarios: Iterable[Scenario], max_agents: int | None) -> list[list[Scenario]]:
    """Scenarios by size bucket, smallest first: each bucket is one compiled program."""
    from perlsim.bank_build import bucket_of

    buckets: dict[int, list[Scenario]] = defaultdict(list)
    for scenario in scenarios:
        buckets[bucket_of(scenario, max_agents)].append(scenario)
    return [buckets[size] for size in sorted(buckets)]


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


def named(make: Callable[[str], Any], name: str) -> Any:
    """What a name stands for; an error about an unknown one also suggests the nearest."""
    try:
        return make(name)
    except PerlsimError as error:
        known = (error.remedy or "").removeprefix("known: ").split(", ")
        suggestion = _nearest(name, known)
        raise PerlsimError(
            error.message + suggestion, field=f"--{error.field}" if error.field else None, remedy=error.remedy
        ) from error


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f", did you mean {close[0]}?" if close else ""


def plain(console: Console, line: str) -> None:
    """Prints a line as it is: not wrapped, nothing in it taken for markup."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def write_json(path: Path | None, content: dict) -> None:
    """Writes the result of a command where it was asked for.

    Raises:
        PerlsimError: where it cannot be written.
    """
    if path is None:
        return
    import orjson

    from perlsim.store.manifest import write_durably

    try:
        write_durably(path, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    except OSError as error:
        raise PerlsimError(f"cannot be written: {error.strerror}", file=path, field="--json") from error
