import collections
import os
import pickle
import struct

import numpy as np
import pytest

from perlsim.errors import FormatError
from perlsim.readers import safe_pickle

PLAIN = {
    "numbers": [1, -2.5, True, None, 10**30],
    "text": ("a", b"bytes", "ünï"),
    "set": {1, 2},
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, b=[2]),
    "float": np.float32(1.5),
    "arrays": [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.asfortranarray(np.eye(3)),
        np.array(["x", "yy"]),
        np.array([True, False]),
        np.array([{"a": 1}, None], dtype=object),
        np.arange(3, dtype=">f8"),
        np.zeros((0, 3)),
    ],
}


class Runs:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_plain_data_come_back_whole(protocol):
    data = safe_pickle.load(pickle.dumps(PLAIN, protocol))
    assert data["numbers"] == PLAIN["numbers"] and data["text"] == PLAIN["text"]
    assert data["set"] == {1, 2} and data["ordered"] == {"a": 1} and data["default"] == {"b": [2]}
    assert data["float"] == 1.5
    for found, expected in zip(data["arrays"], PLAIN["arrays"], strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype.newbyteorder("=") or protocol == 5


def test_pickles_of_numpy_1_and_2_are_read_alike():
    data = pickle.dumps(np.arange(3.0), 2)
    old = data.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
    assert old != data
    np.testing.assert_array_equal(safe_pickle.load(old), safe_pickle.load(data))


HOSTILE = {
    "os.system": pickle.dumps(Runs(os.system, "touch {path}")),
    "eval": pickle.dumps(Runs(eval, "open('{path}', 'w')")),
    "protocol 0": pickle.dumps(Runs(os.system, "touch {path}"), 0),
    "INST": b"(S'touch {path}'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch {path}'\no.",
    "GLOBAL numpy": b"cnumpy.testing._private.utils\nrunstring\n(S'x'\ntR.",
    "getattr": pickle.dumps(Runs(getattr, "", "format")),
    "NEWOBJ": b"\x80\x02cbuiltins\nint\n)\x81.",
    "persistent id": b"Pname\n.",
    "extension": b"\x82\x01.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
    "bytearray of a terabyte": pickle.dumps(Runs(bytearray, 10**12)),
    "nested in an object array": pickle.dumps(np.array([Runs(os.system, "touch {path}")], dtype=object)),
    "array larger than its bytes": b"cnumpy._core.multiarray\n_reconstruct\n"
    b"(cnumpy\nndarray\n(L1000000000000L\ntS'b'\ntR.",
    "memo index of four billion": b"\x80\x02Nr\xf0\xff\xff\xff.",
    "memo index of a gigabyte": b"\x80\x02Nr" + struct.pack("<I", 1 << 27) + b".",
    "attributes set on a stand-in": b"cnumpy\ndtype\n}S'x'\nI1\nsb.",
    "structured type with objects": pickle.dumps(np.zeros(2, [("a", "O")])),
    "a class of ours": pickle.dumps(FormatError),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_and_nothing_runs(name, tmp_path):
    witness = str(tmp_path / "w")
    data = HOSTILE[name]
    # Lengths inside the pickle are those of the template: pad the name to what "{path}" took.
    if b"{path}" in data and name not in ("INST", "OBJ", "protocol 0"):
        data = data.replace(b"{path}", b"owned!")
    else:
        data = data.replace(b"{path}", witness.encode())
    os.chdir(tmp_path)
    with pytest.raises(FormatError, match="pickle"):
        safe_pickle.load(data)
    assert not list(tmp_path.iterdir())


def test_the_same_payloads_do_run_under_pickle(tmp_path):
    os.chdir(tmp_path)
    pickle.loads(HOSTILE["os.system"].replace(b"{path}", b"owned!"))
    assert (tmp_path / "owned!").exists()


def test_a_refusal_names_the_global_and_the_file(tmp_path):
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(Runs(os.getpid)))
    with pytest.raises(FormatError, match=r"bad\.pkl.*getpid"):
        safe_pickle.load(path)


def test_deep_nesting_is_refused_rather_than_overflowing_the_stack():
    tuples = b"\x80\x04)" + b"\x85" * 2_000_00 + b"."
    as_key = b"\x80\x04})" + b"\x85" * 2_000_00 + b"Ns."
    for data in (tuples, as_key):
        with pytest.raises(FormatError, match="deep"):
            safe_pickle.load(data)


def test_every_truncation_is_refused():
    data = pickle.dumps(PLAIN)
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(FormatError):
            safe_pickle.load(data[:end])


def test_archives_with_object_arrays_are_read_through_the_same_gate(tmp_path):
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, plain=np.arange(3), lanes=np.array([{"id": 1}, [2]], dtype=object))
    members = safe_pickle.load_npz(good)
    np.testing.assert_array_equal(members["plain"], [0, 1, 2])
    assert members["lanes"].tolist() == [{"id": 1}, [2]]
    with pytest.raises(FormatError, match="objects"):
        safe_pickle.load_npz(good, objects=False)
    np.savez(bad, x=np.array([Runs(os.system, "touch owned")], dtype=object))
    with pytest.raises(FormatError, match=r"bad\.npz.*system"):
        safe_pickle.load_npz(bad)


def test_a_broken_archive_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(1000), b=np.array([{"k": 1}], dtype=object))
    data = path.read_bytes()
    for end in range(0, len(data), 97):
        path.write_bytes(data[:end])
        with pytest.raises(FormatError):
            safe_pickle.load_npz(path)
