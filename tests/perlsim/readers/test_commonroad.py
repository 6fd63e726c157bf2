import commonroad_files as files
import numpy as np
import pytest
from fuzzing import assert_clean, mutations

from perlsim.errors import FormatError
from perlsim.geometry.polylines import project
from perlsim.readers import FORMATS, ReadOptions, guess_format
from perlsim.vocabulary import AgentType, LaneType, LightState, MarkingType

READER = FORMATS["commonroad"]
GREEN, YELLOW, RED = LightState.GREEN, LightState.YELLOW, LightState.RED


def read(file, **options):
    (scenario,) = READER.read(file, ReadOptions(**options))
    return scenario


def agent(scenario, name):
    return scenario.tracks.ids.index(name)


def test_the_planning_problem_is_an_ego_at_one_step(tmp_path):
    scenario = read(files.write(tmp_path))
    ego = scenario.ego.idx
    assert scenario.tracks.ids[ego] == "90"
    assert scenario.tracks.valid[ego].tolist() == [True] + [False] * 10
    np.testing.assert_allclose(scenario.tracks.velocity[ego, 0], [7.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(scenario.origin, [20, 2, 0])


def test_the_route_of_a_planning_problem_leads_to_its_goal(tmp_path):
    route = read(files.write(tmp_path)).route
    assert set(route.lane_idx.tolist()) >= {0, 3, 5}


def test_the_route_changes_lanes_where_the_goal_is_on_the_lane_beside(tmp_path):
    goal = "<rectangle><length>2</length><width>1</width><center><x>90</x><y>-2</y></center></rectangle>"
    parts = [*files.default_lanelets(), files.problem(goal=goal)]
    scenario = read(files.write(tmp_path, *parts))
    to_goal = project(scenario.route.points, np.array([[70.0, -4.0, 0.0]]))
    assert to_goal.distance[0] < 0.02
    assert project(scenario.route.points, np.zeros((1, 3))).distance[0] < 0.02


def test_a_goal_without_a_place_gives_a_route_straight_on(tmp_path):
    parts = [*files.default_lanelets(), files.problem(goal="")]
    scenario = read(files.write(tmp_path, *parts))
    assert len(scenario.route.points) > 50


def test_a_goal_that_no_lane_leads_to_gives_a_route_all_the_same(tmp_path):
    parts = [*files.default_lanelets(), files.problem(goal='<lanelet ref="3"/>')]
    assert len(read(files.write(tmp_path, *parts)).route.points) > 50


def test_several_planning_problems_give_several_scenarios(tmp_path):
    parts = [*files.default_lanelets(), files.problem(90), files.problem(91, x=50)]
    scenarios = list(READER.read(files.write(tmp_path, *parts)))
    assert [s.scenario_id for s in scenarios] == ["XXX_Town-1_2_T-1_90", "XXX_Town-1_2_T-1_91"]
    assert {s.recording_id for s in scenarios} == {"XXX_Town-1"}


def test_a_chosen_obstacle_becomes_the_ego_with_its_whole_track(tmp_path):
    scenario = read(files.write(tmp_path), ego="40")
    assert scenario.tracks.ids[scenario.ego.idx] == "40"
    assert scenario.tracks.valid[scenario.ego.idx].all()
    assert "90" not in scenario.tracks.ids


def test_an_ego_that_is_not_there_is_refused_with_the_choice(tmp_path):
    with pytest.raises(FormatError, match="planning problem \\(90\\)"):
        read(files.write(tmp_path), ego="12345")


def test_a_file_without_planning_problem_has_no_ego(tmp_path):
    scenario = read(files.write(tmp_path, *files.default_lanelets(), files.car(40, 50, -2)))
    assert not scenario.has_ego
    assert "ego" in scenario.missing


def test_trajectories_come_with_position_heading_and_velocity(tmp_path):
    car = files.car(40, 50, 6, heading=3.0, direction=-1.0)
    scenario = read(files.write(tmp_path, *files.default_lanelets(), car, files.problem()))
    row = agent(scenario, "40")
    world = scenario.tracks.position[row] + scenario.origin
    np.testing.assert_allclose(world[:, 0], 50 - np.arange(11), atol=1e-5)
    np.testing.assert_allclose(scenario.tracks.heading[row], 3.0, rtol=1e-6)
    np.testing.assert_allclose(
        scenario.tracks.velocity[row, 0], 10 * np.array([np.cos(3), np.sin(3)]), rtol=1e-5
    )
    np.testing.assert_allclose(scenario.tracks.size[row, :2], [4.0, 1.8], rtol=1e-6)


def test_of_intervals_and_regions_the_middle_is_taken(tmp_path):
    region = "<circle><radius>1</radius><center><x>60</x><y>-3</y></center></circle>"
    heading = files.between("orientation", 0.2, 0.4)
    first = files.state("initialState", 0, 0, 0, heading=heading, position=region)
    obstacle = (
        f'<dynamicObstacle id="40"><type>car</type><shape>{files.RECTANGLE}</shape>{first}</dynamicObstacle>'
    )
    scenario = read(files.write(tmp_path, *files.default_lanelets(), obstacle))
    np.testing.assert_allclose(scenario.tracks.position[0, 0] + scenario.origin, [60, -3, 0], atol=1e-5)
    assert scenario.tracks.heading[0, 0] == pytest.approx(0.3)


def test_circles_and_polygons_become_boxes_and_a_polygons_middle_counts(tmp_path):
    corners = ((0, -1), (4, -1), (4, 1), (0, 1))
    polygon = files.bound("polygon", corners)
    circle = "<circle><radius>0.4</radius></circle>"
    parts = [
        files.car(40, 50, -2, shape=polygon, heading=np.pi / 2),
        files.car(41, 70, -2, shape=circle, kind="pedestrian"),
    ]
    scenario = read(files.write(tmp_path, *files.default_lanelets(), *parts))
    np.testing.assert_allclose(scenario.tracks.size[0, :2], [4, 2], rtol=1e-6)
    np.testing.assert_allclose(scenario.tracks.position[0, 0] + scenario.origin, [50, 0, 0], atol=1e-5)
    np.testing.assert_allclose(scenario.tracks.size[1, :2], [0.8, 0.8], rtol=1e-6)
    assert scenario.tracks.kind.tolist() == [AgentType.VEHICLE, AgentType.PEDESTRIAN]


def test_static_obstacles_are_there_all_the_time_at_rest(tmp_path):
    parts = [files.car(40, 50, -2), files.parked(41, 80, -3, kind="constructionZone")]
    scenario = read(files.write(tmp_path, *files.default_lanelets(), *parts))
    row = agent(scenario, "41")
    assert scenario.tracks.valid[row].all()
    assert not scenario.tracks.velocity[row].any()
    assert scenario.tracks.kind[row] == AgentType.STATIC


def test_obstacles_with_occupied_areas_only_are_kept_at_one_step_and_reported(tmp_path):
    occupancy = "<occupancySet><occupancy/></occupancySet>"
    obstacle = (
        f'<dynamicObstacle id="41"><type>car</type><shape>{files.RECTANGLE}</shape>'
        f"{files.state('initialState', 70, -2, 0)}{occupancy}</dynamicObstacle>"
    )
    scenario = read(files.write(tmp_path, *files.default_lanelets(), files.car(40, 50, -2), obstacle))
    assert scenario.tracks.valid[agent(scenario, "41")].sum() == 1
    assert any("occupied areas" in repair for repair in scenario.repairs)


def test_lanelets_become_lanes_with_kind_limit_and_neighbours(tmp_path):
    lanes = read(files.write(tmp_path)).road.lanes
    assert lanes.ids == ("1", "2", "3", "4", "5", "6")
    assert lanes.kind.tolist() == [
        *(LaneType.DRIVING, LaneType.DRIVING, LaneType.FREEWAY, LaneType.DRIVING, LaneType.DRIVING),
        LaneType.BUS,
    ]
    assert lanes.speed_limit[0] == pytest.approx(13.4112)
    assert np.isnan(lanes.speed_limit[1:]).all()
    assert [row.tolist() for row in lanes.successors.rows()] == [[3, 4], [], [], [5], [], []]
    assert [row.tolist() for row in lanes.right.rows()] == [[1], [], [], [], [], []]
    assert [row.tolist() for row in lanes.left.rows()] == [[], [0], [], [], [], []]
    assert lanes.in_junction.tolist() == [False, False, False, True, True, False]
    np.testing.assert_allclose(lanes.centre[0][:, 1] + 2.0, 2.0, atol=1e-5)


def test_shared_borders_are_kept_once_with_the_paint_that_either_lanelet_gives(tmp_path):
    parts = files.default_lanelets()[:3]
    markings = read(files.write(tmp_path, *parts, files.car(40, 50, -2))).road.markings
    kinds = sorted(markings.kind.tolist())
    assert kinds == sorted(
        [MarkingType.NONE, MarkingType.BROKEN, MarkingType.SOLID, MarkingType.DOUBLE_SOLID]
    )


def test_crosswalk_lanelets_become_crosswalks_and_sidewalks_no_lanes(tmp_path):
    scenario = read(files.write(tmp_path))
    assert len(scenario.road.crosswalks) == 1
    assert not {"7", "8"} & set(scenario.road.lanes.ids)


def test_stop_signs_stand_at_the_end_of_the_lanelet_that_refers_to_them(tmp_path):
    scenario = read(files.write(tmp_path))
    signs = scenario.road.stop_signs
    assert signs.lane_idx.tolist() == [1]
    np.testing.assert_allclose(signs.position[0] + scenario.origin, [100, -1.995, 0], atol=0.01)


def test_lights_for_directions_control_the_lanelets_that_follow_from_the_stop_line_on(tmp_path):
    scenario = read(files.write(tmp_path))
    lights = scenario.lights
    by_lane = dict(zip(lights.lane_idx.tolist(), lights.state.tolist(), strict=True))
    cycle = [GREEN] * 3 + [YELLOW] * 2 + [RED] * 5
    assert by_lane[3] == [*cycle, GREEN]
    assert by_lane[4] == [cycle[(step - 4) % 10] for step in range(11)]
    np.testing.assert_allclose(lights.position + scenario.origin, [[98, 2, 0]] * 2, atol=1e-5)


def test_a_light_for_all_directions_controls_its_own_lanelet(tmp_path):
    parts = files.default_parts()
    parts[parts.index(files.LIGHTS)] = files.light(70, "all") + files.light(71, "all", active="false")
    lights = read(files.write(tmp_path, *parts)).lights
    assert lights.lane_idx.tolist() == [0]
    assert lights.state[0, 0] == GREEN


def test_a_light_out_of_order_is_off(tmp_path):
    parts = files.default_parts()
    parts[parts.index(files.LIGHTS)] = files.light(70, "all", active="false")
    lights = read(files.write(tmp_path, *parts)).lights
    assert set(lights.state[0].tolist()) == {LightState.OFF}


def test_a_file_that_begins_late_keeps_its_lights_in_time(tmp_path):
    parts = files.default_lanelets()
    parts += [files.SIGNS, files.LIGHTS, files.INTERSECTION, files.car(40, 50, -2, first=7)]
    scenario = read(files.write(tmp_path, *parts))
    straight = scenario.lights.lane_idx.tolist().index(3)
    assert scenario.lights.state[straight, :4].tolist() == [RED, RED, RED, GREEN]
    assert scenario.start_time == pytest.approx(0.7)


def test_the_drivable_area_is_the_union_of_the_lanelets(tmp_path):
    scenario = read(files.write(tmp_path, *files.default_lanelets()[:3], files.car(40, 50, -2)))
    (ring,) = scenario.road.edges.rows()
    x, y = ring[:-1, :2].T.astype(float)
    area = 0.5 * (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert area == pytest.approx(1200, rel=1e-3)


def test_repeated_ids_are_reported_and_the_first_counts(tmp_path):
    parts = [*files.default_lanelets(), files.lanelet(1, files.along(90), files.along(86))]
    parts += [files.car(40, 50, -2), files.car(40, 70, -2)]
    scenario = read(files.write(tmp_path, *parts))
    assert sum("id that was taken" in repair for repair in scenario.repairs) == 2
    assert scenario.tracks.num_agents == 1


def test_the_older_version_is_read_too(tmp_path):
    lane = files.lanelet(1, files.along(4), files.along(0), extra="<speedLimit>13.5</speedLimit>")
    obstacle = files.car(40, 50, 2).replace("dynamicObstacle", "obstacle")
    obstacle = obstacle.replace("<type>", "<role>dynamic</role><type>")
    scenario = read(files.write(tmp_path, lane, obstacle, version="2018b"))
    assert scenario.road.lanes.speed_limit[0] == pytest.approx(13.5)
    assert scenario.tracks.valid[0].all()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"version": "2030z"}, "commonRoadVersion"),
        ({"dt": "0"}, "timeStepSize"),
        ({"dt": "x"}, "timeStepSize"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, options, complaint):
    with pytest.raises(FormatError, match=complaint):
        read(files.write(tmp_path, **options))


def test_numbers_that_are_none_are_refused_by_place(tmp_path):
    text = files.document(*files.default_parts()).replace("<x>0</x>", "<x>nan</x>", 1)
    (tmp_path / "scene.xml").write_text(text)
    with pytest.raises(FormatError, match="lanelet 1"):
        read(tmp_path / "scene.xml")


def test_a_far_time_step_is_refused(tmp_path):
    with pytest.raises(FormatError, match="time step"):
        read(files.write(tmp_path, *files.default_lanelets(), files.car(40, 50, -2, first=10**9)))


def test_entities_and_outside_files_are_not_read(tmp_path):
    (tmp_path / "secret.txt").write_text("13.0")
    entity = f'<!DOCTYPE x [<!ENTITY s SYSTEM "file://{tmp_path}/secret.txt">]>'
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    for doctype in (entity, bomb):
        text = files.document(*files.default_parts()).replace('<?xml version="1.0"?>', doctype)
        (tmp_path / "scene.xml").write_text(text)
        with pytest.raises(FormatError, match="document type"):
            read(tmp_path / "scene.xml")


def test_the_file_is_recognised_by_its_root(tmp_path):
    assert guess_format(files.write(tmp_path)).name == "commonroad"
    (tmp_path / "other.xml").write_text("<OpenDRIVE/>")
    assert not READER.sniff(tmp_path / "other.xml")


def test_damaged_files_end_in_a_scenario_or_a_clear_error(tmp_path):
    file = files.write(tmp_path)
    for damaged in mutations(file.read_bytes(), seed=5, count=150):
        file.write_bytes(damaged)
        assert_clean("commonroad", file)


def test_values_of_other_magnitude_end_in_a_scenario_or_a_clear_error(tmp_path):
    text = files.document(*files.default_parts())
    for old in (
        "<duration>3</duration>",
        "<x>98</x>",
        "<length>4.0</length>",
        "<exact>10.0</exact>",
        'ref="5"',
    ):
        for new in ("-1", "0", "1e308", "1e400", "", "x", "1"):
            inner = old.split(">")[1].split("<")[0] if ">" in old else "5"
            (tmp_path / "scene.xml").write_text(text.replace(old, old.replace(inner, new)))
            assert_clean("commonroad", tmp_path / "scene.xml")


def test_real_files_have_lanes_routes_and_road_users_that_face_where_they_move(real_data):
    folder = real_data / "logs" / "commonroad"
    some = sorted(folder.glob("*_T-1.xml"))[::6]
    assert some
    for file in some:
        scenario = read(file)
        assert scenario.tracks.num_agents > 10
        assert (scenario.route.lane_idx >= 0).any()
        if "Lanker" in file.name:
            assert len(scenario.lights.position) > 10
            assert scenario.road.lanes.in_junction.any()
            assert np.nanmax(scenario.road.lanes.speed_limit) == pytest.approx(13.4112)
        tracks = scenario.tracks
        whole = tracks.valid[:, 2:] & tracks.valid[:, 1:-1] & tracks.valid[:, :-2]
        moved = (tracks.position[:, 2:, :2] - tracks.position[:, :-2, :2]) / (2 * scenario.dt)
        speed = np.linalg.norm(moved, axis=-1)
        moving = whole & (speed > 1)
        apart = np.arctan2(moved[..., 1], moved[..., 0]) - tracks.heading[:, 1:-1]
        assert np.median(np.abs((apart + np.pi) % (2 * np.pi) - np.pi)[moving]) < 0.02
        logged = np.linalg.norm(tracks.velocity[:, 1:-1], axis=-1)
        assert np.median(np.abs(logged - speed)[moving] / speed[moving]) < 0.031
