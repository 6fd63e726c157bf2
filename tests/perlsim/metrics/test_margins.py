"""Distances, times to collision, rates and forced brakes in closed form, and against shapely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shapely

from perlsim.geometry.boxes import Box
from perlsim.metrics.margins import (
    BRAKE_STEPS,
    TIME_LIMIT,
    box_distance,
    collision_rates,
    contact_time,
    lead_time_to_collision,
    leads,
    nearest_distance,
)
from perlsim.metrics.margins import (
    margins as measured_margins,
)
from perlsim.sim.types import Event

LENGTH, WIDTH = 4.0, 2.0
margins = jax.jit(measured_margins)


def box(x=0.0, y=0.0, heading=0.0, length=LENGTH, width=WIDTH):
    return Box(*(np.float32(v) for v in (x, y, np.cos(heading), np.sin(heading), length / 2, width / 2)))


def polygon(b):
    corner = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (b.half_length, b.half_width)
    return shapely.Polygon(corner @ np.array([[b.cos, b.sin], [-b.sin, b.cos]]) + (b.x, b.y))


def rows(*users):
    """Road users (x, y, heading, speed) as ``[8, A]``, and their sizes."""
    columns = [
        (x, y, 0, np.cos(h), np.sin(h), speed * np.cos(h), speed * np.sin(h), 1) for x, y, h, speed in users
    ]
    sizes = np.tile(np.array([[LENGTH / 2], [WIDTH / 2], [1.0]]), (1, len(users)))
    return jnp.asarray(np.array(columns, np.float32).T), jnp.asarray(sizes, jnp.float32)


def test_distances_of_boxes_apart_are_those_of_polygons():
    random, distance = np.random.default_rng(0), jax.jit(box_distance)
    for _ in range(300):
        x, y = random.uniform(-8, 8, 2)
        first = box(0, 0, random.uniform(-3, 3))
        second = box(x, y, random.uniform(-3, 3), *random.uniform(0.5, 9, 2))
        expected = shapely.distance(polygon(first), polygon(second))
        found = float(distance(first, second))
        assert found == pytest.approx(expected, abs=1e-4) if expected > 1e-4 else found < 1e-4


def test_the_depth_of_an_overlap_is_the_shortest_move_that_parts_the_boxes():
    assert box_distance(box(), box(x=3.5, y=0.2)) == pytest.approx(-0.5, abs=1e-6)
    assert box_distance(box(), box(x=0.5, y=1.7)) == pytest.approx(-0.3, abs=1e-6)


def test_two_boxes_that_close_at_a_known_speed_touch_after_gap_over_speed():
    gap, speed = 12.0, 5.0
    assert contact_time(box(), box(x=LENGTH + gap), -speed, 0.0) == pytest.approx(gap / speed)


def test_boxes_that_part_or_pass_never_touch():
    assert contact_time(box(), box(x=20), 5.0, 0.0) == np.inf
    assert contact_time(box(), box(x=20, y=WIDTH + 0.1), -5.0, 0.0) == np.inf
    assert contact_time(box(), box(x=20), 0.0, 0.0) == np.inf


def test_boxes_that_overlap_touch_now():
    assert contact_time(box(), box(x=1.0), 3.0, 0.0) == 0


def test_contact_times_are_those_of_boxes_moved_in_small_steps():
    random, time_to_contact = np.random.default_rng(1), jax.jit(contact_time)
    times = np.arange(0.0, 6.0, 0.005)
    touched = 0
    for _ in range(60):
        first, second = (
            box(heading=random.uniform(-3, 3)),
            box(*random.uniform(-25, 25, 2), random.uniform(-3, 3)),
        )
        velocity = -np.array([second.x, second.y]) * random.uniform(0.1, 0.5) + random.normal(size=2)
        shape = polygon(second)
        moved = [shapely.affinity.translate(shape, *(velocity * t)) for t in times]
        hits = shapely.intersects(polygon(first), moved)
        found = float(time_to_contact(first, second, *velocity))
        if hits.any():
            touched += 1
            assert found == pytest.approx(times[hits.argmax()], abs=0.006)
        else:
            assert found > times[-1] - 0.01
    assert 15 < touched < 60


def test_the_lead_is_the_nearest_ahead_in_the_same_direction():
    agents, sizes = rows((0, 0, 0, 10), (30, 0, 0, 2), (16, 0, 0, 6), (-10, 0, 0, 30), (12, 0, np.pi, 8))
    lead = leads(agents, sizes)
    assert lead.slot.tolist()[:4] == [2, -1, 1, 0]
    assert lead.gap[0] == pytest.approx(16 - LENGTH)
    np.testing.assert_allclose(lead_time_to_collision(agents, sizes)[0], (16 - LENGTH) / (10 - 6))


@pytest.mark.parametrize(
    ("y", "heading", "followed"),
    [
        (0.0, 1.3, True),
        (0.0, 1.32, False),
        (1.6, 0.16, True),
        (2.4, 0.19, False),
        (1.9, 0.0, True),
        (2.1, 0.0, False),
    ],
)
def test_who_counts_as_ahead_depends_on_heading_and_overlap(y, heading, followed):
    agents, sizes = rows((0, 0, 0, 10), (20, y, heading, 1))
    assert (leads(agents, sizes).slot[0] == 1) == followed


def test_nobody_is_reached_who_drives_away():
    agents, sizes = rows((0, 0, 0, 5), (20, 0, 0, 6))
    assert lead_time_to_collision(agents, sizes).tolist() == [TIME_LIMIT, TIME_LIMIT]


def test_rounded_corners_bring_boxes_apart_diagonally_but_not_ahead():
    ahead, sizes = rows((0, 0, 0, 0), (10, 0, 0, 0))
    np.testing.assert_allclose(nearest_distance(ahead, sizes, 0.7), 10 - LENGTH, rtol=1e-6)
    aside, _ = rows((0, 0, 0, 0), (LENGTH + 3, WIDTH + 4, 0, 0))
    radius = 0.7 * WIDTH / 2
    np.testing.assert_allclose(nearest_distance(aside, sizes), 5.0, rtol=1e-6)
    expected = np.hypot(3 + 2 * radius, 4 + 2 * radius) - 2 * radius
    np.testing.assert_allclose(nearest_distance(aside, sizes, 0.7), expected, rtol=1e-6)


def test_who_is_absent_or_on_another_level_is_not_near():
    agents, sizes = rows((0, 0, 0, 0), (6, 0, 0, 0), (7, 0, 0, 0))
    assert nearest_distance(agents.at[7, 1].set(0), sizes)[0] == pytest.approx(7 - LENGTH)
    assert nearest_distance(agents.at[2, 1].set(5.0), sizes)[0] == pytest.approx(7 - LENGTH)


def episode(*users, steps=21, brake=()):
    """``[T, 8, A]``; users in ``brake`` lose 6 m/s² from step 5 on until they stand."""
    frames = []
    speeds = np.array([user[3] for user in users], float)
    places = np.array([user[0] for user in users], float)
    for step in range(steps):
        users_now = [(x, user[1], user[2], v) for x, user, v in zip(places, users, speeds, strict=True)]
        frames.append(rows(*users_now)[0])
        places += 0.1 * speeds
        for slot in brake if step >= 5 else ():
            speeds[slot] = max(speeds[slot] - 0.6, 0.0)
    return jnp.stack(frames), rows(*users)[1]


def test_margins_of_an_approach_end_at_its_last_step():
    tracks, sizes = episode((0, 0, 0, 10), (40, 0, 0, 4), steps=21)
    found = margins(tracks, sizes)
    gaps = 36.0 - 0.6 * np.arange(21)
    np.testing.assert_allclose(found.min_distance, gaps[-1], rtol=1e-5)
    expected = np.minimum(gaps / 6.0, TIME_LIMIT)
    np.testing.assert_allclose(found.min_time_to_collision, expected.min(), rtol=1e-5)
    np.testing.assert_allclose(found.mean_time_to_collision, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.min_lead_time_to_collision, expected.min(), rtol=1e-5)
    np.testing.assert_allclose(found.mean_lead_time_to_collision, expected.mean(), rtol=1e-5)


def test_margins_of_an_ego_alone_are_without_conflict_and_its_distance_is_unknown():
    tracks, sizes = episode((0, 0, 0, 10))
    found = margins(tracks, sizes)
    assert np.isnan(found.min_distance)
    assert found.min_time_to_collision == TIME_LIMIT
    assert all(np.isnan(value) for value in margins(tracks.at[:, 7].set(0), sizes))


def test_steps_at_which_the_ego_is_absent_do_not_count():
    tracks, sizes = episode((0, 0, 0, 10), (40, 0, 0, 4))
    partly = margins(tracks.at[11:, 7, 0].set(0), sizes)
    np.testing.assert_allclose(partly, margins(tracks[:11], sizes), rtol=1e-6)


def test_a_follower_that_brakes_hard_is_forced_and_one_that_drives_ahead_or_brakes_softly_is_not():
    behind, ahead = (-20, 0, 0, 12), (20, 0, 0, 12)
    for user, brake, forced in ((behind, (1,), 1), (ahead, (1,), 0), (behind, (), 0)):
        tracks, sizes = episode((0, 0, 0, 12), user, brake=brake)
        assert margins(tracks, sizes).hard_brakes_forced == forced
    tracks, sizes = episode((0, 0, 0, 12), behind, brake=(1,), steps=BRAKE_STEPS)
    assert margins(tracks, sizes).hard_brakes_forced == 0


def test_permuting_and_padding_the_others_changes_no_margin():
    random = np.random.default_rng(2)
    users = [(0, 0, 0, 8)] + [(*random.uniform(-30, 30, 2), random.uniform(-3, 3), 5) for _ in range(6)]
    tracks, sizes = episode(*users)
    expected = margins(tracks, sizes)
    order = np.array([0, *(1 + random.permutation(6))])
    padding = np.zeros((tracks.shape[0], 8, 3), np.float32)
    more = jnp.concatenate([tracks[..., order], padding], -1)
    sizes = jnp.concatenate([sizes[:, order], jnp.full((3, 3), 0.5)], 1)
    np.testing.assert_allclose(margins(more, sizes), expected, rtol=1e-5)


def test_rates_are_shares_of_the_valid_episodes():
    sets = [
        Event.COLLISION | Event.AT_FAULT | Event.HIT_VEHICLE,
        Event.COLLISION | Event.HIT_STATIC,
        0,
        Event.OFF_ROAD,
    ]
    happened = jnp.asarray([int(events) for events in sets], jnp.int32)
    rates = collision_rates(happened)
    assert (rates.collision, rates.at_fault, rates.static, rates.off_road) == (0.5, 0.25, 0.25, 0.25)
    some = collision_rates(happened, jnp.asarray([True, False, True, False]))
    assert (some.collision, some.off_road, some.num_episodes) == (0.5, 0.0, 2)
    assert np.isnan(collision_rates(happened, jnp.zeros(4, bool)).collision)
