"""nuPlan's own cases of comfort, whose signals NAVSIM's comfort is judged by."""

import json

import numpy as np
import pytest

from perlsim.metrics.pdm.comfort import comfort_signals


@pytest.mark.parametrize(
    ("case", "signal"),
    [
        ("ego_jerk", "jerk"),
        ("ego_lon_jerk", "longitudinal_jerk"),
        ("ego_lat_acceleration", "lateral"),
        ("ego_yaw_rate", "yaw_rate"),
        ("ego_yaw_acceleration", "yaw_acceleration"),
    ],
)
def test_the_signal_of_a_nuplan_case_is_reproduced_at_every_step(real_data, case, signal):
    (path,) = (real_data / "known_answers/nuplan").rglob(f"{case}/{case}.json")
    content = json.loads(path.read_text())
    states = [content["ego"], *content["ego_future_states"]]
    seconds = np.array([state["time_us"] for state in states]) * 1e-6
    acceleration = np.array([state["acceleration"] for state in states], float)
    heading = np.unwrap([state["pose"][2] for state in states])
    signals = comfort_signals(
        acceleration[:, 0],
        acceleration[:, 1],
        np.hypot(*acceleration.T),
        heading,
        float(np.diff(seconds).mean()),
    )
    expected = content["expected"]["time_series"]["values"]
    # The cases hold two decimals.
    np.testing.assert_allclose(np.asarray(getattr(signals, signal)), expected, atol=0.0051)
