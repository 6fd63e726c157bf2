"""What all benchmarks share: the bank they run on, the record they leave."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from perlsim.backend import num_cores

_RECORDS: list[dict] = []


@pytest.fixture(scope="session")
def scenarios(request):
    """Scenarios with an ego: of the store given with --store, else the embedded default."""
    store = request.config.getoption("--store")
    if store is None:
        from perlsim.readers.synthetic import generate

        return list(generate(48, 0))
    from perlsim.store import ScenarioStore

    opened = ScenarioStore.open(Path(store))
    return [scenario for scenario in (opened[i] for i in range(len(opened))) if drives(scenario)]


def drives(scenario) -> bool:
    """Whether the log's ego is there for 2 s at least."""
    return scenario.has_ego and scenario.tracks.valid[scenario.ego.idx].sum() * scenario.dt > 2.0


@pytest.fixture
def record(request, benchmark):
    """Notes figures beside the times: in pytest-benchmark's record and in our own with provenance."""

    def note(**figures):
        figures["benchmark"] = request.node.name
        benchmark.extra_info.update(figures)
        _RECORDS.append(figures)
        shown = ", ".join(
            f"{key} {value:,.6g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in figures.items()
        )
        print(f"\n  {shown}")

    return note


def pytest_sessionfinish(session):
    """Writes the records of this session with what is needed to judge them."""
    if not _RECORDS:
        return
    import jax

    path = Path(session.config.getoption("--benchmark-record") or ".benchmarks/perlsim.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    content = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit.stdout.strip(),
        "device": jax.devices()[0].device_kind,
        "num_devices": len(jax.devices()),
        "backend": jax.default_backend(),
        "cores": num_cores(),
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "jax": version("jax"),
        "jaxlib": version("jaxlib"),
        "numpy": version("numpy"),
        "store": session.config.getoption("--store") or "embedded",
        "records": _RECORDS,
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)
    print(f"\nbenchmark record: {path}")
