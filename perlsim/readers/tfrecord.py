"""TFRecord framing: length, masked CRC-32C of the length, data, masked CRC-32C of the data."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from perlsim.errors import FormatError

_MASK_DELTA = 0xA282EAD8  # from the format's definition


def masked_crc(data: bytes) -> int:
    """CRC-32C rotated right by 15 bits plus a constant, so that CRCs of CRCs stay useful."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields number (from 0) and content of each record.

    Raises:
        FormatError: a record is cut off or its checksum does not match; names its number and offset.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        number = 0
        while (offset := file.tell()) < size:
            header = file.read(12)
            length = _length(header)
            if length is None:
                raise _broken(path, number, offset, "the header is cut off or its checksum is wrong")
            if length + 4 > size - file.tell():
                raise _broken(path, number, offset, f"{length} bytes are announced, the file ends before")
            data = file.read(length)
            if struct.unpack("<I", file.read(4))[0] != masked_crc(data):
                raise _broken(path, number, offset, "the checksum of the data is wrong")
            yield number, data
            number += 1


def first_record(path: Path) -> bytes | None:
    """Content of the first record, unchecked and perhaps cut short; None where this is no TFRecord file."""
    with path.open("rb") as file:
        length = _length(file.read(12))
        return None if length is None else file.read(min(length, 1 << 26))


def framed(data: bytes) -> bytes:
    """One record as it stands in a file."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def _length(header: bytes) -> int | None:
    if len(header) < 12 or struct.unpack("<I", header[8:])[0] != masked_crc(header[:8]):
        return None
    return struct.unpack("<Q", header[:8])[0]


def _broken(path: Path, number: int, offset: int, what: str) -> FormatError:
    return FormatError(
        f"record {number} at byte {offset}: {what}",
        file=path,
        remedy="fetch the file again; it is damaged or not a TFRecord file",
    )
