"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

# Tests compile far more than they compute: a third of their time goes where compiled code is made faster.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

_REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real logs and maps beside the project; tests that use it skip where it is absent."""
    if not _REAL_DATA.is_dir():
        pytest.skip("no real data: the folder ../shared/data beside the project is absent")
    return _REAL_DATA
