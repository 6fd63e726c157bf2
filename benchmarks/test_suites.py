"""Speed and memory of examinations; run with ``pytest benchmarks/test_suites.py --benchmark``.

Bench2Drive's 132 routes with the ``idm_route`` policy, closed loop judged at 20 Hz, and 1,100 generated routes in
batches. Needs the benchmark's routes and CARLA's towns in ``../shared/data`` beside the project. Building, compilation
and the drive itself are told apart; the first compiled run is timed again without compilation.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest

from perlsim import backend

DATA = Path(__file__).parents[1].parent / "shared" / "data"
ROUTES = DATA / "benchmarks" / "bench2drive" / "bench2drive220_dev.xml"
# Of the issue: s on 2 cores for the 132 routes, for their compilation, and GiB.
RUN, COMPILE, MEMORY = 60.0, 60.0, 6.0
# Routes of each of Bench2Drive's types that are generated, about 1,100 in all.
EACH = 25
BATCH = 256


@pytest.fixture(scope="module")
def worlds():
    """The towns with their lights."""
    from perlsim.worlds.suite.cases import Worlds

    if not ROUTES.is_file():
        pytest.skip(f"needs Bench2Drive's routes and CARLA's towns in {DATA}")
    backend.setup()
    return Worlds(DATA / "maps" / "carla", DATA / "maps" / "carla_signals")


def drive(batches, first_alone=False):
    """Drives all batches; gives seconds of building, of the first call and of the drives without it, and the ends."""
    from perlsim.policies import policy_of
    from perlsim.worlds.suite.criteria import Status
    from perlsim.worlds.suite.drive import Examination

    policy = policy_of("idm_route")
    seconds = {"build_s": 0.0, "first_run_s": 0.0, "run_s": 0.0}
    completed, begun = 0, time.perf_counter()
    for number, batch in enumerate(batches.of(policy)):
        built = time.perf_counter()
        seconds["build_s"] += built - begun
        exam = Examination(policy, batch.agents)
        drives = exam(batch.filled, batch.host)
        if not number:
            seconds["first_run_s"] = time.perf_counter() - built
        if first_alone:
            built = time.perf_counter()
            drives = exam(batch.filled, batch.host)
        seconds["run_s"] += time.perf_counter() - built
        completed += int((drives.judged.status[: len(batch.cases)] == Status.COMPLETED).sum())
        begun = time.perf_counter()
    seconds["compile_s"] = seconds["first_run_s"] - seconds["run_s"] if first_alone else float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**seconds, "completed": completed, "peak_gib": peak, "load": os.getloadavg()[0]}


def test_bench2drive_routes(worlds, record, benchmark):
    """Fails above what is asked for of a machine with two quiet cores, with twice the time for a busy one."""
    from perlsim.worlds.routes import load
    from perlsim.worlds.suite.examine import Batches

    routes = load.found(ROUTES)
    for town in {route.definition.town for route in routes}:
        worlds.town(town)  # from the cache, or read once and for all
    figures = benchmark.pedantic(
        drive, (Batches(routes, worlds, BATCH), True), rounds=1, iterations=1, warmup_rounds=0
    )
    record(routes=len(routes), **figures)
    assert figures["run_s"] < 2 * RUN and figures["compile_s"] < 2 * COMPILE and figures["peak_gib"] < MEMORY


def test_generated_routes(worlds, record, benchmark, tmp_path):
    """The scaling to about 1,100 routes, in batches: memory must not grow with their number."""
    from perlsim.errors import PerlsimError
    from perlsim.worlds.routes import leaderboard2, load
    from perlsim.worlds.routes.catalogue import BENCH2DRIVE_TYPES
    from perlsim.worlds.routes.generate import generate
    from perlsim.worlds.suite.examine import Batches

    places = {name: worlds.places(name) for name in ("Town03", "Town04", "Town05", "Town12", "Town13")}
    definitions = []
    for kind in BENCH2DRIVE_TYPES:
        try:
            definitions += generate(places, [kind], EACH, 0, ())
        except PerlsimError as error:
            print(f"\n  left out: {error}")
    leaderboard2.write(definitions, tmp_path / "routes.xml")
    routes = load.found(tmp_path / "routes.xml")
    figures = benchmark.pedantic(
        drive, (Batches(routes, worlds, BATCH),), rounds=1, iterations=1, warmup_rounds=0
    )
    record(routes=len(routes), **figures)
    assert figures["peak_gib"] < MEMORY
