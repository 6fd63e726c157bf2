"""What the page gets is the scene, to a centimetre, and small."""

from dataclasses import replace

import numpy as np
import pytest
import shapely

from perlsim.readers.synthetic import generate
from perlsim.scenario import Ego, Lights, Road, Route
from perlsim.view.pack import decode, encode, gaps_between_lanes, lane_widths, pack_play, pack_road


def spread(track: dict, steps: int) -> np.ndarray:
    """Inverse of a packed track: ``[T, 4]`` x, y [m], heading [rad], speed [m/s], NaN where it was not seen."""
    rows = np.full((steps, 4), np.nan)
    spans = np.reshape(track["span"], (-1, 2))
    seen = np.concatenate([np.arange(start, start + count) for start, count in spans] or [np.zeros(0, int)])
    columns = [
        np.cumsum(track[name]) * unit for name, unit in zip("xyhv", (0.01, 0.01, 0.001, 0.1), strict=True)
    ]
    rows[seen] = np.stack(columns, 1)
    return rows


def points_of(line: list[int]) -> np.ndarray:
    return np.cumsum(np.reshape(line, (-1, 2)), 0) * 0.01


def test_text_holds_nothing_that_could_end_an_element_and_gives_the_content_back():
    content = {"id": "</script><!-- ü", "numbers": [1, -2, 3]}
    text = encode(content)
    assert decode(text) == content
    assert text.isascii() and set(text) & set("<>&\"'") == set()


def test_tracks_come_back_to_half_a_unit(scenarios):
    for scenario in scenarios:
        tracks, packed = scenario.tracks, decode(encode(pack_play(scenario, {})))
        for i in range(tracks.num_agents):
            rows, valid = spread(packed["tracks"][i], tracks.num_steps), tracks.valid[i]
            np.testing.assert_array_equal(~np.isnan(rows[:, 0]), valid)
            np.testing.assert_allclose(rows[valid, :2], tracks.position[i, valid, :2], atol=0.0051)
            turned = np.angle(np.exp(1j * (rows[valid, 2] - tracks.heading[i, valid])))
            assert np.abs(turned).max(initial=0) < 0.00051
            speed = np.linalg.norm(tracks.velocity[i, valid], axis=1)
            np.testing.assert_allclose(rows[valid, 3], speed, atol=0.051)


def test_headings_do_not_jump_where_they_wrap(scenarios):
    scenario = scenarios[0]
    heading = np.tile(np.linspace(3.0, 3.4, scenario.tracks.num_steps), (scenario.tracks.num_agents, 1))
    heading = np.angle(np.exp(1j * heading))
    valid = np.ones_like(heading, bool)
    tracks = replace(scenario.tracks, heading=heading, valid=valid)
    packed = pack_play(scenario.replace(tracks=tracks), {})
    assert np.abs(packed["tracks"][0]["h"][1:]).max() < 20  # mrad


def test_states_of_lights_come_back(scenarios):
    scenario = scenarios[0]
    assert len(scenario.lights.position)
    packed = pack_play(scenario, {})
    for runs, states in zip(packed["lights"], scenario.lights.state, strict=True):
        pairs = np.reshape(runs, (-1, 2))
        np.testing.assert_array_equal(np.repeat(pairs[:, 0], pairs[:, 1]), states)


def test_lines_of_the_map_stay_where_they_are(scenarios):
    for scenario in scenarios:
        packed = pack_road(scenario)
        for name, rows in (("lanes", scenario.road.lanes.centre), ("edges", scenario.road.edges)):
            for line, original in zip(packed[name], rows.rows(), strict=True):
                here = shapely.linestrings(points_of(line))
                assert shapely.hausdorff_distance(here, shapely.linestrings(original[:, :2]), 0.2) < 0.06


def test_eighty_steps_of_sixty_four_road_users_take_less_than_fifty_kilobytes():
    *_, scenario = generate(8, 0, ["multi_lane"])
    tracks, generator = scenario.tracks, np.random.default_rng(0)
    chosen = generator.integers(0, tracks.num_agents, 64)
    # Measured positions scatter by centimetres, which is what costs.
    position = tracks.position[chosen, :80] + generator.normal(0, 0.02, (64, 80, 3))
    packed = pack_play(
        scenario.replace(
            tracks=replace(
                tracks,
                position=position,
                heading=tracks.heading[chosen, :80] + generator.normal(0, 0.002, (64, 80)),
                velocity=tracks.velocity[chosen, :80] + generator.normal(0, 0.1, (64, 80, 2)),
                size=tracks.size[chosen],
                kind=tracks.kind[chosen],
                valid=np.ones((64, 80), bool),
                ids=tuple(map(str, range(64))),
            ),
            lights=Lights(),
        ),
        {},
    )
    assert len(encode(packed)) < 50_000


def test_what_a_run_recorded_is_packed_beside_the_tracks(scenarios):
    extra = {
        "events": [
            {"t": 1.5, "kind": "COLLISION", "agent": "7"},
            {"t": 0.1, "kind": "OFF_ROAD", "agent": None},
        ],
        "plans": [{"t": 0.5, "path": [[0, 0], [10, 0]], "speed": [10.0] * 20}],
        "log_ego": [None, [1.0, 2.0, 0.5], [1.5, 2.0, 0.5]],
    }
    packed = pack_play(scenarios[0], extra)
    assert packed["events"] == extra["events"]
    # 2 s at 10 m/s lead 20 m, straight on beyond the 10 m of the path.
    np.testing.assert_allclose(points_of(packed["plans"][0]["path"])[-1], (20, 0), atol=0.01)
    assert packed["log"]["span"] == [1, 2]
    assert packed["log"]["x"] == [100, 50]


def test_scenes_without_ego_route_lights_or_map_are_packed(scenarios):
    bare = scenarios[0].replace(ego=Ego(), route=Route(), lights=Lights(), road=Road())
    play, road = pack_play(bare, {}), pack_road(bare)
    assert (play["ego"], play["route"], play["lights"], play["log"], play["plans"]) == (-1, [], [], None, [])
    assert not any(road.values())


def test_unknown_widths_of_lanes_get_a_default(scenarios):
    road = scenarios[0].road
    unknown = replace(road, lanes=replace(road.lanes, width=np.full_like(road.lanes.width, np.nan)))
    widths = lane_widths(unknown)
    assert np.isfinite(widths).all() and len(widths) == len(road.lanes)
    assert lane_widths(road, np.array([-1, 0])).tolist() == [
        pytest.approx(3.5),
        pytest.approx(lane_widths(road)[0]),
    ]


def test_gaps_are_filled_between_lanes_but_not_round_islands(scenarios):
    road = scenarios[0].road
    assert gaps_between_lanes(replace(road, edges=type(road.edges).from_rows([], width=3))) == []
    # Two open borders far away: the middle of the junction is then known by its lanes alone.
    far = [[[1e4, 0, 0], [1e4 + 9, 0, 0]], [[1e4, 9, 0], [1e4 + 9, 9, 0]]]
    narrow = replace(
        road,
        edges=type(road.edges).from_rows(far, width=3),
        lanes=replace(road.lanes, width=np.full_like(road.lanes.width, 1.5)),
    )
    gaps = gaps_between_lanes(narrow)
    assert gaps
    inside = max(map(shapely.Polygon, gaps), key=lambda gap: gap.area).representative_point()
    through = [[inside.x, inside.y, 0], [inside.x + 0.1, inside.y, 0]]
    crossed = replace(narrow, edges=type(road.edges).from_rows([*far, through], width=3))
    assert len(gaps_between_lanes(crossed)) == len(gaps) - 1
