"""Checkpoints of a training: atomic, checked when they are read, several kept.

Orbax stores and reads the arrays. It reads damaged files without a word, so a digest of each array stands beside
them, and `Checkpoints.restore` falls back to the newest checkpoint in which all of them agree::

    FOLDER/00000400/arrays/…      by Orbax
    FOLDER/00000400/digests.json  of each array; what was measured at this point
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orjson

from perlsim.errors import PerlsimError
from perlsim.store.manifest import write_durably

KEPT = 3
_ARRAYS, _DIGESTS = "arrays", "digests.json"


class Restored(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        tree: the arrays, numpy.
        update: after how many updates it was written.
        figures: what was measured then.
        problems: sentences about newer checkpoints that are damaged.
    """

    tree: Any
    update: int
    figures: dict[str, float]
    problems: list[str]


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: of all of them; made when the first is written.
        score: name of the figure that is better the higher it is: the best checkpoint by it is kept too.
    """

    def __init__(self, folder: Path, score: str = "score"):
        self.folder, self._score = Path(folder).resolve(), score

    def save(self, update: int, tree: Any, figures: dict[str, float]) -> None:
        """Writes a checkpoint, whole or not at all, and deletes old ones: the last `KEPT` stay, and the best.

        Args:
            update: number of updates done.
            tree: pytree of arrays.
            figures: measured at this point.
        """
        place = self.folder / f"{update:08d}"
        fresh = place.with_suffix(".tmp")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        named = {name: np.asarray(leaf) for name, leaf in by_name(tree).items()}
        import orbax.checkpoint as ocp

        # Orbax refuses arrays without content.
        filled = {name: leaf for name, leaf in named.items() if leaf.size}
        with _orbax() as orbax:
            orbax.save(fresh / _ARRAYS, args=ocp.args.PyTreeSave(filled))  # pyright: ignore[reportCallIssue]
        content = {"digests": {name: _digest(leaf) for name, leaf in named.items()}, "figures": figures}
        # Last of all, since a checkpoint without it does not count.
        write_durably(fresh / _DIGESTS, orjson.dumps(content))
        shutil.rmtree(place, ignore_errors=True)
        os.replace(fresh, place)
        self._delete_old()

    def restore(self, like: Any, *, best: bool = False) -> Restored | None:
        """The newest checkpoint that is not damaged, None where none was ever written.

        Args:
            like: a pytree of the same structure, shapes and types.
            best: take the one with the highest score in place of the newest.

        Raises:
            PerlsimError: all are damaged or of another structure.
        """
        updates = sorted(self._updates(), reverse=True)
        if best:
            scores = {update: self._score_of(update) for update in updates}
            # Without scores the newest; of equals the first, which was good with less training.
            updates.sort(
                key=lambda update: (-scores[update], update if scores[update] > -np.inf else -update)
            )
        problems: list[str] = []
        for update in updates:
            place = self.folder / f"{update:08d}"
            try:
                tree, figures = _read(place, like)
            except Exception as error:  # Orbax and tensorstore raise many kinds for damaged files
                problems.append(f"{place}: {error}".splitlines()[0])
                continue
            return Restored(tree, update, figures, problems)
        if updates:
            raise PerlsimError(
                f"none of {len(updates)} checkpoints can be used; {problems[0]}",
                file=self.folder,
                remedy="begin again with --fresh",
            )
        return None

    def _updates(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return [int(entry.name) for entry in self.folder.iterdir() if entry.name.isdigit()]

    def _score_of(self, update: int) -> float:
        """The score of a checkpoint; −∞ where it has none or cannot be read."""
        try:
            content = orjson.loads((self.folder / f"{update:08d}" / _DIGESTS).read_bytes())
            return float(content["figures"].get(self._score, -np.inf))
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return -np.inf

    def _delete_old(self) -> None:
        updates = sorted(self._updates())
        scores = {update: self._score_of(update) for update in updates}
        best = max(updates, key=lambda update: (scores[update], -update))
        for update in updates[:-KEPT]:
            if update != best or scores[update] == -np.inf:
                shutil.rmtree(self.folder / f"{update:08d}")


def by_name(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their paths, such as ``params/encoder/kernel``."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/") or "value": leaf for path, leaf in leaves}


def _read(place: Path, like: Any) -> tuple[Any, dict[str, float]]:
    """Arrays and figures of one checkpoint; raises where anything is amiss."""
    import orbax.checkpoint as ocp

    content = orjson.loads((place / _DIGESTS).read_bytes())
    wanted = by_name(like)
    if wanted.keys() != content["digests"].keys():
        odd = sorted(wanted.keys() ^ content["digests"].keys())[0]
        raise PerlsimError(f"it is of another network or optimiser: {odd} is in one only")
    arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in wanted if np.size(wanted[name])}
    restore = ocp.args.PyTreeRestore(restore_args=arguments)  # pyright: ignore[reportCallIssue]
    with _orbax() as orbax:
        found = orbax.restore(place / _ARRAYS, args=restore)
    leaves = []
    for name, leaf in wanted.items():
        have = np.asarray(found[name]) if name in found else np.zeros_like(leaf)
        if _digest(have) != content["digests"][name]:
            raise PerlsimError(f"{name} is damaged: its digest is not that of when it was written")
        if have.shape != np.shape(leaf) or have.dtype != np.asarray(leaf).dtype:
            raise PerlsimError(
                f"{name} is {have.dtype}{list(have.shape)}, expected is {leaf.dtype}{list(np.shape(leaf))}"
            )
        leaves.append(have)
    return jax.tree.unflatten(jax.tree.structure(like), leaves), content["figures"]


def _digest(leaf: np.ndarray) -> str:
    """Of the type, shape and content of an array."""
    head = f"{leaf.dtype.str}{leaf.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(leaf).tobytes()).hexdigest()


def _orbax() -> Any:
    """A reader and writer that does not wait for other processes: one writes, each reads for itself."""
    import orbax.checkpoint as ocp

    # Orbax warns of choices that it makes itself.
    logging.getLogger("absl").setLevel(logging.ERROR)
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"process{jax.process_index()}",
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)
