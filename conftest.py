"""Options and set-up of every pytest run: ``--benchmark``, and JAX's backend."""

from pathlib import Path

import pytest

_BENCHMARKS = Path(__file__).parent / "benchmarks"


def pytest_addoption(parser):
    """Adds the option without which benchmarks are skipped, and what they run on."""
    parser.addoption("--benchmark", action="store_true", help="run the benchmarks of the folder benchmarks/")
    parser.addoption("--store", help="store whose scenarios the benchmarks run on; default: embedded logs")
    parser.addoption(
        "--benchmark-record", help="JSON file for their figures; default: .benchmarks/perlsim.json"
    )


def pytest_configure(config):
    """Prepares JAX before a test module can use a device; tests fail where a random key is used twice."""
    from perlsim.backend import setup

    setup()
    import jax

    # Not in benchmarks: they measure what users run.
    jax.config.update("jax_debug_key_reuse", not config.getoption("--benchmark"))


def pytest_runtest_setup(item):
    """Skips benchmarks that were not asked for."""
    if item.path.is_relative_to(_BENCHMARKS) and not item.config.getoption("--benchmark"):
        pytest.skip("a benchmark: run with pytest benchmarks/ --benchmark")
