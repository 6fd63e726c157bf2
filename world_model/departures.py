"""Egos that depart from their log, and logs of how rule-based road users react to them.

The departures are those of PerlAD's reactivity test: the ego brakes, stops, creeps or swerves to a side, on the path
of its log. In a rule-based world the same scene can be driven again with the departed ego: the only place where the
truth about reactions is to be had. Such logs serve as training data (`departed`) and as the truth in evaluation.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import COS, PATH_SPACING, SIN, STEP, VALID, VX, VY, HostBank, ScenarioBank, Scene, X, Y
from perlsim.errors import PerlsimError
from perlsim.sim.control import point_on_path
from perlsim.trace import OverEpisodes, agents_along

KINDS = ("brakes", "stops", "creeps", "shifts")
# Ranges of the draws [S]: deceleration [m/s²], the share of its speed that a braking ego keeps, speed of creeping
# [m/s], shift to a side [m] and how long that takes [s], time until it begins [s].
_DECELERATION, _KEPT, _CREEP = (3.0, 7.0), (0.2, 0.6), (0.5, 2.0)
_SHIFT, _SHIFT_TIME, _ONSET = (1.0, 3.5), (1.5, 3.0), (0.0, 0.5)
# Acceleration back to the speed of the log [m/s²].
_RESUMING = 1.5
# Seconds of a departure in a long log, then the ego follows its log's speeds again for as long.
_LASTING = 3.0


class Departure(NamedTuple):
    """How an ego departs; scalars.

    Attributes:
        kind: index in `KINDS`.
        deceleration: m/s².
        factor: times the speed of the log, the greatest speed.
        cap: m/s, the greatest speed.
        shift: m to the left.
        shift_time: s until it is reached.
        onset: s until it begins.
    """

    kind: jax.Array
    deceleration: jax.Array
    factor: jax.Array
    cap: jax.Array
    shift: jax.Array
    shift_time: jax.Array
    onset: jax.Array


def draw_departure(key: jax.Array) -> Departure:
    """A departure of a random kind."""
    kind_key, side_key, *keys = jax.random.split(key, 8)
    ranges = (_DECELERATION, _KEPT, _CREEP, _SHIFT, _SHIFT_TIME, _ONSET)
    drawn = (
        jax.random.uniform(k, minval=low, maxval=high) for k, (low, high) in zip(keys, ranges, strict=True)
    )
    deceleration, kept, creep, shift, shift_time, onset = drawn
    kind = jax.random.randint(kind_key, (), 0, len(KINDS))
    side = jnp.where(jax.random.bernoulli(side_key), 1.0, -1.0)
    brakes, stops, creeps, shifts = (kind == number for number in range(len(KINDS)))
    return Departure(
        kind,
        deceleration,
        jnp.where(brakes, kept, jnp.where(stops, 0.0, 1.0)),
        jnp.where(creeps, creep, jnp.inf),
        jnp.where(shifts, side * shift, 0.0),
        shift_time,
        onset,
    )


def departed_ego(
    scene: Scene, start: jax.Array, departure: Departure, horizon: int, *, again: bool = False
) -> jax.Array:
    """Poses ``[horizon, 3]`` of a departed ego: x, y [m] and heading [rad], every 0.1 s after the start.

    It keeps to the path of its log, but for a shift, and is never faster than the log was at that time.

    Args:
        scene: the scene.
        start: int32, step of the log.
        departure: what it does.
        horizon: steps.
        again: whether it departs and follows its log's speeds by turns, for long logs.
    """
    bank, idx = scene.bank, scene.idx
    path = bank.log_path[idx]
    times = STEP * jnp.arange(1, horizon + 1)
    steps = jnp.minimum(start + jnp.arange(1, horizon + 1), bank.num_steps[idx] - 1)
    logged = bank.log_speed[idx, steps]
    since = times - departure.onset
    departs = since > 0
    if again:
        departs &= jnp.mod(since, 2 * _LASTING) < _LASTING
    first = jnp.argmax(departs)
    wanted = jnp.where(departs, jnp.minimum(logged * departure.factor, departure.cap), logged)
    # Braking ego: a share of the speed it had, whatever the log does then.
    wanted = jnp.minimum(
        wanted, jnp.where(departs & (departure.factor < 1), departure.factor * logged[first], jnp.inf)
    )

    def one(carry, inputs):
        arc, speed = carry
        wanted, logged, departs = inputs
        # The log's own brakes are not softened.
        fall = jnp.where(departs, departure.deceleration, 8.0) * STEP
        faster = jnp.clip(wanted, speed - fall, speed + _RESUMING * STEP)
        faster = jnp.where(~departs & (speed >= logged - 0.5), logged, faster)
        arc = arc + 0.5 * (speed + faster) * STEP
        return (arc, faster), arc

    size = bank.log_arc.shape[1]
    begin = (
        bank.log_arc[idx, jnp.minimum(start, size - 1)],
        bank.log_speed[idx, jnp.minimum(start, size - 1)],
    )
    _, arc = lax.scan(one, begin, (wanted, logged, departs))
    moved = arc - begin[0]
    turning = jnp.where(departure.shift == 0, 0.0, 1.0)
    share = jnp.clip(since / departure.shift_time, 0.0, 1.0)
    # Smooth in time, and only as far as it gets forward: nobody slides sideways.
    offset = departure.shift * share**2 * (3 - 2 * share) * jnp.clip(moved / 5.0, 0.0, 1.0)
    x, y = jax.vmap(partial(point_on_path, path))(arc / PATH_SPACING)
    ahead_x, ahead_y = jax.vmap(partial(point_on_path, path))(arc / PATH_SPACING + 1.0)
    heading = jnp.arctan2(ahead_y - y, ahead_x - x)
    gained = jnp.maximum(jnp.diff(arc, prepend=begin[0]), 0.02)
    slope = jnp.clip(jnp.diff(offset, prepend=0.0) / gained, -0.6, 0.6)
    x, y = x - offset * jnp.sin(heading), y + offset * jnp.cos(heading)
    return jnp.stack([x, y, heading + turning * jnp.arctan(slope)], 1)


def logged_ego(scene: Scene, start: jax.Array, horizon: int) -> jax.Array:
    """Poses ``[horizon, 3]`` of the ego as logged, in the layout of `departed_ego`."""
    rows = jax.vmap(scene.agents_at)(start + jnp.arange(1, horizon + 1))[:, :, 0]
    return jnp.stack([rows[:, X], rows[:, Y], jnp.arctan2(rows[:, SIN], rows[:, COS])], 1)


def departed(host: HostBank, agents: Any, seed: int, first_steps: tuple[int, int] = (5, 30)) -> ScenarioBank:
    """A bank of the same scenes in which the ego departs again and again, and rule-based road users react.

    Args:
        host: the bank, with what the agents need.
        agents: agent model that stands for the truth.
        seed: of the departures.
        first_steps: range of the step from which on the scene is driven again.

    Raises:
        PerlsimError: where a scene has no ego.
    """
    import numpy as np

    bank = host.bank
    if not np.asarray(bank.has_ego).all():
        raise PerlsimError("a scene without ego has none that could depart", remedy="leave such scenes out")
    over = OverEpisodes(partial(_driven_again, bank.tracks.shape[1], first_steps))
    numbers = np.arange(bank.num_scenarios, dtype=np.int32)
    constants = (agents, over.put(bank), jax.random.key(seed))
    tracks = over(constants, (numbers, np.asarray(host.first_steps, np.int32)))
    speed = np.maximum(
        tracks[:, :, VX, 0] * tracks[:, :, COS, 0] + tracks[:, :, VY, 0] * tracks[:, :, SIN, 0], 0.0
    )
    poses = np.stack([tracks[:, :, row] for row in (X, Y, COS, SIN)], -1) * tracks[:, :, VALID, :, None]
    has_poses = bank.log_poses.shape[1] > 1
    return replace(
        bank,
        tracks=tracks,
        log_speed=speed.astype(np.float32),
        log_poses=poses.astype(np.float32) if has_poses else bank.log_poses,
    )


def _driven_again(num_steps: int, first_steps, constants, episode) -> jax.Array:
    """Tracks ``[T, 8, A]`` of one scene with a departed ego."""
    agents, bank, key = constants
    idx, first = episode
    scene = Scene(bank, idx)
    start_key, departure_key, agents_key = jax.random.split(jax.random.fold_in(key, idx), 3)
    start = first + jax.random.randint(start_key, (), *first_steps)
    poses = departed_ego(scene, start, draw_departure(departure_key), num_steps - 1, again=True)
    rows = agents_along(agents, scene, start, poses, agents_key)
    steps = jnp.arange(num_steps)
    logged = jax.vmap(scene.agents_at)(steps)
    there = steps < bank.num_steps[idx]
    rows = jnp.where((steps >= start)[:, None, None], rows[jnp.maximum(steps - start, 0)], logged)
    return jnp.where(there[:, None, None], rows, 0.0)
