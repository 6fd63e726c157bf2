"""Writes generated logs to a store, made on all cores; the result does not depend on how many there are."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from perlsim.errors import PerlsimError
from perlsim.readers.synthetic import FAMILIES, SHARING, generate
from perlsim.store.encoding import Encoded, encode
from perlsim.store.store import ScenarioStore
from perlsim.store.writer import StoreWriter

_LARGEST_BLOCK = 64  # scenes of each family: enough for numpy's batches, few enough to keep in memory
_AHEAD = 2  # blocks a process may be ahead of the writer


def generate_logs(
    num: int,
    seed: int,
    store_path: Path,
    *,
    families: Sequence[str] = (),
    num_workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Generates logs into a store, which is made where there is none; scenes it has already are left out.

    Args:
        num: number of scenes.
        seed: see `perlsim.readers.synthetic.generate`.
        store_path: folder of the store.
        families: names of scenario families, none for all.
        num_workers: processes, None for one per core.
        progress: called now and then with the number of scenes done with.

    Returns:
        Number of scenes added.

    Raises:
        PerlsimError: an argument is out of range, the store cannot be written to, or a process died.
    """
    names = tuple(families) or FAMILIES
    generate(num, seed, names)  # refuses wrong arguments before anything is written
    store = ScenarioStore.open_or_create(store_path)
    stored = frozenset(summary.id for summary in store.summaries if summary.source == "synthetic")
    blocks, workers = _dealt(num, seed, names, num_workers or os.cpu_count() or 1)
    make = partial(_make, stored=stored)
    added = done = 0
    with StoreWriter(store) as writer:
        for block, scenes in zip(blocks, _on_cores(make, blocks, workers), strict=True):
            for scene in scenes:
                writer.add_encoded(scene)
            added, done = added + len(scenes), done + block.count
            progress(done)
    return added


@dataclass(frozen=True)
class _Block:
    """Scenes ``first`` to ``first + count`` of a seed."""

    first: int
    count: int
    seed: int
    families: tuple[str, ...]


def _dealt(num: int, seed: int, families: tuple[str, ...], workers: int) -> tuple[list[_Block], int]:
    """Blocks of equal size, as many as or a multiple of the processes, and how many of those have work."""
    workers = max(min(workers, num // (SHARING * len(families))), 1)
    rounds = math.ceil(num / (workers * _LARGEST_BLOCK * len(families)))
    size = math.ceil(num / (workers * rounds * len(families))) * len(families)
    return [_Block(first, min(size, num - first), seed, families) for first in range(0, num, size)], workers


def _make(block: _Block, stored: frozenset[str]) -> list[Encoded]:
    """The scenes of a block that are not in the store yet."""
    scenes = generate(block.count, block.seed, block.families, first=block.first)
    # Every scene is drawn anew, so none is looked for among the others.
    return [encode(scene, comparable=False) for scene in scenes if scene.scenario_id not in stored]


def _on_cores(
    make: Callable[[_Block], list[Encoded]], blocks: Sequence[_Block], workers: int
) -> Iterator[list[Encoded]]:
    """Results of the blocks in order; a single process is this one."""
    if workers == 1:
        yield from map(make, blocks)
        return
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    pool = ProcessPoolExecutor(workers, context, initializer=_ignore_interrupts)
    running: deque[Future[list[Encoded]]] = deque()
    try:
        for block in blocks:
            running.append(pool.submit(make, block))
            if len(running) >= _AHEAD * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    except BrokenProcessPool as error:
        raise PerlsimError(
            "a generating process was ended from outside, perhaps for want of memory",
            remedy="use fewer --workers; what was made is in the store, and the same command makes the rest",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the writer, which ends its pool
