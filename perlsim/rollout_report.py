"""The report of ``perlsim rollout``: as JSON, as a table, and doubts about it by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from perlsim import __version__
from perlsim.bank import BankInfo
from perlsim.sim.rollout import Result, RolloutConfig
from perlsim.sim.types import DOUBTS, Event

if TYPE_CHECKING:
    from perlsim.cli import Rollout as Arguments

# Scenarios listed by name in a warning.
NAMED_SCENARIOS = 5
_MEANING = {
    "LOOKUP_OVERFLOW": "lookup cells hold more road than their capacity: road events may be missed",
    "LEFT_MAP": "the ego left the indexed part of the map: road events are unknown there",
    "NON_FINITE": "poses or speeds are not finite numbers: these episodes are worthless",
}


@dataclass(frozen=True)
class BucketRun:
    """What one size bucket gave.

    Attributes:
        info: of its bank.
        scenario_idx: int ``[B]``, scenario of each episode.
        result: totals of each episode, numpy.
        seconds: median time of one run.
        build_seconds: time to build the bank on the host.
        compile_seconds: what the first run took longer.
        agents_per_episode: mean number of road users that the scenarios hold, padding not counted.
    """

    info: BankInfo
    scenario_idx: np.ndarray
    result: Result
    seconds: float
    build_seconds: float
    compile_seconds: float
    agents_per_episode: float

    @property
    def num_episodes(self) -> int:
        """Number of episodes, B."""
        return len(self.scenario_idx)


@dataclass(frozen=True)
class RolloutReport:
    """Everything that one call of the command found out.

    Attributes:
        args: of the command.
        config: of the rollouts.
        runs: of each bucket.
        notes: about what was left out.
        devices: used.
        peak_memory_gib: GiB.
    """

    args: Arguments
    config: RolloutConfig
    runs: Sequence[BucketRun]
    notes: Sequence[str]
    devices: Sequence[Any]
    peak_memory_gib: float

    @cached_property
    def result(self) -> Result:
        """Totals of all episodes."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), *(run.result for run in self.runs))

    @cached_property
    def scene_steps_per_s(self) -> float:
        """Steps of scenes simulated in a second, over all buckets."""
        steps = sum(run.num_episodes for run in self.runs) * self.config.horizon
        return steps / sum(run.seconds for run in self.runs)

    @cached_property
    def agent_steps_per_s(self) -> float:
        """Steps of road users (padding not counted) in a second."""
        steps = sum(run.num_episodes * run.agents_per_episode for run in self.runs) * self.config.horizon
        return steps / sum(run.seconds for run in self.runs)

    @cached_property
    def pad_fraction(self) -> float:
        """Share of track slots of all episodes that hold no road user."""
        slots = sum(run.num_episodes * run.info.num_agents for run in self.runs)
        padding = sum(run.num_episodes * run.info.num_agents * run.info.pad_fraction for run in self.runs)
        return padding / slots

    def outcomes(self) -> dict[str, float]:
        """Share of episodes in which each event happened."""
        return {
            str(event.name): float(np.mean(self.result.happened & int(event) != 0))
            for event in Event
            if not event & DOUBTS
        }

    def doubts(self) -> dict[str, dict[str, Any]]:
        """Doubts that arose: the share of episodes and the scenarios."""
        found = {}
        for event in DOUBTS:
            share = float(np.mean(self.result.doubts & int(event) != 0))
            if share:
                names = (
                    run.info.scenario_ids[idx]
                    for run in self.runs
                    for idx in np.unique(run.scenario_idx[run.result.doubts & int(event) != 0])
                )
                found[str(event.name)] = {"share": share, "scenario_ids": sorted(set(names))}
        return found

    def to_json(self) -> dict[str, Any]:
        """The report for scripts."""
        result, args = self.result, self.args
        return {
            "scene_steps_per_s": self.scene_steps_per_s,
            "agent_steps_per_s": self.agent_steps_per_s,
            "compile_s": sum(run.compile_seconds for run in self.runs),
            "build_s": sum(run.build_seconds for run in self.runs),
            "peak_memory_gib": self.peak_memory_gib,
            "device": device_name(self.devices),
            "num_devices": len(self.devices),
            "num_agents": max(run.info.num_agents for run in self.runs),
            "num_envs": sum(run.num_episodes for run in self.runs),
            "num_scenarios": sum(len(run.info.scenario_ids) for run in self.runs),
            "horizon": self.config.horizon,
            "replan_every": self.config.replan_every,
            "controller": self.config.sim.controller,
            "agents": args.agents,
            "policy": args.policy,
            "reward": args.reward or "perlad",
            "seed": args.seed,
            "store": None if args.store is None else str(args.store),
            "split": args.split,
            "pad_fraction": self.pad_fraction,
            "dropped_agents": sum(run.info.dropped_agents for run in self.runs),
            "outcomes": self.outcomes(),
            "reward_mean": float(np.mean(result.reward)),
            "log_distance_mean": float(np.mean(result.log_distance)),
            "end_distance_median": float(np.median(result.end_distance)),
            "progress_mean": float(np.mean(result.progress)),
            "steps_mean": float(np.mean(result.steps)),
            "doubts": self.doubts(),
            "notes": list(self.notes),
            "buckets": [_bucket(run, self.config.horizon) for run in self.runs],
            "perlsim_version": __version__,
            "jax_version": jax.__version__,
        }


def _bucket(run: BucketRun, horizon: int) -> dict[str, Any]:
    return {
        "num_agents": run.info.num_agents,
        "agents_per_episode": run.agents_per_episode,
        "num_scenarios": len(run.info.scenario_ids),
        "num_envs": run.num_episodes,
        "scene_steps_per_s": run.num_episodes * horizon / run.seconds,
        "seconds": run.seconds,
        "compile_s": run.compile_seconds,
        "build_s": run.build_seconds,
        "pad_fraction": run.info.pad_fraction,
        "dropped_agents": run.info.dropped_agents,
        "overflowing_cells": run.info.overflowing_cells,
        "map_points": run.info.map_points,
    }


def device_name(devices: Sequence[Any]) -> str:
    """Kind and number of devices, such as ``cpu x 2``."""
    return f"{devices[0].device_kind} x {len(devices)}"


def print_rollout(report: RolloutReport, console: Console) -> None:
    """Prints the report as a table, then notes and warnings."""
    content = report.to_json()
    title = f"rollout on {content['device']}, jax {content['jax_version']}"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in _rows(content):
        table.add_row(name, value)
    table.add_section()
    for name, share in content["outcomes"].items():
        if share:
            table.add_row(f"episodes with {name}", f"{share:.2%}")
    console.print(table, markup=False, highlight=False)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for name, doubt in report.doubts().items():
        names = doubt["scenario_ids"]
        listed = ", ".join(names[:NAMED_SCENARIOS]) + (", …" if len(names) > NAMED_SCENARIOS else "")
        console.print(
            f"warning: {name} in {doubt['share']:.2%} of the episodes: {_MEANING[name]}; "
            f"{len(names)} scenarios: {listed}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _rows(content: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("scene-steps/s", f"{content['scene_steps_per_s']:,.0f}"),
        ("agent-steps/s (road users of the log, no padding)", f"{content['agent_steps_per_s']:,.0f}"),
        ("compile [s]", f"{content['compile_s']:.1f}"),
        ("building banks [s]", f"{content['build_s']:.1f}"),
        ("peak memory [GiB]", f"{content['peak_memory_gib']:.2f}"),
        ("episodes x steps", f"{content['num_envs']} x {content['horizon']}"),
        ("scenarios in buckets", f"{content['num_scenarios']} in {len(content['buckets'])}"),
        ("agent slots by bucket", ", ".join(str(bucket["num_agents"]) for bucket in content["buckets"])),
        ("padding of the tracks", f"{content['pad_fraction']:.1%}"),
        ("road users dropped", str(content["dropped_agents"])),
        ("agents", content["agents"]),
        ("policy", content["policy"]),
        (f"reward ({content['reward']}), mean", f"{content['reward_mean']:.3f}"),
        ("distance to the log, mean [m]", f"{content['log_distance_mean']:.3f}"),
        ("progress, mean [m]", f"{content['progress_mean']:.1f}"),
    ]
