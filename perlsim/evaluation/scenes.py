"""Which scenes policies are scored on: windows of logs, and the banks that hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perlsim.bank import STEP, HostBank
from perlsim.bank_build import bucket_of, build_bank
from perlsim.errors import PerlsimError
from perlsim.scenario import Scenario
from perlsim.sim.rollout import Episodes

# Seconds between the starts of windows of one log: NAVSIM's frames are 0.5 s apart.
STRIDE = 0.5
# Steps of history that NAVSIM's frames have: 1.5 s.
HISTORY = 15
# An ego that gets less far than this [m] in a window stands still.
STANDING_DISTANCE = 0.5
# Agent slots of buckets: fewer than a rollout's, since a program takes longer to compile than to run here.
AGENT_SLOTS = (64, 256, 1024)
# Number of scenes of the embedded default.
EMBEDDED_SCENES = 48


@dataclass(frozen=True)
class EvalScene:
    """A window of a log.

    Attributes:
        scene_id: name, unique in an evaluation: the scenario's and the start step.
        scenario: the log.
        start: step of `STEP` at which it begins.
    """

    scene_id: str
    scenario: Scenario
    start: int

    @property
    def cluster(self) -> str:
        """Scenes of one recording are not independent of each other."""
        return f"{self.scenario.source}:{self.scenario.recording_id or self.scenario.scenario_id}"


@dataclass(frozen=True)
class Selection:
    """Scenes, and what was left out.

    Attributes:
        scenes: in the order of their logs.
        notes: about what was left out, sentences.
    """

    scenes: list[EvalScene]
    notes: list[str]


@dataclass(frozen=True)
class Bucket:
    """Scenes whose logs share one bank, and so one compiled program.

    Attributes:
        host: the bank.
        scenes: of it.
        numbers: int ``[B]``, place of each in the evaluation.
        episodes: of them, numbered by their place.
    """

    host: HostBank
    scenes: list[EvalScene]
    numbers: np.ndarray
    episodes: Episodes


def logs_of(store: Path | None, count: int | None, seed: int, split: str | None) -> Iterator[Scenario]:
    """Logs with an ego in random order; without a store ``count`` embedded synthetic ones.

    Raises:
        PerlsimError: a split without a store, an unknown split.
    """
    if store is None:
        from perlsim.readers.synthetic import generate

        if split is not None:
            raise PerlsimError(
                "embedded logs have no splits", field="--split", remedy="name a store with --store"
            )
        yield from generate(count or EMBEDDED_SCENES, seed)
        return
    from perlsim.store import ScenarioStore

    opened = ScenarioStore.open(store)
    numbers = opened.select(split=split, has_ego=True)
    for number in np.random.default_rng(seed).permutation(numbers):
        yield opened[int(number)]


def choose_scenes(
    logs: Iterable[Scenario],
    horizon: int,
    *,
    count: int | None = None,
    seed: int = 0,
    include_standing: bool = False,
    stride: float = STRIDE,
) -> Selection:
    """Windows of logs in which the ego is there at every step, and in the 1.5 s before, NAVSIM's history.

    NAVSIM leaves out scenes that are trivial; of these, ones in which the ego hardly moves are left out here too
    unless asked for: every policy that waits solves them.

    Args:
        logs: in random order.
        horizon: steps of `STEP` that must be logged after the start.
        count: most scenes, spread over as many logs as there are; None takes all.
        seed: of the choice among the windows of a log.
        include_standing: whether to keep scenes in which the ego gets nowhere.
        stride: s between the starts of windows.
    """
    random = np.random.default_rng(seed)
    short, standing, unmoved = 0, 0, 0
    rounds: list[tuple[int, int, Scenario, int]] = []
    used = 0
    for log in logs:
        starts, moves = _starts(log, horizon, stride)
        kept = starts if include_standing else starts[moves]
        short += not len(starts)
        standing += len(starts) - len(kept)
        unmoved += len(starts) > 0 and not len(kept)
        if len(kept):
            drawn = random.permutation(kept)
            rounds += [(turn, used, log, int(start)) for turn, start in enumerate(drawn)]
            used += 1
        if count is not None and used >= count:
            break
    # Every log gets a first window before any gets a second.
    chosen = sorted(rounds, key=lambda entry: entry[:2])[:count]
    chosen.sort(key=lambda entry: (entry[2].source, entry[2].scenario_id, entry[3]))
    notes = []
    if short:
        notes.append(
            f"{short} logs left out: their egos are not logged over {(HISTORY + horizon) * STEP:g} s in a row"
        )
    if standing:
        notes.append(
            f"{standing} windows left out ({unmoved} logs in whole): "
            f"the ego gets less than {STANDING_DISTANCE:g} m far; --include-standing keeps them"
        )
    return Selection(_named([(log, start) for _, _, log, start in chosen]), notes)


def scenes_named(logs: Iterable[Scenario], wanted: Iterable[tuple[str, str, int]]) -> list[EvalScene]:
    """Given windows of logs: (source, scenario_id, start) each.

    Raises:
        PerlsimError: where a log is not among those given.
    """
    starts: dict[tuple[str, str], list[int]] = {}
    for source, name, start in wanted:
        starts.setdefault((source, name), []).append(start)
    found = {(log.source, log.scenario_id): log for log in logs if (log.source, log.scenario_id) in starts}
    if missing := sorted(starts.keys() - found.keys()):
        raise PerlsimError(
            f"{len(missing)} scenarios are not among the logs; the first is {missing[0][1]} of {missing[0][0]}",
            field="--stage2",
            remedy="name the store and split that the starts were made from",
        )
    return _named([(found[key], start) for key in sorted(starts) for start in sorted(starts[key])])


def into_buckets(
    scenes: Sequence[EvalScene],
    max_agents: int | None,
    agent_paths: bool,
    observed_pieces: tuple[int, int] | None = None,
) -> list[Bucket]:
    """Banks for scenes, smallest first.

    Args:
        scenes: in order.
        max_agents: as of `build_bank`.
        agent_paths: whether road users follow lane paths.
        observed_pieces: as of `build_bank`.
    """
    exact = [bucket_of(scene.scenario, max_agents) for scene in scenes]
    sizes = [next(size for size in AGENT_SLOTS if size >= slots) for slots in exact]
    buckets = []
    for size in sorted(set(sizes)):
        numbers = np.flatnonzero(np.array(sizes) == size)
        members = [scenes[number] for number in numbers.tolist()]
        # By identity: names may repeat across sources.
        logs = list({id(scene.scenario): scene.scenario for scene in members}.values())
        place = {id(log): idx for idx, log in enumerate(logs)}
        host = build_bank(
            logs,
            max_agents=max_agents,
            agent_paths=agent_paths,
            observed_pieces=observed_pieces,
        )
        episodes = Episodes(
            np.array([place[id(scene.scenario)] for scene in members], np.int32),
            np.array([scene.start for scene in members], np.int32),
            numbers.astype(np.int32),
        )
        buckets.append(Bucket(host, members, numbers, episodes))
    return buckets


def _starts(scenario: Scenario, horizon: int, stride: float) -> tuple[np.ndarray, np.ndarray]:
    """Starts of windows, every stride from the first, and whether the ego moves in each."""
    place, valid = _ego_on_grid(scenario)
    if len(valid) <= HISTORY + horizon:
        return np.zeros(0, int), np.zeros(0, bool)
    whole = np.lib.stride_tricks.sliding_window_view(valid, HISTORY + horizon + 1).all(1)
    starts = np.flatnonzero(whole) + HISTORY
    if not len(starts):
        return starts, np.zeros(0, bool)
    starts = starts[(starts - starts[0]) % max(round(stride / STEP), 1) == 0]
    windows = place[starts[:, None] + np.arange(horizon + 1)]
    reach = np.hypot(*(windows - windows[:, :1]).transpose(2, 0, 1)).max(1)
    return starts, reach >= STANDING_DISTANCE


def _ego_on_grid(scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``[T, 2]`` of the logged ego every `STEP`, and whether it is there."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    steps = int(np.floor(scenario.duration / STEP + 1e-6)) + 1
    times = np.arange(steps) * STEP / scenario.dt
    low = np.minimum(np.floor(times + 1e-4).astype(int), tracks.num_steps - 1)
    high = np.minimum(np.ceil(times - 1e-4).astype(int), tracks.num_steps - 1)
    logged = np.arange(tracks.num_steps)
    place = np.stack([np.interp(times, logged, tracks.position[ego, :, axis]) for axis in (0, 1)], 1)
    return place, tracks.valid[ego, low] & tracks.valid[ego, high]


def _named(windows: list[tuple[Scenario, int]]) -> list[EvalScene]:
    """Scenes of windows; where two logs of different sources share a name, it gets the source's before it."""
    sources: dict[str, set[str]] = {}
    for log, _ in windows:
        sources.setdefault(log.scenario_id, set()).add(log.source)
    scenes = []
    for log, start in windows:
        prefix = f"{log.source}:" if len(sources[log.scenario_id]) > 1 else ""
        scenes.append(EvalScene(f"{prefix}{log.scenario_id}@{start}", log, start))
    repeated = [name for name, times in Counter(scene.scene_id for scene in scenes).items() if times > 1]
    if repeated:
        raise PerlsimError(
            f"two logs of one source share the name of scene {repeated[0]}",
            remedy="import without --keep-duplicates into a new store",
        )
    return scenes
