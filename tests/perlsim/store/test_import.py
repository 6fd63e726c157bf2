"""Importing: what is found, refused, skipped, resumed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_logs
import pytest
from fake_logs import write_log

from perlsim.errors import PerlsimError
from perlsim.ingest import ImportOptions, import_logs
from perlsim.ingest.sources import find_logs
from perlsim.readers import FORMATS, Format
from perlsim.store import ScenarioStore

SCRIPT = Path(fake_logs.__file__)


@pytest.fixture(autouse=True)
def fake_format(monkeypatch):
    monkeypatch.setitem(FORMATS, "fake", fake_logs.FAKE)


def run_import(paths, store, **options):
    return import_logs(
        [str(path) for path in paths], store, ImportOptions(format="fake", num_workers=2, **options)
    )


def command(*args, **options):
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, args)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def num_shards(store):
    return len(list((store / "shards").glob("*.arrow")))


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_logs_arrive_in_the_order_of_their_names_whatever_the_workers_do(tmp_path):
    for k in range(6):
        write_log(tmp_path / f"{k}.fake", [k], sleep=0.2 if k == 0 else 0)
    run_import([tmp_path], tmp_path / "store")
    store = ScenarioStore.open(tmp_path / "store")
    assert [summary.id for summary in store.summaries] == [f"scene-{k}" for k in range(6)]
    assert store[3].source_file == "3.fake"
    assert len(store.summaries[0].source_sha256) == 64


def test_a_folder_that_is_a_log_is_one_log_and_files_no_reader_claims_are_ignored(tmp_path):
    log = tmp_path / "deep" / "log"
    log.mkdir(parents=True)
    for name in ("log.marker", "map.json", "x.fake", "points.npy"):
        (log / name).write_text("{}")
    (tmp_path / "readme.txt").write_text("hello")
    write_log(tmp_path / "deep" / "a.fake", [1])
    report = run_import([tmp_path], tmp_path / "store")
    assert (report.imported, report.logs, report.refused, report.ignored) == (2, 2, [], 1)


def test_globs_are_expanded_and_a_path_that_is_not_there_is_refused(tmp_path):
    for k in range(3):
        write_log(tmp_path / f"{k}.fake", [k])
    report = run_import([tmp_path / "[01].fake", tmp_path / "absent.fake"], tmp_path / "store")
    assert report.imported == 2
    assert report.refused == [(str(tmp_path / "absent.fake"), "no such file or folder")]


def test_bad_logs_are_listed_with_the_reason_and_the_others_are_imported(tmp_path):
    write_log(tmp_path / "a.fake", [1, 2], fails_at=1)
    write_log(tmp_path / "b.fake", [3], bug_at=0)
    write_log(tmp_path / "c.fake", [4], dies_at=0)
    write_log(tmp_path / "d.fake", [])
    write_log(tmp_path / "e.fake", [5])
    report = run_import([tmp_path], tmp_path / "store")
    reasons = {Path(path).name: reason for path, reason in report.refused}
    assert report.imported == 2
    assert "seeds[1]" in reasons["a.fake"] and "first 1 scenes" in reasons["a.fake"]
    assert "ZeroDivisionError: a bug" in reasons["b.fake"]
    assert "SIGKILL" in reasons["c.fake"]
    assert "holds no scenario" in reasons["d.fake"]
    assert len(reasons) == 4


def test_a_reader_that_never_ends_costs_its_log_and_not_the_import(tmp_path):
    write_log(tmp_path / "a.fake", [1, 2], hangs_at=1)
    for k in range(4):
        write_log(tmp_path / f"b{k}.fake", [10 + k])
    report = run_import([tmp_path], tmp_path / "store", time_limit=2.0)
    ((path, reason),) = report.refused
    assert Path(path).name == "a.fake" and "no scene in 2 s" in reason and "first 1 scenes" in reason
    assert report.imported == len(ScenarioStore.open(tmp_path / "store")) == 5


def test_strict_stops_at_the_first_bad_log(tmp_path):
    write_log(tmp_path / "a.fake", [1], fails_at=0)
    for k in range(5):
        write_log(tmp_path / f"b{k}.fake", [k], sleep=0.3)
    report = run_import([tmp_path], tmp_path / "store", strict=True)
    assert len(report.refused) == 1
    assert report.imported < 5
    assert len(ScenarioStore.open(tmp_path / "store")) == report.imported


def test_a_second_import_skips_what_is_there_even_when_the_file_has_moved(tmp_path):
    log = write_log(tmp_path / "a.fake", [1, 2], repairs=["3 steps were masked"])
    first = run_import([log], tmp_path / "store")
    assert (first.imported, first.repaired, dict(first.repairs)) == (2, 2, {"steps were masked": 2})
    again = run_import([log], tmp_path / "store")
    assert (again.imported, again.skipped_logs, again.refused) == (0, 1, [])
    moved = log.rename(tmp_path / "moved.fake")
    assert run_import([moved], tmp_path / "store").skipped_logs == 1
    assert len(ScenarioStore.open(tmp_path / "store")) == 2


def test_the_same_scene_in_two_files_is_stored_once_unless_asked_otherwise(tmp_path):
    one = write_log(tmp_path / "a.fake", [7], recording="first")
    two = write_log(tmp_path / "b.fake", [7], recording="second")
    report = run_import([one, two], tmp_path / "store")
    assert report.imported == 1
    assert [(d.of_id, d.kept) for d in report.duplicates] == [("scene-7", False)]
    kept = run_import([one, two], tmp_path / "other", keep_duplicates=True)
    store = ScenarioStore.open(tmp_path / "other")
    assert kept.imported == len(store) == 2
    assert len(set(store.splits)) == 1
    assert [d.kept for d in store.duplicates] == [True]


def test_a_store_among_the_logs_is_not_taken_for_a_log(tmp_path):
    write_log(tmp_path / "a.fake", [1])
    run_import([tmp_path], tmp_path / "store")
    any_file = Format("any", "fake_logs", "any file", (".fake", ".arrow", ".json"))
    assert [log.path.name for log in find_logs([str(tmp_path)], {"any": any_file}).logs] == ["a.fake"]


def test_logs_with_more_scenes_than_are_held_back_arrive_whole(tmp_path):
    write_log(tmp_path / "a.fake", [0], sleep=1.5)
    write_log(tmp_path / "b.fake", range(1, 101))
    write_log(tmp_path / "c.fake", range(101, 111))
    report = run_import([tmp_path], tmp_path / "store")
    store = ScenarioStore.open(tmp_path / "store")
    assert report.imported == 111
    assert sorted(s.id for s in store.summaries) == sorted(f"scene-{k}" for k in range(111))
    assert [file.scenarios for file in sorted(store.files, key=lambda file: file.path)] == [1, 100, 10]


def test_a_wrong_path_leaves_no_store_behind(tmp_path):
    report = run_import([tmp_path / "absent"], tmp_path / "store")
    assert len(report.refused) == 1 and not (tmp_path / "store").exists()


def test_an_empty_folder_and_an_unknown_format_are_errors(tmp_path):
    with pytest.raises(PerlsimError, match="found no log"):
        run_import([tmp_path], tmp_path / "store")
    with pytest.raises(PerlsimError, match=r"known: .*fake"):
        import_logs([str(tmp_path)], tmp_path / "store", ImportOptions(format="fakee"))


def test_killing_an_import_at_any_moment_leaves_a_readable_store_that_the_next_run_completes(tmp_path):
    for k in range(12):
        write_log(tmp_path / f"{k:02d}.fake", range(3 * k, 3 * k + 3), sleep=0.02)
    rng, store = random.Random(5), tmp_path / "store"
    sizes = []
    for _ in range(4):
        process = command("import", tmp_path, "-o", store, "--format", "fake", "--workers", 2)
        before = num_shards(store)
        wait_until(lambda n=before, p=process: num_shards(store) > n or p.poll() is not None)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        process.communicate()
        opened = ScenarioStore.open(store)
        assert opened.verify() == []
        sizes.append(len([scenario.validate() for scenario in opened]))
    assert sizes == sorted(sizes)
    assert any(0 < size < 36 for size in sizes)
    process = command("import", tmp_path, "-o", store, "--format", "fake", "--workers", 2)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + errors
    opened = ScenarioStore.open(store)
    assert sorted(s.id for s in opened.summaries) == sorted(f"scene-{k}" for k in range(36))
    assert opened.verify() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_import_with_130_once_what_was_read_is_written(tmp_path, number):
    write_log(tmp_path / "a.fake", range(200), sleep=0.05)
    store = tmp_path / "store"
    process = command("import", tmp_path, "-o", store, "--format", "fake")
    wait_until(lambda: num_shards(store) > 0)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command takes up" in output
    assert 0 < len(ScenarioStore.open(store)) < 200


def test_exit_codes_tell_whether_everything_was_done(tmp_path):
    good = write_log(tmp_path / "a.fake", [1], repairs=["2 steps were masked"])
    bad = write_log(tmp_path / "b.fake", [2], fails_at=0)
    process = command("import", good, "-o", tmp_path / "store", "--json", tmp_path / "totals.json")
    assert (process.wait(60), process.stdout.read().splitlines()[0]) == (
        0,
        "imported: 1 scenes from 1 logs",
    )
    totals = json.loads((tmp_path / "totals.json").read_text())
    assert (totals["imported"], totals["repairs"]) == (1, {"steps were masked": 1})
    process = command("import", bad, "-o", tmp_path / "store")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{bad} [seeds[0]]: the scene is broken" in output
    process = command("import", good, "-o", tmp_path / "store", "--format", "nonsense")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1 and "unknown format" in errors
