"""Parameters of scenario types: how a route file writes a value, and what it means in SI units.

Frame: typed points and poses are right-handed (CARLA's y flipped, yaw negated); the text is CARLA's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from perlsim.errors import FormatError
from perlsim.geometry import polylines

# A point is (x, y, z) m, a pose (x, y, z, heading) m and rad, the heading in [−π, π).
Point = tuple[float, float, float]
Pose = tuple[float, float, float, float]
Value = float | str | tuple[float, float] | Point | tuple[Pose, ...]
# The attributes of an element; a file may repeat an element (a list of poses does).
Attributes = Mapping[str, str | float]
Found = Mapping[str, Sequence[Attributes]]


class Form(Enum):
    """How a value is written."""

    NUMBER = "value='7'"
    WORD = "value='right'"
    INTERVAL = "from='20' to='50'"
    POINT = "x='1' y='2' z='3'"
    POSES = "x='1' y='2' z='3' yaw='90', any number of times"


# What one unit of the file is in SI.
UNITS = {"m": 1.0, "m/s": 1.0, "km/h": 1 / 3.6, "deg": math.pi / 180, "": 1.0}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a scenario type.

    Attributes:
        name: the element's name in the file.
        meaning: what it sets.
        form: how it is written.
        unit: unit of the file, a key of `UNITS`.
        default: value in the file's unit where the file is silent; None where it has to be there.
        words: the words that are allowed; empty any.
    """

    name: str
    meaning: str
    form: Form = Form.NUMBER
    unit: str = ""
    default: float | str | tuple[float, float] | tuple[()] | None = None
    words: tuple[str, ...] = ()

    def default_value(self) -> Value:
        """The default in SI units; only for parameters that have one."""
        if isinstance(self.default, tuple):
            return tuple(v * UNITS[self.unit] for v in self.default)  # pyright: ignore[reportReturnType]
        return self.default if isinstance(self.default, str) else (self.default or 0.0) * UNITS[self.unit]

    def read(self, elements: Sequence[Attributes]) -> Value:
        """A value from the attributes of its elements, in SI units and our frame; of several the last counts.

        Raises:
            FormatError: the value is not of the parameter's form.
        """
        if self.form is Form.POSES:
            return tuple(pose(attributes) for attributes in elements)
        attributes = elements[-1]
        if self.form is Form.WORD:
            word = str(attributes.get("value", ""))
            if not word or (self.words and word not in self.words):
                raise FormatError(f"expected {' or '.join(self.words) or 'a word'}, found {word!r}")
            return word
        if self.form is Form.POINT:
            return point(attributes)
        scale = UNITS[self.unit]
        if self.form is Form.INTERVAL:
            low, high = number(attributes, "from"), number(attributes, "to")
            if low > high:
                raise FormatError(f"expected from ≤ to, found {low:g} and {high:g}")
            return low * scale, high * scale
        return number(attributes, "value") * scale

    def write(self, value: Value) -> list[dict[str, str]]:
        """The attributes of the elements that `read` turns into ``value``."""
        scale = UNITS[self.unit]
        match value:
            case str():
                return [{"value": value}]
            case float() | int():
                return [{"value": plain(value / scale)}]
            case (float() as low, float() as high):
                return [{"from": plain(low / scale), "to": plain(high / scale)}]
            case (float() as x, float() as y, float() as z):
                return [written_point((x, y, z))]
        return [written_pose(at) for at in value]  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class ScenarioType:
    """One type of scenario: what happens, and what a route file may say about it.

    Attributes:
        name: as in the files.
        event: what happens, in a sentence.
        parameters: those that are used.
        unused: names of elements that files carry for this type and that set nothing, with the reason.
    """

    name: str
    event: str
    parameters: tuple[Parameter, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parsed:
    """The parameters of one scenario.

    Attributes:
        values: every parameter of its type by name, in SI units and our frame.
        refused: what the file says and nothing uses, by name, with the reason.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def parse(kind: ScenarioType, found: Found) -> Parsed:
    """Types the parameters of a scenario; each is used, or refused by name with the reason.

    A value that is not of its parameter's form is refused and the default taken: the public files hold some.

    Raises:
        FormatError: a parameter without default is absent or malformed; ``field`` is its name.
    """
    values: dict[str, Value] = {}
    refused: dict[str, str] = {}
    for parameter in kind.parameters:
        if parameter.name not in found:
            if parameter.default is None:
                raise FormatError("expected this parameter, found none", field=parameter.name)
            values[parameter.name] = parameter.default_value()
            continue
        try:
            values[parameter.name] = parameter.read(found[parameter.name])
        except FormatError as error:
            if parameter.default is None:
                raise FormatError(error.message, field=parameter.name) from error
            values[parameter.name] = parameter.default_value()
            refused[parameter.name] = f"{error.message}; the default {parameter.default} is used"
    known = {parameter.name for parameter in kind.parameters}
    for name in found:
        if name not in known:
            refused[name] = kind.unused.get(name, f"{kind.name} has no such parameter")
    return Parsed(values, refused)


def number(attributes: Attributes, name: str) -> float:
    """A finite number from an attribute.

    Raises:
        FormatError: it is absent, no number or not finite.
    """
    text = attributes.get(name)
    try:
        value = float(text)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"expected a number for {name}, found {text!r}")
    return value


def point(attributes: Attributes) -> Point:
    """A point of CARLA's frame, in ours."""
    return number(attributes, "x"), -number(attributes, "y"), number(attributes, "z")


def pose(attributes: Attributes) -> Pose:
    """A pose of CARLA's frame (yaw in degrees, clockwise), in ours."""
    heading = float(polylines.wrap(np.array(-math.radians(number(attributes, "yaw")))))
    return *point(attributes), heading


def written_point(value: Point) -> dict[str, str]:
    """The attributes that `point` turns into ``value``."""
    x, y, z = value
    return {"x": plain(x), "y": plain(-y), "z": plain(z)}


def written_pose(value: Pose) -> dict[str, str]:
    """The attributes that `pose` turns into ``value``."""
    return {**written_point(value[:3]), "yaw": plain(-math.degrees(value[3]))}


def plain(value: float) -> str:
    """A number as text, to a micrometre or better, without a trailing ".0" or a negative zero."""
    return format(round(value, 9) + 0.0, ".12g")
