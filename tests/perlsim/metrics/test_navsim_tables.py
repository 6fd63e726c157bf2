"""PDMS and EPDMS from tables of sub-scores."""

import csv

import numpy as np
import pytest

from perlsim.errors import FormatError
from perlsim.metrics.navsim_tables import read_table

V2 = {
    "no_at_fault_collisions": 1.0,
    "drivable_area_compliance": 1.0,
    "driving_direction_compliance": 1.0,
    "traffic_light_compliance": 1.0,
    "ego_progress": 0.8,
    "time_to_collision_within_bound": 1.0,
    "lane_keeping": 0.0,
    "history_comfort": 1.0,
}
V1 = {
    "no_at_fault_collisions": 0.5,
    "drivable_area_compliance": 1.0,
    "ego_progress": 0.8,
    "time_to_collision_within_bound": 0.0,
    "comfort": 1.0,
    "driving_direction_compliance": 0.5,
}


def write(path, *rows):
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def scene(token="a1", valid="True", **changes):
    return {"token": token, "valid": valid, **V2, **changes}


def test_epdms_of_a_scene_is_the_product_times_the_weighted_mean(tmp_path):
    table = read_table(
        write(tmp_path / "t.csv", scene(no_at_fault_collisions=0.5, driving_direction_compliance=0.5))
    )
    assert table.form == "epdms"
    assert table.average() == pytest.approx(0.25 * (5 * 0.8 + 5 + 0 + 2) / 14)


@pytest.mark.parametrize("factor", list(V2)[:4])
def test_each_factor_brings_a_scene_to_zero(tmp_path, factor):
    assert read_table(write(tmp_path / "t.csv", scene(**{factor: 0.0}))).average() == 0.0


def test_extended_comfort_weighs_only_where_it_was_scored(tmp_path):
    rows = [
        scene(f"a{i}", two_frame_extended_comfort=value) for i, value in enumerate(("1.0", "0.0", "", "nan"))
    ]
    without = (5 * 0.8 + 5 + 2) / 14
    expected = [(5 * 0.8 + 5 + 2 + 2) / 16, (5 * 0.8 + 5 + 2) / 16, without, without]
    np.testing.assert_allclose(read_table(write(tmp_path / "t.csv", *rows)).scores(), expected)


def test_pdms_of_a_first_version_table_leaves_the_driving_direction_out(tmp_path):
    table = read_table(write(tmp_path / "t.csv", {"": 0, "token": "a", "valid": "True", **V1}))
    assert table.form == "pdms"
    assert table.average() == pytest.approx(0.5 * (5 * 0.8 + 2) / 12)


def test_rows_of_averages_are_no_scenes_and_are_checked(tmp_path):
    right = {"token": "average_all_frames", "valid": "True", **V2, "score": 0.5}
    table = read_table(write(tmp_path / "t.csv", scene("a", score=11 / 14), scene("b", score=11 / 14), right))
    assert table.tokens == ("a", "b")
    (wrong,) = table.disagreements()
    assert (wrong.line, wrong.token, wrong.column, wrong.stated) == (4, "average_all_frames", "score", 0.5)
    assert wrong.expected == pytest.approx(11 / 14)


def test_a_row_whose_score_does_not_follow_is_named(tmp_path):
    path = write(tmp_path / "t.csv", scene("a", score=11 / 14), scene("b", score=0.9))
    (wrong,) = read_table(path).disagreements()
    assert (wrong.line, wrong.token, wrong.column, wrong.stated) == (3, "b", "score", 0.9)


def test_scores_may_be_left_out_but_not_of_some_scenes(tmp_path):
    assert read_table(write(tmp_path / "t.csv", scene("a"), scene("b"))).disagreements() == []
    table = read_table(write(tmp_path / "t.csv", scene("a", score=11 / 14), scene("b", score="")))
    assert [wrong.token for wrong in table.disagreements()] == ["b"]


def test_scenes_without_scores_are_left_out_and_named(tmp_path):
    failed = {"token": "b", "valid": "False"}
    table = read_table(write(tmp_path / "t.csv", scene("a"), failed))
    assert (table.tokens, table.failed) == (("a",), ("b",))


def test_a_scene_that_comes_twice_counts_once(tmp_path):
    table = read_table(write(tmp_path / "t.csv", scene("a"), scene("b"), scene("a", ego_progress=0.0)))
    assert (table.tokens, table.duplicates) == (("a", "b"), ((4, "a"),))


def test_a_two_stage_table_is_scored_by_stage(tmp_path):
    one = {f"{name}_stage_one": value for name, value in V2.items()}
    two = {f"{name}_stage_two": value / 2 for name, value in V2.items()}
    comfort = {"two_frame_extended_comfort_stage_one": 1.0}
    rows = [
        {"token": "a", "valid": "True", **one, **comfort, "score": 13 / 16},
        {"token": "b", "valid": "True", **two, "score": 0.0},
        {"token": "extended_pdm_score_combined", "valid": "True", "score": 0.3},
    ]
    table = read_table(write(tmp_path / "t.csv", *rows))
    assert table.form == "epdms_two_stage"
    assert table.average(1) == pytest.approx(13 / 16)
    assert table.average(2) == pytest.approx(0.5**5 * 11 / 14)
    assert [wrong.token for wrong in table.disagreements()] == ["b"]
    assert table.summaries["extended_pdm_score_combined"][1]["score"] == 0.3


@pytest.mark.parametrize("text", ["nan", "-0.1", "1.5", "", "high", "inf"])
def test_a_sub_score_outside_zero_to_one_is_refused_with_file_line_and_column(tmp_path, text):
    path = write(tmp_path / "t.csv", scene("a"), scene("b", lane_keeping=text))
    with pytest.raises(FormatError) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert caught.value.field == "line 3, column lane_keeping"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("token,valid\n", "lacks the columns no_at_fault_collisions"),
        ("token,a,b\n1,2,3\n", "lacks the columns"),
        (",".join(["token", *V2]) + "\n", "no scene"),
        (",".join(["token", *V2]) + "\na,1,1\n", "line 2"),
        (",".join(["token", *V2]) + "\na" + ",1" * 9 + "\n", "line 2"),
        (",".join(["token", "valid", *V2]) + "\na,maybe" + ",1" * 8 + "\n", "column valid"),
        (b"\xff\xfe\x00token", "no table"),
    ],
)
def test_what_is_no_table_of_sub_scores_is_refused(tmp_path, content, says):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FormatError, match=says):
        read_table(path)


def test_every_scene_of_the_real_tables_is_reproduced(real_data):
    counts = {}
    for path in sorted((real_data / "known_answers/navsim").glob("*.csv")):
        table = read_table(path)
        assert np.isfinite(table.stated).all()
        np.testing.assert_allclose(table.scores(), table.stated, rtol=0, atol=1e-12)
        assert table.disagreements() == []
        for _, numbers in table.summaries.values():
            assert table.average() == pytest.approx(numbers["score"], abs=1e-12)
        counts[path.name] = len(table.tokens), len(table.summaries)
    assert sorted(counts.values()) == [(12143, 0), (12146, 1), (12146, 1)]
