"""Light programmes."""

import numpy as np
import pytest

from perlsim.errors import PerlsimError
from perlsim.lights import LightProgramme, fixed_cycle, with_programmes
from perlsim.readers.synthetic import generate
from perlsim.vocabulary import LightState

GREEN, YELLOW, RED = LightState.GREEN, LightState.YELLOW, LightState.RED


def test_a_cycle_repeats_and_a_switch_belongs_to_the_phase_it_begins():
    programme = fixed_cycle(green=2.0, yellow=0.5, red=1.5, offset=1.0)
    times = np.array([1.0, 2.9, 3.0, 3.4, 3.5, 4.9, 5.0, 0.9, -3.0])
    assert programme.at(times).tolist() == [GREEN, GREEN, YELLOW, YELLOW, RED, RED, GREEN, RED, GREEN]


def test_phases_of_no_duration_are_never_shown():
    programme = LightProgramme((GREEN, YELLOW, RED), (1.0, 0.0, 1.0))
    assert set(programme.at(np.arange(0, 4, 0.1)).tolist()) == {GREEN, RED}


@pytest.mark.parametrize("durations", [(0.0, 0.0), (1.0, -0.5), (1.0,)])
def test_senseless_durations_are_refused(durations):
    with pytest.raises(PerlsimError, match="durations"):
        LightProgramme((GREEN, RED), durations).at(np.zeros(1))


def test_a_programme_replaces_the_log_of_its_lights_only():
    scenario = next(iter(generate(1, 0, ["signalised_junction"])))
    changed = with_programmes(scenario, {0: fixed_cycle(1.0, 0.5, 0.5)})
    assert changed.lights.state[0, :20].tolist() == [GREEN] * 10 + [YELLOW] * 5 + [RED] * 5
    assert np.array_equal(changed.lights.state[1:], scenario.lights.state[1:])
    changed.validate()
    with pytest.raises(PerlsimError, match="none of them"):
        with_programmes(scenario, {999: fixed_cycle(1.0, 1.0, 1.0)})
