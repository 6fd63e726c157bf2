"""The store and its numbers on real logs."""

import numpy as np
import pytest
from test_splits_tags_duplicates import in_another_form, window

from perlsim.info import report_store
from perlsim.ingest import ImportOptions, import_logs
from perlsim.readers import FORMATS
from perlsim.scenario import Ego
from perlsim.store import ScenarioStore, SplitRule


def scenes_of(name, paths):
    return [scene for path in sorted(paths) for scene in FORMATS[name].read(path)]


def test_a_real_scene_is_known_again_through_a_format_without_ego_and_with_fewer_steps(real_data, tmp_path):
    waymo = scenes_of("scenarionet", (real_data / "logs" / "scenarionet").glob("sd_[2-6]*.pkl"))
    others = scenes_of("womd", (real_data / "logs" / "womd").glob("*one_scenario*"))
    store = ScenarioStore.create(tmp_path / "s")
    store.append([*waymo, *others], keep_duplicates=False)
    assert len(store) == len(waymo) + 1 and not list(store.duplicates)
    for scene in waymo:
        again = in_another_form(window(scene, 40, 131), noise=0.005).replace(ego=Ego(), recording_id="other")
        store.append([again], keep_duplicates=False)
        assert list(store.duplicates)[-1].of_id == scene.scenario_id
    assert len(store) == len(waymo) + 1


def test_windows_of_one_real_drive_that_overlap_are_kept_and_share_a_split_whatever_they_are_called(
    real_data, tmp_path
):
    drives = scenes_of("scenarionet", (real_data / "logs" / "scenarionet").glob("sd_[2-6]*.pkl"))
    windows = [
        window(drive, first, first + 91).replace(
            scenario_id=f"{drive.scenario_id} from {first}", recording_id=f"drive {row} from {first}"
        )
        for row, drive in enumerate(drives)
        for first in (0, 50, 100)
    ]
    for seed in range(4):
        store = ScenarioStore.create(tmp_path / str(seed), SplitRule(seed=seed, fractions=(0.5, 0.25, 0.25)))
        store.append(windows, keep_duplicates=False)
        assert len(store) == len(windows)
        splits = np.array(store.splits).reshape(-1, 3)
        assert (splits == splits[:, :1]).all()
    assert report_store(store).duplicates["linked"] >= 2 * len(drives)


@pytest.mark.slow
def test_every_real_log_is_imported_and_its_numbers_make_sense(real_data, tmp_path):
    logs = real_data / "logs"
    options = ImportOptions(num_workers=2)
    report = import_logs([str(logs)], tmp_path / "store", options)
    assert report.refused == [] and report.logs == 73
    store = ScenarioStore.open(tmp_path / "store")
    for source in report_store(store).sources:
        if source.dataset in ("waymo", "argoverse2"):
            assert source.overlap_steps == 0, source.source
        if source.heading_error_worst is not None:
            assert source.heading_error_worst <= 0.11, source.source
            assert source.speed_error_worst <= 0.031, source.source
    assert import_logs([str(logs)], tmp_path / "store", options).skipped_logs == 73
    assert np.isfinite(store[0].tracks.position).all()
