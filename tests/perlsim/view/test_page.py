"""The page holds everything, asks for nothing, and survives any name."""

import json
import re
import shutil

import pytest

from perlsim.cli import main
from perlsim.errors import PerlsimError
from perlsim.store import ScenarioStore
from perlsim.view.page import build_page
from perlsim.view.sources import choose, open_sides


def index_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="index">(.*?)</script>', page, re.S)[1])


def page_of(paths, policies=(), scenes=(), limit=100, **options) -> str:
    sides = open_sides(paths, policies)
    keys, notices = choose(sides, scenes, limit)
    return build_page(sides, keys, notices, **options)


def command(*words) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["view", *map(str, words)])
    return stop.value.code


def test_page_names_no_address_and_no_other_file(store, run_folder):
    page = re.sub(r'(<script type="text/plain"[^>]*>)[^<]*', r"\1", page_of([store, run_folder]))
    assert not re.search(r"https?://|//[a-z]|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket", page)
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    assert "default-src 'none'" in page


def test_page_is_the_same_each_time(store):
    assert page_of([store]) == page_of([store])


def test_hostile_names_stay_text(scenarios, tmp_path):
    name = "</script><script>window.hit=1</script><!--{data}-->&amp;\u2028"
    store = ScenarioStore.create(tmp_path / "logs")
    store.append([scenarios[0].replace(scenario_id=name, place=name, dataset=name)])
    page = page_of([tmp_path / "logs"], title=name)
    plain = page_of([tmp_path / "logs"], title="plain")
    assert index_of(page)["scenes"][0]["id"] == name
    assert page.count("<script") == plain.count("<script") and page.count("</script") == plain.count(
        "</script"
    )
    assert "<script>window.hit" not in page


def test_scenes_beyond_the_limit_are_left_out_with_a_notice(store, tmp_path, capsys):
    assert command(store, "-o", tmp_path / "page.html", "--scenes", 2) == 0
    index = index_of((tmp_path / "page.html").read_text())
    assert len(index["scenes"]) == 2
    assert "2 of 3 scenes are shown" in index["notices"][0]
    assert "2 of 3 scenes are shown" in capsys.readouterr().out


def test_chosen_scenes_are_shown(store, scenarios, tmp_path):
    name = scenarios[1].scenario_id
    assert command(store, "-o", tmp_path / "deep" / "page.html", "--scene", name) == 0
    page = (tmp_path / "deep" / "page.html").read_text()
    assert [scene["id"] for scene in index_of(page)["scenes"]] == [name]


def test_policies_are_sides_with_their_metrics(run_folder):
    index = index_of(page_of([run_folder]))
    assert [side["label"] for side in index["sides"]] == ["straight", "slow/er"]
    first, _, last = index["scenes"]
    assert first["metrics"][0] == {"pdms": 0.9, "ego_progress": 0.75, "epdms": None}
    assert last["plays"][1] is None and last["metrics"][1] == {}
    assert index["notices"] == ["slow/er has no rollout of 1 of these 3 scenes"]
    assert not index["compare"]


def test_policies_come_in_the_order_asked_for_and_next_to_each_other(run_folder, tmp_path):
    assert command(run_folder, "--policy", "slow/er,straight", "-o", tmp_path / "page.html") == 0
    index = index_of((tmp_path / "page.html").read_text())
    assert [side["label"] for side in index["sides"]] == ["slow/er", "straight"]
    assert index["compare"]


def test_two_runs_with_the_same_policies_are_told_apart(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "other")
    index = index_of(page_of([run_folder, tmp_path / "other"], ["straight"]))
    assert [side["label"] for side in index["sides"]] == ["straight · run", "straight · other"]
    # The same road and the same rollout are in the page once.
    assert index["scenes"][0]["plays"][0] == index["scenes"][0]["plays"][1]


def test_metrics_that_are_not_numbers_are_not_available(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    lines = tmp_path / "run" / "rollouts" / "straight.jsonl"
    lines.write_text(lines.read_text().replace('"pdms": 0.9', '"pdms": NaN'))
    assert index_of(page_of([tmp_path / "run"]))["scenes"][0]["metrics"][0]["pdms"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scene", "signalised"], "unknown scene 'signalised'"),
        (["--policy", "strait"], "did you mean straight?"),
        ([], "nothing to write"),
    ],
)
def test_slips_are_named(run_folder, tmp_path, capsys, words, message):
    out = ["-o", tmp_path / "page.html"] if words else []
    assert command(run_folder, *words, *out) == 2
    assert message in capsys.readouterr().err


def test_folders_that_are_neither_store_nor_finished_run_are_refused(run_folder, tmp_path):
    with pytest.raises(PerlsimError, match="neither a scenario store nor a run"):
        open_sides([tmp_path])
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "run.json").rename(tmp_path / "run" / "unfinished.json")
    with pytest.raises(PerlsimError, match="not finished"):
        open_sides([tmp_path / "run"])
