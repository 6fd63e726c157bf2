"""Which scenarios a command works on: those of a store, or embedded ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from perlsim.errors import PerlsimError, unknown_name
from perlsim.scenario import Scenario

# Scenarios of the embedded default.
EMBEDDED_SCENARIOS = 48
# Most scenarios of a store that one call uses, evenly spread over it: more would only cost time to load.
MAX_SCENARIOS = 512


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
        raise unknown_name("split", split, SPLITS, "--split")
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
