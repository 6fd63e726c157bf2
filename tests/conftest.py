"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

_REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real logs and maps beside the project; tests that use it skip where it is absent."""
    if not _REAL_DATA.is_dir():
        pytest.skip("no real data: the folder ../shared/data beside the project is absent")
    return _REAL_DATA
