"""Deterministic damage for files, and the rule that every reader has to keep on damaged files."""

import copy
import json
import math
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perlsim.errors import PerlsimError
from perlsim.readers import FORMATS, ReadOptions

WRONG_VALUES = [
    *(None, True, -1, 0, 2**63, 10**400, 1e308, math.nan, math.inf),
    *("", "x", "NaN", [], [[]], {}, {"x": 1}, [None]),
]


def mutations(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """``count`` damaged copies of a file: cut, bits flipped, stretches zeroed, removed, doubled, shuffled.

    JSON text gets values of wrong types, NaN and huge numbers too, every second copy.
    """
    chance = random.Random(seed)
    document = _as_json(data)
    for turn in range(count):
        if document is not None and turn % 2:
            yield _wrong_values(document, chance)
        else:
            yield _damaged(bytearray(data), chance)


def assert_clean(reader_name: str, path: Path, options: ReadOptions | None = None, limit_s: int = 60) -> int:
    """Reads a damaged file: anything but valid scenarios or a `PerlsimError` fails, and so does a hang.

    Returns:
        How many scenarios could be read, −1 where the file was refused.
    """
    count = 0
    with _time_limit(limit_s):
        try:
            FORMATS[reader_name].sniff(path)
            for scenario in FORMATS[reader_name].read(path, options):
                scenario.validate()
                count += 1
        except PerlsimError as error:
            assert str(error).strip(), "a refusal has to give its reason"
            return -1
    return count


def _damaged(data: bytearray, chance: random.Random) -> bytes:
    size = len(data)
    kind = chance.randrange(6)
    start = chance.randrange(size + 1)
    length = chance.choice([1, 4, 16, 200, max(1, size // 10)])
    if kind == 0:
        return bytes(data[:start])
    if kind == 1:
        for _ in range(chance.choice([1, 3, 30])):
            data[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif kind == 2:
        stretch = data[start : start + length]
        data[start : start + length] = bytes([chance.choice([0, 255])]) * len(stretch)
    elif kind == 3:
        del data[start : start + length]
    elif kind == 4:
        data[start:start] = data[start : start + length]
    else:
        data[start : start + length] = chance.randbytes(len(data[start : start + length]))
    return bytes(data)


def _as_json(data: bytes):
    if data[:1] not in (b"{", b"["):
        return None
    try:
        return json.loads(data)
    except ValueError:
        return None


def _wrong_values(document, chance: random.Random) -> bytes:
    document = copy.deepcopy(document)
    for _ in range(chance.choice([1, 1, 5])):
        node = document
        # Walk down at random; stop at a random depth so that whole branches are replaced too.
        while True:
            keys = list(node) if isinstance(node, dict) else range(len(node))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(node[key], dict | list) and chance.random() < 0.85:
                node = node[key]
                continue
            if chance.random() < 0.3:
                del node[key]
            else:
                node[key] = copy.deepcopy(chance.choice(WRONG_VALUES))
            break
    return json.dumps(document).encode()


@contextmanager
def _time_limit(seconds: int):
    def out_of_time(*_):
        raise AssertionError(f"the reader took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
