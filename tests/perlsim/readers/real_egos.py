"""What holds for the logged ego of every correctly read log."""

from perlsim.info.sanity import sanity_of


def assert_ego_is_plausible(scenario):
    """The ego overlaps no other box, faces where it moves, and its speed is that of its positions."""
    sanity = sanity_of(scenario)
    assert sanity is not None, "the log names no ego"
    assert sanity.overlap_steps == 0, scenario.scenario_id
    # Of an ego that stands neither is known (NaN).
    assert not sanity.heading_error > 0.11 and not sanity.speed_error > 0.031, scenario.scenario_id
