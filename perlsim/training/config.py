"""Configurations of training runs: strict pydantic models, read from YAML, with overrides from the command line."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from perlsim.errors import FormatError, PerlsimError, unknown_name


class Strict(BaseModel):
    """Base of all parts of a configuration: frozen, no unknown keys, no conversions that lose something."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Config = TypeVar("Config", bound=Strict)


def load_config(kind: type[Config], name: str, overrides: Sequence[str], shipped: Path) -> Config:
    """A configuration from a file or a shipped one.

    Args:
        kind: its model.
        name: of a shipped configuration, or path of a YAML file.
        overrides: ``key=value`` each, keys dotted, values YAML.
        shipped: folder of the shipped configurations.

    Raises:
        PerlsimError: an unknown name; every mistake in the content with its path.
        FormatError: no YAML, or a key that stands twice.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        known = sorted(entry.stem for entry in shipped.glob("*.yaml"))
        if name not in known:
            raise unknown_name("configuration", name, known, "--config")
        path = shipped / f"{name}.yaml"
    content = read_yaml(path)
    for text in overrides:
        _override(content, text)
    return validated(kind, content, path)


def validated(kind: type[Config], content: dict[str, Any], file: Path | None = None) -> Config:
    """A configuration from its content.

    Args:
        kind: its model.
        content: as read.
        file: for the error.

    Raises:
        PerlsimError: every mistake with its path, unknown keys with the nearest that is known.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        mistakes = [_sentence(kind, detail) for detail in error.errors(include_url=False)]
    if len(mistakes) == 1:
        raise PerlsimError(mistakes[0], file=file)
    listed = "".join(f"\n  {mistake}" for mistake in mistakes)
    raise PerlsimError(f"{len(mistakes)} mistakes:{listed}", file=file)


def read_yaml(path: Path) -> dict[str, Any]:
    """Content of a YAML file that is a mapping.

    Raises:
        PerlsimError: where it cannot be read.
        FormatError: no YAML, no mapping, a key that stands twice.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise PerlsimError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise FormatError(f"expected text: {error}", file=path) from error
    try:
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise FormatError(f"expected YAML: {_place(error)}", file=path) from error
    if not isinstance(content, dict):
        raise FormatError(f"expected keys and values, found {type(content).__name__}", file=path)
    return content


class _Loader(yaml.SafeLoader):
    """YAML without keys that stand twice, of which PyYAML silently takes the last; 1e-3 is a number."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    content: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in content:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        content[key] = loader.construct_object(value_node, deep=True)
    return content


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace("_", ""))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_EXPONENT = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("!exponent", _EXPONENT, list("-+0123456789"))
_Loader.add_constructor("!exponent", _number)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem} in line {mark.line + 1}" if mark is not None else problem


def _override(content: dict[str, Any], text: str) -> None:
    """Puts one ``key=value`` into a content."""
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise PerlsimError(f"expected key=value, found {text!r}", field="--set")
    branch = content
    for name in names[:-1]:
        below = branch.get(name)
        if not isinstance(below, dict):
            # What stood here is replaced by what is set inside it: the model judges it.
            below = branch[name] = {}
        branch = below
    try:
        branch[names[-1]] = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise PerlsimError(f"{value!r} is no YAML: {_place(error)}", field=f"--set {key}") from error


def _sentence(kind: type[BaseModel], detail: ErrorDetails) -> str:
    """One mistake: where and what."""
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key{_nearest(kind, detail['loc'])}"
    if detail["type"] == "missing":
        return f"{place}: is missing"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{place}: {message[:1].lower()}{message[1:]}, found {detail['input']!r}"


def _nearest(kind: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """The nearest key, among those beside it and those of the whole configuration."""
    wanted = str(place[-1])
    beside = sorted(_beside(kind, place[:-1]))
    if close := difflib.get_close_matches(wanted, beside, 1, 0.6):
        return f", did you mean {close[0]}?"
    everywhere = {path.rpartition(".")[2]: path for path in keys(kind)}
    if close := difflib.get_close_matches(wanted, everywhere, 1, 0.8):
        return f", did you mean {everywhere[close[0]]}?"
    return f" (known: {', '.join(beside)})" if beside else ""


def _beside(kind: type[BaseModel], place: tuple[int | str, ...]) -> set[str]:
    """Keys of the part of a configuration at a place."""
    models = [kind]
    for part in place:
        below = [inner for model in models for inner in _parts(model, part)]
        # In unions pydantic puts the name of the member between the keys.
        models = below or [model for model in models if model.__name__ == part] or models
    return {name for model in models for name in model.model_fields}


def _parts(model: type[BaseModel], name: int | str) -> list[type[BaseModel]]:
    field = model.model_fields.get(str(name))
    return [] if field is None else list(_models(field.annotation))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, list, tuple):
        for inner in get_args(annotation):
            yield from _models(inner)


def keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys of a configuration, dotted."""
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name}"
        for model in _models(field.annotation):
            yield from keys(model, f"{prefix}{name}.")
