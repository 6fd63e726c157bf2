"""Models as files that need nothing of the training: ``model.json`` and ``weights.safetensors``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orjson

from perlsim import __version__
from perlsim.errors import FormatError, PerlsimError
from perlsim.store.manifest import write_durably

SCHEMA_VERSION = 1
MODEL, WEIGHTS = "model.json", "weights.safetensors"


def save_model(folder: Path | str, kind: str, config: dict[str, Any], params: Any) -> None:
    """Writes a model; a reader finds the old or the new one, or is told that they are mixed.

    Args:
        folder: made if absent.
        kind: what it is, such as "planner" or "world_model".
        config: what its class is built from, JSON.
        params: nested dicts of arrays.

    Raises:
        PerlsimError: parameters that are no nested dicts of arrays, or a name with a slash.
    """
    from safetensors.numpy import save

    folder = Path(folder)
    weights = save({name: np.asarray(leaf, order="C") for name, leaf in _flat(params, ()).items()})
    content = {
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "perlsim": __version__,
        "config": config,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / WEIGHTS, weights)
    write_durably(
        folder / MODEL, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    )


def load_model(folder: Path | str, kind: str) -> tuple[dict[str, Any], Any]:
    """Configuration and parameters (numpy) of a model.

    Args:
        folder: where `save_model` put it.
        kind: what it has to be.

    Raises:
        PerlsimError: no model, one of another kind, one of a newer version.
        FormatError: damaged files.
    """
    folder = Path(folder)
    path = folder / MODEL
    if not path.is_file():
        raise PerlsimError(
            "no model here",
            file=folder,
            remedy=f"name a folder with {MODEL} and {WEIGHTS}, such as perlsim train writes",
        )
    from perlsim.runs import read_json

    content = read_json(path)
    if missing := {"schema", "kind", "config", "weights_sha256"} - content.keys():
        raise FormatError(f"not a model of perlsim: {sorted(missing)[0]!r} is missing", file=path)
    if content["schema"] > SCHEMA_VERSION:
        raise PerlsimError(
            f"the model has schema version {content['schema']}, this perlsim reads up to {SCHEMA_VERSION}",
            file=path,
            remedy="install a newer perlsim",
        )
    if content["kind"] != kind:
        raise PerlsimError(f"expected a model of kind {kind!r}, found {content['kind']!r}", file=path)
    return content["config"], _nested(_weights(folder / WEIGHTS, content["weights_sha256"]))


def model_folder(path: Path | str, inside: str) -> Path:
    """Where a model lies that was named by its own folder or by that of the run that made it.

    Args:
        path: as it was named.
        inside: its place in a run, such as "policy".
    """
    path = Path(path)
    return path if (path / MODEL).is_file() or not (path / inside / MODEL).is_file() else path / inside


def same_shapes(params: Any, expected: Any, folder: Path | str) -> None:
    """Checks parameters against those of a freshly made network.

    Args:
        params: as read.
        expected: pytree of arrays or of `jax.ShapeDtypeStruct`.
        folder: for the error.

    Raises:
        FormatError: another structure or another shape.
    """
    have, want = _flat(params, ()), _flat(expected, ())
    if have.keys() != want.keys():
        odd = sorted(have.keys() ^ want.keys())[0]
        where = "is not part of this network" if odd in have else "is missing"
        raise FormatError(f"the weights do not fit the network: {odd} {where}", file=Path(folder) / WEIGHTS)
    for name, leaf in want.items():
        if tuple(have[name].shape) != tuple(leaf.shape):
            raise FormatError(
                f"{name} has shape {tuple(have[name].shape)}, the network expects {tuple(leaf.shape)}",
                file=Path(folder) / WEIGHTS,
            )


def _weights(path: Path, digest: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"the weights cannot be read: {error.strerror}", file=path) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise FormatError(
            "the weights are damaged, or not those of model.json",
            file=path,
            remedy="copy both files again, or export the model again",
        )
    return load(data)


def _flat(tree: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """Arrays of nested dicts by their paths."""
    if hasattr(tree, "items"):
        flat: dict[str, Any] = {}
        for name, branch in tree.items():
            if not isinstance(name, str) or "/" in name or not name:
                raise PerlsimError(f"{name!r} cannot name a part of a model")
            flat |= _flat(branch, (*path, name))
        return flat
    if not path:
        raise PerlsimError(f"expected nested dicts of arrays, found {type(tree).__name__}")
    return {"/".join(path): tree if isinstance(tree, jax.ShapeDtypeStruct) else np.asarray(tree)}


def _nested(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, leaf in flat.items():
        *folders, last = name.split("/")
        branch = nested
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[last] = leaf
    return nested
