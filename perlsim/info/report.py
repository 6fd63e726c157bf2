"""What a store holds, by source and in total."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from perlsim.info.sanity import Sanity, sanity_of
from perlsim.store.manifest import SCHEMA_VERSION
from perlsim.store.store import ScenarioStore
from perlsim.store.summary import Summary


@dataclass(frozen=True)
class SourceReport:
    """Counts and sanity numbers of the scenes of one source and data set, or of all.

    Attributes:
        source, dataset, licences: which scenes; "all" and "" for the total.
        scenes, hours, steps: number of scenes, time logged, number of logged steps.
        step_seconds: distinct times between steps, s.
        agents, agents_by_type: road users, by lower-case name of `AgentType`.
        max_agents_at_once: largest number of valid road users at a step of any scene.
        lights, lights_known: controlled lanes, and those with a state known at some step.
        lanes, road_points: of the maps.
        scenes_with_ego: scenes whose log names its ego.
        missing: scenes by what their format does not give.
        repairs: number of scenes with a repair.
        splits, tags: scenes by split and by tag.
        padding: share of agents × steps that is empty once scenes are padded to the largest scene.
        overlap_scenes, overlap_steps, overlap_agents: where the logged ego overlaps another box.
        heading_error: rad, median over scenes of the median |heading − direction of motion| of the ego.
        heading_error_worst: rad, the largest of those medians.
        speed_error, speed_error_worst: relative difference of |velocity| and change of position, likewise.
    """

    source: str
    dataset: str
    licences: tuple[str, ...]
    scenes: int
    hours: float
    steps: int
    step_seconds: tuple[float, ...]
    agents: int
    agents_by_type: dict[str, int]
    max_agents_at_once: int
    lights: int
    lights_known: int
    lanes: int
    road_points: int
    scenes_with_ego: int
    missing: dict[str, int]
    repairs: int
    splits: dict[str, int]
    tags: dict[str, int]
    padding: float
    overlap_scenes: int
    overlap_steps: int
    overlap_agents: int
    heading_error: float | None
    heading_error_worst: float | None
    speed_error: float | None
    speed_error_worst: float | None


@dataclass(frozen=True)
class StoreReport:
    """What a store holds.

    Attributes:
        path, schema_version, num_bytes, shards: of the store.
        logs: log files and folders read.
        duplicates: pairs of scenes that show the same instants: the later one left out, kept as a duplicate,
            or kept as another scene of the same traffic, in the same split ("linked").
        sources: by source and data set; the total is last.
    """

    path: str
    schema_version: int
    num_bytes: int
    shards: int
    logs: int
    duplicates: dict[str, int]
    sources: tuple[SourceReport, ...]

    def to_json(self) -> dict:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Scene:
    summary: Summary
    split: str
    sanity: Sanity | None


def report_store(store: ScenarioStore) -> StoreReport:
    """Reads every scene of a store and reports."""
    scenes = [
        _Scene(summary, split, sanity_of(scenario))
        for summary, split, scenario in zip(store.summaries, store.splits, store, strict=True)
    ]
    names = sorted({(scene.summary.source, scene.summary.dataset) for scene in scenes})
    groups = [
        _report(
            source, dataset, [s for s in scenes if (s.summary.source, s.summary.dataset) == (source, dataset)]
        )
        for source, dataset in names
    ]
    shards = store.manifest.shards
    pairs = list(store.duplicates)
    return StoreReport(
        path=str(store.path),
        schema_version=SCHEMA_VERSION,
        num_bytes=sum(shard.arrow.size + shard.sidecar.size for shard in shards),
        shards=len(shards),
        logs=len(list(store.files)),
        duplicates={
            "left_out": sum(not pair.kept for pair in pairs),
            "kept": sum(pair.kept and pair.is_duplicate for pair in pairs),
            "linked": sum(pair.kept and not pair.is_duplicate for pair in pairs),
        },
        sources=(*groups, _report("all", "", scenes)),
    )


def _report(source: str, dataset: str, scenes: Sequence[_Scene]) -> SourceReport:
    summaries = [scene.summary for scene in scenes]
    sane = [scene.sanity for scene in scenes if scene.sanity]
    heading, heading_worst = _middle_and_worst(sanity.heading_error for sanity in sane)
    speed, speed_worst = _middle_and_worst(sanity.speed_error for sanity in sane)
    kinds: Counter[str] = Counter()
    for summary in summaries:
        kinds.update(summary.agents_by_type)
    return SourceReport(
        source=source,
        dataset=dataset,
        licences=tuple(sorted({summary.licence for summary in summaries})),
        scenes=len(scenes),
        hours=sum(summary.duration for summary in summaries) / 3600,
        steps=sum(summary.num_steps for summary in summaries),
        step_seconds=tuple(sorted({round(summary.dt, 6) for summary in summaries})),
        agents=sum(summary.num_agents for summary in summaries),
        agents_by_type=dict(sorted(kinds.items())),
        max_agents_at_once=max((summary.max_agents_at_once for summary in summaries), default=0),
        lights=sum(summary.num_lights for summary in summaries),
        lights_known=sum(summary.num_lights_known for summary in summaries),
        lanes=sum(summary.num_lanes for summary in summaries),
        road_points=sum(summary.num_road_points for summary in summaries),
        scenes_with_ego=sum(summary.has_ego for summary in summaries),
        missing=_count(name for summary in summaries for name in summary.missing),
        repairs=sum(bool(summary.repairs) for summary in summaries),
        splits=_count(scene.split for scene in scenes),
        tags=_count(tag for summary in summaries for tag in summary.tags),
        padding=_padding(summaries),
        overlap_scenes=sum(sanity.overlap_steps > 0 for sanity in sane),
        overlap_steps=sum(sanity.overlap_steps for sanity in sane),
        overlap_agents=sum(sanity.overlap_agents for sanity in sane),
        heading_error=heading,
        heading_error_worst=heading_worst,
        speed_error=speed,
        speed_error_worst=speed_worst,
    )


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _middle_and_worst(values: Iterable[float]) -> tuple[float | None, float | None]:
    known = [value for value in values if not math.isnan(value)]
    return (median(known), max(known)) if known else (None, None)


def _padding(summaries: Sequence[Summary]) -> float:
    if not summaries:
        return 0.0
    largest = max(s.num_agents for s in summaries) * max(s.num_steps for s in summaries)
    held = sum(s.num_agents * s.num_steps for s in summaries)
    return 1.0 - held / (largest * len(summaries)) if largest else 0.0
