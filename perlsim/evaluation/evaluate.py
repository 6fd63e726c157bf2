"""Evaluation of several policies on the same scenes: metrics of each scene, and rollouts to look at.

Each policy's results are kept as soon as they are complete, so that a run that was killed goes on with the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from perlsim.evaluation.closed_loop import ClosedLoop, story
from perlsim.evaluation.navsim import Navsim
from perlsim.evaluation.report import without_nan
from perlsim.evaluation.scenes import Bucket, EvalScene, into_buckets
from perlsim.output import plain
from perlsim.policies import observed_pieces
from perlsim.runs import file_name_of
from perlsim.sim.rollout import RolloutConfig

if TYPE_CHECKING:
    from rich.console import Console

    from perlsim.runs import RunFolder


@dataclass
class Evaluation:
    """What all policies of one evaluation share.

    Attributes:
        scenes: in order.
        agents: agent model.
        agents_name: its name, for pages.
        console: to report on.
        folder: of the run; None keeps nothing.
        config: of closed loops.
        seed: of all randomness.
        max_agents: as of `build_bank`.
        starts: of second stages, by name of the scene.
        rollouts: scenes of each policy whose rollouts are kept in the folder, evenly spread.
        observed: policies that will be evaluated, for what banks must hold.
    """

    scenes: list[EvalScene]
    agents: Any
    agents_name: str
    console: Console
    folder: RunFolder | None = None
    config: RolloutConfig = field(default_factory=lambda: RolloutConfig(horizon=40))
    seed: int = 0
    max_agents: int | None = None
    starts: Mapping[str, Any] = field(default_factory=dict)
    rollouts: int = 100
    observed: tuple[Any, ...] = ()

    def __post_init__(self):
        pieces = observed_pieces(*self.observed, self.agents)
        self._buckets = into_buckets(self.scenes, self.max_agents, self.agents.requires_paths, pieces)
        self._navsim = Navsim(self.agents, self.seed, self.starts)
        self._banks: dict[int, Any] = {}

    def rows(self, name: str, policy: Any) -> dict[str, dict]:
        """Metrics of every scene of one policy, by name of the scene; taken from the folder if it has them.

        Args:
            name: of the policy in the folder.
            policy: itself.
        """
        key = file_name_of(name)
        if self.folder is not None and (done := self.folder.part(key)) is not None:
            if done.keys() == {scene.scene_id for scene in self.scenes}:
                plain(self.console, f"{name}: taken from the run folder")
                return done
            # The same options give other scenes where the code that makes or chooses them was changed.
            plain(self.console, f"{name}: what the run folder holds is of other scenes")
        plain(self.console, f"{name}: compiling and running")
        rows = self._evaluated(name, policy)
        if self.folder is not None:
            # Last of all: with it, the policy counts as finished.
            self.folder.write_part(key, rows)
        return rows

    def _evaluated(self, name: str, policy: Any) -> dict[str, dict]:
        loop = ClosedLoop(self.config, self.agents, policy)
        kept = _kept(len(self.scenes), self.rollouts)
        rows: dict[str, dict] = {}
        with _rollouts(self.folder, name) as keep:
            for number, bucket in enumerate(self._buckets):
                bank = self._bank(number, bucket, loop)
                scored = self._navsim.score(policy, bucket, bank)
                driven = loop.run(bucket, bank, self.seed)
                for place, (scene, metrics, trace, log_ego), own in zip(
                    bucket.numbers, driven, scored, strict=True
                ):
                    rows[scene.scene_id] = without_nan({**own, **metrics})
                    if keep is not None and int(place) in kept:
                        line = story(scene, rows[scene.scene_id], trace, log_ego, self.config.replan_every)
                        keep(scene, trace, line, f"policy {name}, agents {self.agents_name}")
        return {scene.scene_id: rows[scene.scene_id] for scene in self.scenes}

    def _bank(self, number: int, bucket: Bucket, loop: ClosedLoop) -> Any:
        """The bank of a bucket on the device, put there when first needed."""
        if number not in self._banks:
            self._banks[number] = loop.put(bucket.host.bank)
        return self._banks[number]


@contextlib.contextmanager
def _rollouts(folder: RunFolder | None, name: str) -> Iterator[Any]:
    """Writes rollouts of one policy beside each other; they are in their place once all are written."""
    from perlsim.runs import file_name_of
    from perlsim.store import ScenarioStore
    from perlsim.store.writer import StoreWriter
    from perlsim.trace import simulated_scenario

    if folder is None:
        yield None
        return
    place = f"rollouts/{file_name_of(name)}"
    lines: list[bytes] = []
    with StoreWriter(ScenarioStore.create(folder.fresh_folder(place))) as writer:

        def keep(scene: EvalScene, trace: Any, line: dict, made_by: str) -> None:
            made = simulated_scenario(
                scene.scenario, trace, scene.start, scenario_id=scene.scene_id, made_by=made_by
            )
            writer.add(made)
            lines.append(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY))

        yield keep
    folder.settle(place)
    folder.write(f"{place}.jsonl", b"\n".join(lines).decode() + "\n" if lines else "")


def _kept(count: int, most: int) -> set[int]:
    """Places of the scenes whose rollouts are kept, evenly spread."""
    if most <= 0:
        return set()
    return set(np.linspace(0, count - 1, min(most, count)).astype(int).tolist())
