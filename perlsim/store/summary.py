"""What the manifest says about one scenario without opening its shard."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from perlsim.scenario import Scenario
from perlsim.store.tags import tags_of
from perlsim.vocabulary import AgentType, LightState


@dataclass(frozen=True)
class Summary:
    """One line of a store's manifest.

    Attributes:
        id, source, dataset, recording, place, licence, start_time: as in `Scenario`.
        source_file: name of the file the scene was read from.
        source_sha256: digest of that file (of a folder: of its data files), "" unknown.
        source_size: bytes of that file or folder, 0 unknown.
        tags: see `perlsim.store.tags.TAGS`.
        num_steps, dt, duration: number of logged steps, s between them, s in all.
        num_agents: road users, the ego among them.
        agents_by_type: number by lower-case name of `AgentType`.
        max_agents_at_once: largest number of valid road users at a step.
        num_lights, num_lights_known: controlled lanes, and those with a state known at some step.
        num_lanes, num_road_points: lanes, and points of lanes, markings, edges and crosswalks.
        has_ego: whether the log names its ego.
        repairs, missing, notes: as in `Scenario`.
        fingerprint: digest of the scene's fingerprint.
    """

    id: str
    source: str
    dataset: str
    recording: str
    place: str
    licence: str
    start_time: float
    source_file: str
    source_sha256: str
    source_size: int
    tags: tuple[str, ...]
    num_steps: int
    dt: float
    duration: float
    num_agents: int
    agents_by_type: dict[str, int]
    max_agents_at_once: int
    num_lights: int
    num_lights_known: int
    num_lanes: int
    num_road_points: int
    has_ego: bool
    repairs: tuple[str, ...]
    missing: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Identity of the scene in its data: format, data set and name."""
        return self.source, self.dataset, self.id

    @property
    def group(self) -> str:
        """What a split never cuts: the recording, or the scene itself where none is named."""
        return f"{self.dataset or self.source}:{self.recording or self.id}"

    def to_json(self) -> dict:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> Summary:
        """Inverse of `to_json`."""
        # Stores of schema version 1 have no notes.
        data = {"notes": (), **data}
        values: dict[str, Any] = {entry.name: data[entry.name] for entry in fields(cls)}
        for name in ("tags", "repairs", "missing", "notes"):
            values[name] = tuple(values[name])
        return cls(**values)


def summarise(
    scenario: Scenario, fingerprint: str, *, source_sha256: str = "", source_size: int = 0
) -> Summary:
    """The summary of a scenario with the digest of its fingerprint."""
    tracks, road, lights = scenario.tracks, scenario.road, scenario.lights
    kinds = Counter(AgentType(kind).name.lower() for kind in tracks.kind.tolist())
    lines = (road.lanes.centre, road.markings.line, road.edges, road.crosswalks)
    return Summary(
        id=scenario.scenario_id,
        source=scenario.source,
        dataset=scenario.dataset,
        recording=scenario.recording_id,
        place=scenario.place,
        licence=scenario.licence,
        start_time=float(scenario.start_time),
        source_file=scenario.source_file,
        source_sha256=source_sha256,
        source_size=source_size,
        tags=tags_of(scenario),
        num_steps=tracks.num_steps,
        dt=float(scenario.dt),
        duration=float(scenario.duration),
        num_agents=tracks.num_agents,
        agents_by_type=dict(sorted(kinds.items())),
        max_agents_at_once=int(tracks.valid.sum(0).max(initial=0)),
        num_lights=len(lights.position),
        num_lights_known=int(np.any(lights.state != LightState.UNKNOWN, axis=1).sum()),
        num_lanes=len(road.lanes),
        num_road_points=sum(len(line.values) for line in lines),
        has_ego=scenario.has_ego,
        repairs=scenario.repairs,
        missing=scenario.missing,
        fingerprint=fingerprint,
        notes=scenario.notes,
    )
