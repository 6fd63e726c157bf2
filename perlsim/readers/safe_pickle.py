"""Reads pickles of plain data (containers, numbers, text, numpy arrays) without running anything in them.

A pickle is a program. Here it is scanned before it runs: only opcodes that build plain data are allowed,
nesting and memo indices are bounded, and every global must be in a short list. Each allowed global is
replaced by a stand-in of our own that checks its arguments, so that not even numpy's reconstruction
functions are called as the file likes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from perlsim.errors import FormatError

_MAX_DEPTH = 500  # nested containers; deeper ones overflow the C stack when hashed or freed
_MAX_ARRAY = 1 << 31  # bytes in one array
_MAX_MEMBER = 1 << 31  # bytes of one uncompressed member of an .npz archive
_REFUSED = {
    "INST",
    "OBJ",
    "NEWOBJ",
    "NEWOBJ_EX",
    "PERSID",
    "BINPERSID",
    "EXT1",
    "EXT2",
    "EXT4",
    "NEXT_BUFFER",
}
_PUTS, _GETS = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}
_REMEDY = "the file is damaged, or not plain data; do not open it with pickle"


class _Refusal(Exception):
    """What is wrong with the pickle."""


def load(source: Path | str | bytes) -> Any:
    """Loads a pickle of plain data.

    Args:
        source: a path, or the bytes of the pickle.

    Returns:
        Containers, numbers, text and numpy arrays (of a subclass without behaviour of its own).

    Raises:
        FormatError: the pickle asks for anything else, or is damaged.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    name = None if isinstance(source, bytes) else source
    try:
        _scan(data)
        return _Unpickler(io.BytesIO(data)).load()
    except _Refusal as refusal:
        raise FormatError(f"the pickle {refusal}", file=name, remedy=_REMEDY) from None
    except Exception as error:
        # A damaged pickle can fail in any way inside the C unpickler or the constructors.
        raise FormatError(
            f"the pickle is damaged ({type(error).__name__}: {error})", file=name, remedy=_REMEDY
        ) from None


def load_npz(path: Path | str, *, objects: bool = True) -> dict[str, Any]:
    """Loads all members of an ``.npz`` archive (or one ``.npy`` file, under the name "").

    Args:
        path: the file.
        objects: whether arrays of objects are read too, through `load`; else they are refused.

    Raises:
        FormatError: the archive is damaged, too large, or an object array holds more than plain data.
    """
    path = Path(path)
    try:
        if not zipfile.is_zipfile(path):
            return {"": _npy(path.read_bytes(), objects)}
        members = {}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.file_size > _MAX_MEMBER:
                    raise _Refusal(f"holds {info.filename!r} of {info.file_size} bytes")
                members[info.filename.removesuffix(".npy")] = _npy(archive.read(info), objects)
        return members
    except _Refusal as refusal:
        raise FormatError(f"the archive {refusal}", file=path, remedy=_REMEDY) from None
    except FormatError as error:
        raise FormatError(error.message, file=path, remedy=error.remedy) from None
    except Exception as error:
        raise FormatError(
            f"the archive is damaged ({type(error).__name__}: {error})", file=path, remedy=_REMEDY
        ) from None


def _npy(data: bytes, objects: bool) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
    shape, _, dtype = read_header(stream) if read_header else np.lib.format.read_array_header_2_0(stream)
    if not dtype.hasobject:
        if math.prod(shape) * dtype.itemsize > len(data):
            raise _Refusal("is shorter than its header says")
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if not objects or dtype != np.dtype(object):
        raise _Refusal("holds an array of objects")
    values = np.asarray(load(stream.read()))
    if values.shape != tuple(shape):
        raise _Refusal("holds an array of objects of another shape than its header says")
    return values


def _scan(data: bytes) -> None:
    """Refuses forbidden opcodes and globals, deep nesting and wild memo indices before anything runs."""
    stack: list[int | None] = []  # depth of each value; None is a mark
    memo: dict[int, int | None] = {}
    for count, (op, arg, _) in enumerate(pickletools.genops(data)):
        name = op.name
        if name in _REFUSED:
            raise _Refusal(f"uses the opcode {name}")
        if name == "GLOBAL":
            _stand_in(*str(arg).split(" ", 1))
        if name == "MARK":
            stack.append(None)
        elif name in _PUTS:
            if not isinstance(arg, int) or not 0 <= arg <= count + 1:
                raise _Refusal("uses a memo index out of order")
            memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in _GETS:
            stack.append(memo[int(str(arg))])
        else:
            _apply(op, stack)


def _apply(op: pickletools.OpcodeInfo, stack: list[int | None]) -> None:
    """Updates the depths on the stack for one opcode."""
    popped: list[int | None] = []
    below = len(op.stack_before)
    if pickletools.markobject in op.stack_before:
        below = op.stack_before.index(pickletools.markobject)
        mark = len(stack) - 1 - stack[::-1].index(None)
        popped += stack[mark + 1 :]
        del stack[mark:]
    for _ in range(below):
        popped.append(stack.pop())
    depth = 1 + max((value or 0 for value in popped), default=0)
    if depth > _MAX_DEPTH:
        raise _Refusal(f"nests values more than {_MAX_DEPTH} deep")
    stack += [depth] * len(op.stack_after)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        return _stand_in(module, name)


# Stand-ins are instances without attributes: a pickle can call them, but not change them.
class _Reconstruct:
    __slots__ = ()

    def __call__(self, kind, shape, _code):
        if not isinstance(kind, _Name) or tuple(shape) != (0,):
            raise _Refusal("builds an array in an unusual way")
        return np.ndarray.__new__(_Array, (0,), np.int8)


class _Scalar:
    __slots__ = ()

    def __call__(self, dtype, data):
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise _Refusal("builds a numpy number from something else than bytes")
        real = dtype.real
        if real.hasobject or len(data) != real.itemsize:
            raise _Refusal("builds a numpy number from bytes of another length")
        return np.frombuffer(data, real)[0]


class _FromBuffer:
    """How pickles of protocol 5 hold arrays."""

    __slots__ = ()

    def __call__(self, data, dtype, shape, order="C"):
        if (
            not isinstance(dtype, _Dtype)
            or not isinstance(data, bytes | bytearray)
            or order not in ("C", "F")
        ):
            raise _Refusal("builds an array in an unusual way")
        if dtype.real.hasobject:
            raise _Refusal("builds an array of objects from bytes")
        return np.frombuffer(bytearray(data), dtype.real).reshape(shape, order=order)


class _MakeDtype:
    __slots__ = ()

    def __call__(self, code, _align=False, _copy=True):
        return _Dtype(code)


class _Container:
    """Makes set, dict and the like; only from nothing or from a container in the pickle."""

    __slots__ = ()

    def __call__(self, *args):
        # OrderedDict() and defaultdict(factory) are filled afterwards, item by item; a plain dict will do.
        if not args or isinstance(args[0], _Name | _Container | None):
            return {}
        if len(args) == 1 and isinstance(args[0], list):
            return dict(args[0])
        raise _Refusal("builds a container in an unusual way")


class _Set:
    __slots__ = ()

    def __call__(self, items=()):
        if not isinstance(items, list | tuple):
            raise _Refusal("builds a set from something else than a list")
        return set(items)


class _Encode:
    """Bytes in pickles of protocol 2 and below are latin-1 text that is encoded on loading."""

    __slots__ = ()

    def __call__(self, text, encoding="latin1"):
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise _Refusal("encodes text in an unusual way")
        return text.encode("latin-1")


class _NoBytes:
    """Empty bytes in pickles of protocol 2 and below."""

    __slots__ = ()

    def __call__(self):
        return b""


class _Name:
    """A class that is only named, never called."""

    __slots__ = ()


class _Dtype:
    """A numpy dtype of plain numbers, text or objects."""

    __slots__ = ("code", "order")

    def __init__(self, code):
        if isinstance(code, bytes):
            code = code.decode("ascii")
        kind = code.lstrip("<>=|")[:1] if isinstance(code, str) else ""
        if not kind or kind not in "biufcSUO?" or len(code) > 12:
            raise _Refusal(f"uses the array type {code!r}")
        self.code, self.order = code.lstrip("<>=|"), "="

    def __setstate__(self, state):
        # (version, byte order, subarray, names, fields, item size, alignment, flags[, metadata])
        fields = list(state) if isinstance(state, tuple) else []
        if len(fields) < 8 or fields[2:5] != [None] * 3 or fields[1] not in ("<", ">", "=", "|"):
            raise _Refusal("uses a structured array type")
        self.order = fields[1]

    @property
    def real(self) -> np.dtype:
        return np.dtype("O" if self.code[0] == "O" else self.order + self.code)


class _Array(np.ndarray):
    """An array that takes its content from a pickle only after a check."""

    __slots__ = ()

    def __setstate__(self, state: Any, /) -> None:
        _version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
            raise _Refusal("gives an array no type or shape")
        if not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 32:
            raise _Refusal("gives an array an impossible shape")
        real, size = dtype.real, math.prod(shape)
        fits = (
            isinstance(data, list) and len(data) == size
            if real.hasobject
            else isinstance(data, bytes) and len(data) == size * real.itemsize <= _MAX_ARRAY
        )
        if not fits:
            raise _Refusal("gives an array content that does not fit its shape")
        super().__setstate__((1, shape, real, bool(fortran), data))  # pyright: ignore[reportArgumentType]


_GLOBALS: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Reconstruct() for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar() for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer() for core in ("core", "_core")},
    ("numpy", "ndarray"): _Name(),
    ("numpy", "dtype"): _MakeDtype(),
    ("collections", "OrderedDict"): _Container(),
    ("collections", "defaultdict"): _Container(),
    **{(module, "set"): _Set() for module in ("builtins", "__builtin__")},
    **{(module, "frozenset"): _Set() for module in ("builtins", "__builtin__")},
    **{
        (module, name): _Name()
        for module in ("builtins", "__builtin__")
        for name in ("list", "dict", "int", "float", "str")
    },
    **{(module, "bytes"): _NoBytes() for module in ("builtins", "__builtin__")},
    ("_codecs", "encode"): _Encode(),
}


def _stand_in(module: str, name: str) -> Any:
    found = _GLOBALS.get((module, name))
    if found is None:
        raise _Refusal(f"asks for {module}.{name}, which is not plain data")
    return found
