"""The page in a headless Chromium, used as people use it: with mouse, keys and a phone's width."""

import json
import time

import numpy as np
import pytest

# Test folders are no packages: pytest puts this file's folder on the path.
from browser import Browser, find

from perlsim.scenario import Ego, Lights, Road, Route
from perlsim.store import ScenarioStore
from perlsim.view.page import build_page
from perlsim.view.sources import choose, open_sides

TIME = "Number(document.documentElement.dataset.time)"
HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    executable = find()
    if executable is None:
        pytest.skip("no Chromium: install the package chromium to test pages")
    with Browser(executable, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    chromium.messages.clear()
    chromium.requests.clear()
    chromium.size(1280, 800)
    chromium.dark(False)
    yield chromium
    # Chromium's advice about reading pixels is about these tests, which do so, not about the page.
    assert [text for text in chromium.messages if "willReadFrequently" not in text] == []
    assert chromium.run("document.documentElement.dataset.errors") == "0"
    assert [url for url in chromium.requests if not url.startswith(("file:", "data:", "about:"))] == []


@pytest.fixture(scope="module")
def pages(store, run_folder, scenarios, tmp_path_factory):
    """Pages by name: logs, a run, a comparison, bare scenes and hostile names."""
    folder = tmp_path_factory.mktemp("pages")
    signalised = scenarios[0]
    bare = [
        signalised.replace(scenario_id="no lights", lights=Lights()),
        signalised.replace(scenario_id="no ego", ego=Ego(), route=Route()),
        signalised.replace(scenario_id="no map", road=Road(), lights=Lights(), route=Route()),
        signalised.replace(scenario_id=HOSTILE, place=HOSTILE, dataset=HOSTILE),
    ]
    ScenarioStore.create(folder / "bare").append(bare)

    def write(name, path, **options):
        sides = open_sides([path])
        keys, notices = choose(sides, (), 100)
        (folder / name).write_text(build_page(sides, keys, notices, **options), "utf-8")

    write("logs.html", store)
    write("run.html", run_folder)
    write("compared.html", run_folder, compare=True)
    write("bare.html", folder / "bare", title=HOSTILE)
    return folder


def colours(browser, slot: int = 0) -> int:
    """Number of different colours on a stage."""
    return browser.run(
        f"""(() => {{
            const stage = perlsim.player.stages[{slot}];
            stage.draw();
            const {{ data }} = stage.context.getImageData(0, 0, stage.canvas.width, stage.canvas.height);
            return new Set(new Uint32Array(data.buffer)).size;
        }})()"""
    )


def test_gallery_shows_all_scenes_with_pictures(browser, pages):
    browser.open(pages / "logs.html")
    assert browser.run("document.querySelectorAll('.card').length") == 3
    browser.wait("document.querySelectorAll('.card[data-painted]').length === 3")
    assert browser.run("document.getElementById('count').textContent") == "3 scenes"


def test_card_opens_its_scene_and_back_leads_to_the_gallery(browser, pages, scenarios):
    browser.open(pages / "logs.html")
    browser.click(".card[data-number='1']")
    browser.wait(f"document.documentElement.dataset.scene === {json.dumps(scenarios[1].scenario_id)}")
    browser.wait("!document.getElementById('player').hidden")
    assert colours(browser) > 10
    browser.click("#back")
    browser.wait("!document.getElementById('gallery').hidden")


def test_gallery_sorts_and_filters_by_metric_source_and_text(browser, pages, scenarios):
    browser.open(pages / "logs.html")
    shown = "[...document.querySelectorAll('.card')].map((card) => Number(card.dataset.number))"
    change = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }"
    measure = browser.run("perlsim.gallery.measures.findIndex((m) => m.label === 'road users')")
    counts = [scenario.tracks.num_agents for scenario in scenarios]
    browser.run(f"({change})(document.getElementById('sort'), {measure})")
    assert browser.run(shown) == np.argsort(counts, kind="stable").tolist()
    browser.click("#direction")
    assert browser.run(shown)[0] == int(np.argmax(counts))
    browser.run(f"({change})(document.getElementById('measure'), {measure})")
    browser.run(f"({change})(document.getElementById('bound'), {max(counts)})")
    assert browser.run(shown) == [int(np.argmax(counts))]
    browser.run(f"({change})(document.getElementById('search'), 'no such scene')")
    assert browser.run(shown) == []
    browser.click("#clear")
    assert len(browser.run(shown)) == 3


def test_play_advances_time_and_pause_holds_it(browser, pages):
    browser.open(pages / "logs.html", "#scene=0")
    browser.click("#play")
    browser.wait(f"{TIME} > 0.3")
    browser.click("#play")
    held = browser.run(TIME)
    time.sleep(0.3)
    assert browser.run(TIME) == pytest.approx(held, abs=1e-6)
    assert browser.run("document.documentElement.dataset.playing") == "false"


def test_speed_scales_time(browser, pages):
    browser.open(pages / "logs.html", "#scene=0")
    browser.run("perlsim.player.setSpeed(8)")
    begin = time.monotonic()
    browser.run("perlsim.player.play()")
    browser.wait(f"{TIME} > 8")
    assert time.monotonic() - begin < 6


def test_scrubbing_goes_to_the_time_under_the_mouse(browser, pages):
    browser.open(pages / "logs.html", "#scene=0")
    browser.click("#timeline", at=(0.5, 0.7))
    browser.wait(f"Math.abs({TIME} - perlsim.player.duration / 2) < 0.1")


def test_marks_of_events_lead_to_their_time(browser, pages):
    browser.open(pages / "run.html", "#scene=0")
    assert browser.run("document.querySelectorAll('.mark').length") == 2
    browser.click(".mark[data-grade='bad']")
    browser.wait(f"{TIME} === 2")
    assert browser.run("document.querySelector('.flash').textContent") == "collision"
    browser.click(".event")
    browser.wait(f"{TIME} === 1")


def test_keys_play_step_and_change_the_scene(browser, pages):
    browser.open(pages / "logs.html", "#scene=0")
    browser.key("ArrowRight")
    browser.wait(f"Math.abs({TIME} - 0.1) < 1e-3")
    browser.key("ArrowRight", shift=True)
    browser.wait(f"Math.abs({TIME} - 1.1) < 1e-3")
    browser.key(" ")
    browser.wait(f"{TIME} > 1.2")
    browser.key(" ")
    assert browser.run("document.documentElement.dataset.playing") == "false"
    browser.key("n")
    browser.wait("location.hash === '#scene=1'")
    browser.key("f")
    assert browser.run("perlsim.camera.follow") is False


def test_page_holds_the_logged_poses_and_lights(browser, pages, scenarios):
    browser.open(pages / "logs.html", "#scene=0")
    tracks, lights = scenarios[0].tracks, scenarios[0].lights
    for step in (0, 50):
        found = browser.run(
            f"perlsim.player.plays[0].tracks.map((track) => [...track.slice({4 * step}, {4 * step + 2})])"
        )
        for here, position, valid in zip(
            found, tracks.position[:, step, :2], tracks.valid[:, step], strict=True
        ):
            assert here == ([None, None] if not valid else pytest.approx(position.tolist(), abs=0.006))
        states = browser.run(
            f"perlsim.player.plays[0].lightStates.map((_, i) => perlsim.player.plays[0].light(i, {step / 10}))"
        )
        assert states == lights.state[:, step].tolist()


def test_poses_between_steps_are_interpolated(browser, pages, scenarios):
    browser.open(pages / "logs.html", "#scene=0")
    tracks, ego = scenarios[0].tracks, scenarios[0].ego.idx
    pose = browser.run("perlsim.player.plays[0].egoNear(1.05)")
    expected = tracks.position[ego, 10:12, :2].mean(0)
    assert (pose["x"], pose["y"]) == pytest.approx(expected.tolist(), abs=0.01)


def test_pointing_at_the_ego_tells_id_and_speed(browser, pages, scenarios):
    browser.open(pages / "logs.html", "#scene=0")
    browser.click(".stage canvas")  # the ego stands in the middle
    tip = "document.getElementById('tip')"
    browser.wait(f"!{tip}.hidden")
    text = browser.run(f"{tip}.textContent")
    assert text.startswith("ego")
    assert scenarios[0].tracks.ids[scenarios[0].ego.idx] in text
    assert "m/s" in text


def test_wheel_zooms_and_dragging_pans(browser, pages):
    browser.open(pages / "logs.html", "#scene=0")
    scale = browser.run("perlsim.camera.scale")
    browser.send("Input.dispatchMouseEvent", type="mouseWheel", x=400, y=300, deltaX=0, deltaY=-120)
    browser.wait(f"perlsim.camera.scale > {scale}")
    before = browser.run("perlsim.player.stages[0].view()")
    mouse = {"button": "left", "buttons": 1, "clickCount": 1}
    browser.send("Input.dispatchMouseEvent", type="mousePressed", x=400, y=300, **mouse)
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=460, y=300, **mouse)
    browser.send("Input.dispatchMouseEvent", type="mouseReleased", x=460, y=300, **mouse)
    after = browser.run("perlsim.player.stages[0].view()")
    assert before["x"] - after["x"] == pytest.approx(60 / after["scale"], rel=0.02)


def test_what_is_under_the_pointer_stays_there_when_zooming(browser, pages):
    browser.open(pages / "logs.html", "#scene=0")
    browser.run("perlsim.player.fit()")
    there = "perlsim.player.stages[0].toWorld(200, 150)"
    before = browser.run(there)
    browser.run("perlsim.player.stages[0].zoom(1.7, 200, 150)")
    assert browser.run(there) == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_screen_and_world_are_inverse(browser, pages, turned):
    browser.open(pages / "logs.html", "#scene=0")
    browser.run(f"perlsim.player.headingUp({str(turned).lower()})")
    point = browser.run(
        "(() => { const s = perlsim.player.stages[0]; return s.toScreen(...s.toWorld(123, 77)); })()"
    )
    assert point == pytest.approx([123, 77], abs=1e-6)


def test_map_is_not_drawn_anew_for_each_picture(browser, pages):
    browser.open(pages / "logs.html", "#scene=1")
    browser.run("perlsim.player.play()")
    browser.wait(f"{TIME} > 0.2")
    before = browser.run("perlsim.player.mapsDrawn")
    browser.wait(f"{TIME} > 1.5")
    assert browser.run("perlsim.player.mapsDrawn") - before <= 2


@pytest.mark.parametrize("turned", [False, True])
def test_map_lies_where_it_belongs_while_it_moves(browser, pages, turned):
    browser.open(pages / "logs.html", "#scene=1")
    browser.run(f"perlsim.player.headingUp({str(turned).lower()})")
    # The picture at 1 s with the map as drawn at 0 s and moved, as drawn anew, and 8 pixels off.
    near, far = browser.run(
        """(() => {
            const { player, camera } = perlsim, stage = player.stages[0];
            const picture = (time, playing, again) => {
                player.time = time;
                player.playing = playing;
                if (again) stage.layerView = null;
                stage.draw();
                return stage.context.getImageData(0, 0, stage.canvas.width, stage.canvas.height).data;
            };
            const difference = (a, b) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;
            picture(0, false, true);
            const drawn = player.mapsDrawn;
            const moved = picture(1, true, false);
            if (player.mapsDrawn !== drawn) throw new Error("the map was drawn anew");
            const fresh = picture(1, false, true);
            camera.shift = [camera.shift[0] + 8, camera.shift[1]];
            return [difference(moved, fresh), difference(picture(1, false, true), fresh)];
        })()"""
    )
    assert near < far / 4


def test_comparison_plays_two_sides_in_step(browser, pages):
    browser.open(pages / "compared.html", "#scene=0")
    assert browser.run("[...document.querySelectorAll('.stage')].every((stage) => !stage.hidden)")
    assert browser.run("document.querySelectorAll('.mark').length") == 4
    browser.click("#play")
    browser.wait(f"{TIME} > 0.5")
    browser.click("#play")
    assert colours(browser, 0) > 10 and colours(browser, 1) > 10
    # The same camera: a point of the world lies at the same place of both stages when neither follows.
    browser.run("perlsim.player.follow(false)")
    places = browser.run("perlsim.player.stages.map((stage) => stage.toScreen(3, 4))")
    assert places[0] == pytest.approx(places[1])
    speeds = browser.run("perlsim.player.stages.map((s) => s.play.egoNear(perlsim.player.time).speed)")
    assert speeds[1] < speeds[0]
    cells = browser.run("[...document.querySelectorAll('.metrics .figure')].map((cell) => cell.textContent)")
    assert cells[:2] == ["0.900", "0.700"] and cells[-1] == "n/a"


def test_side_without_a_rollout_says_so(browser, pages):
    browser.open(pages / "compared.html", "#scene=2")
    assert (
        browser.run("document.querySelectorAll('.stage')[1].innerText")
        .strip()
        .endswith("no rollout of slow/er")
    )


def test_compare_opens_and_closes_the_second_side(browser, pages):
    browser.open(pages / "run.html", "#scene=0")
    assert browser.run("perlsim.player.plays.length") == 1
    browser.click("#compare")
    browser.wait("perlsim.player.plays.length === 2")
    browser.key("c")
    browser.wait("perlsim.player.sides[1] === -1 && document.querySelectorAll('.stage')[1].hidden")


@pytest.mark.parametrize("number", range(4))
def test_scenes_that_lack_something_play(browser, pages, number):
    browser.open(pages / "bare.html", f"#scene={number}")
    browser.click("#play")
    browser.wait(f"{TIME} > 0.2")
    assert colours(browser) > 3


def test_hostile_names_are_shown_as_text_and_never_run(browser, pages):
    browser.open(pages / "bare.html")
    titles = browser.run("[...document.querySelectorAll('.card strong')].map((title) => title.textContent)")
    assert titles[3] == HOSTILE
    browser.open(pages / "bare.html", "#scene=3")
    assert browser.run("document.getElementById('heading').textContent") == HOSTILE
    assert browser.run("typeof window.hit") == "undefined"


def test_dark_is_taken_from_the_system_and_can_be_changed(browser, pages):
    browser.dark()
    browser.open(pages / "logs.html", "#scene=0")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = browser.run(ground)
    browser.click("#theme")
    assert browser.run("document.documentElement.dataset.theme") == "light"
    assert browser.run(ground) != dark
    browser.run("localStorage.clear()")


@pytest.mark.parametrize("name", ["logs.html", "compared.html"])
@pytest.mark.parametrize("fragment", ["", "#scene=0"])
def test_nothing_runs_over_the_width_of_a_phone(browser, pages, name, fragment):
    browser.size(390, 844, ratio=2, mobile=True)
    browser.open(pages / name, fragment)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    if fragment:
        heights = browser.run("perlsim.player.stages.filter((s) => !s.element.hidden).map((s) => s.size[1])")
        assert min(heights) > 200
        box = browser.run(
            "(() => { const b = document.getElementById('play').getBoundingClientRect(); return [b.top, b.bottom]; })()"
        )
        assert 0 < box[0] < box[1] <= 844
