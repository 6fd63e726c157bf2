"""Scenarios of the parts of a data set, and their banks, kept within the memory that they may take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from perlsim.bank import HostBank
from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.scenario import Scenario

# An ego that is logged at fewer steps than this has nothing to be trained on.
_LEAST_STEPS = 2


def synthetic_scenarios(num: int, seed: int, families: Sequence[str] = ()) -> list[Scenario]:
    """Embedded logs.

    Args:
        num: how many.
        seed: of the generator.
        families: names of the families; all by default.
    """
    from perlsim.readers.synthetic import FAMILIES, generate

    return list(generate(num, seed, families or FAMILIES))


def stored_scenarios(store: Path, split: str, num: int, seed: int) -> list[Scenario]:
    """Scenarios of one split of a store that have an ego that drives.

    Args:
        store: its folder.
        split: train, val or test.
        num: most of them.
        seed: of the choice.

    Raises:
        PerlsimError: where there is none.
    """
    from perlsim.store import ScenarioStore

    opened = ScenarioStore.open(store)
    numbers = np.random.default_rng(seed).permutation(opened.select(split=split, has_ego=True))
    chosen: list[Scenario] = []
    for number in numbers.tolist():
        if len(chosen) == num:
            break
        scenario = opened[number]
        if scenario.tracks.valid[scenario.ego.idx].sum() >= _LEAST_STEPS:
            chosen.append(scenario)
    if not chosen:
        raise PerlsimError(
            f"the split {split} holds no scenario with an ego that drives",
            file=store,
            remedy="import more logs, or deal them otherwise with --split-fractions or --split-seed",
        )
    return chosen


def bank_within(
    scenarios: Sequence[Scenario],
    gib: float,
    *,
    max_agents: int,
    observed_pieces: tuple[int, int],
    agent_paths: bool,
) -> HostBank:
    """One bank of scenarios.

    Args:
        scenarios: of it.
        gib: most memory [GiB].
        max_agents, observed_pieces, agent_paths: see `build_bank`.

    Raises:
        PerlsimError: where it is larger.
    """
    slots = min(max_agents, 1 + max(scenario.tracks.num_agents for scenario in scenarios))
    host = build_bank(scenarios, max_agents=slots, observed_pieces=observed_pieces, agent_paths=agent_paths)
    size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(host.bank)) / 2**30
    if size > gib:
        fewer = int(len(scenarios) * gib / size)
        raise PerlsimError(
            f"the bank of {len(scenarios)} scenarios takes {size:.2f} GiB, allowed are {gib:g}",
            field="data.bank_gib",
            remedy=f"take {fewer} scenarios or fewer (data.train.num), fewer data.max_agents, or raise the limit",
        )
    return host
