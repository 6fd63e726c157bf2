"""Collisions and time to collision: who is touched first, when, and whose fault it is.

A road user counts once: at its first contact with a candidate it is either the candidate's fault or left out from
then on (NAVSIM). So the loop below runs over road users, each against all candidates and times at once, and only the
first contact of each pair is looked at closely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, Scene, X, Y, Z
from perlsim.geometry.boxes import Box, box_gap, segment_touches_box
from perlsim.geometry.cells import LEVEL_HEIGHT
from perlsim.metrics.pdm.road import in_several_lanes, lanes_under, leaves_road
from perlsim.metrics.pdm.types import Driven, PdmConfig
from perlsim.sim.outcomes import STANDING_SPEED
from perlsim.vocabulary import AgentType

# Look-ahead of time to collision in steps: 0, 0.3, 0.6, 0.9 s; not below this speed [m/s].
LOOK_AHEAD = (0, 3, 6, 9)
TTC_SPEED = 0.005
# Ahead is within 30° of the heading, behind beyond 150°, both seen from the rear axle.
_AHEAD_COS = 0.8660254
# Key of what never happens.
_NEVER = jnp.iinfo(jnp.int32).max


class Contacts(NamedTuple):
    """Results of N candidates.

    Attributes:
        no_at_fault, time_to_collision: sub-scores.
        collision_time, ttc_time: s of the first failure, infinite without.
        hit_agent, ttc_agent: int32 slots, −1 none.
    """

    no_at_fault: jax.Array
    time_to_collision: jax.Array
    collision_time: jax.Array
    ttc_time: jax.Array
    hit_agent: jax.Array
    ttc_agent: jax.Array


class _Worst(NamedTuple):
    """What a loop over road users keeps of the worst: score, step of the first failure, its slot, and whether a
    contact's fault could not be told."""

    score: jax.Array
    step: jax.Array
    agent: jax.Array
    doubt: jax.Array


class _Place(NamedTuple):
    """A candidate's footprint at one step each, ``[N]``."""

    box: Box
    rear_x: jax.Array
    rear_y: jax.Array
    speed: jax.Array
    z: jax.Array


def contacts(
    config: PdmConfig, scene: Scene, driven: Driven, z: jax.Array, agents: jax.Array, knows_lanes: jax.Array
) -> Contacts:
    """No at-fault collision and time to collision of all candidates.

    Args:
        config: choices.
        scene: the scene.
        driven: rows ``[T, N]``.
        z: m ``[T, N]``.
        agents: ``[≥ T, 8, A]`` from the start on; slot 0 is nobody.
        knows_lanes: bool, whether the scene has lanes.
    """
    sizes = scene.bank.boxes[scene.idx]
    steps, count = driven.x.shape
    looked = min(steps, agents.shape[0] - LOOK_AHEAD[-1])
    columns = agents.transpose(2, 1, 0)
    own = Box(driven.x, driven.y, driven.cos, driven.sin, sizes[0, 0], sizes[1, 0])
    near = _near(own, driven.speed, agents, sizes)
    order = jnp.argsort(~near, stable=True)

    def one(number, worst: tuple[_Worst, _Worst]):
        slot = order[number]
        other = lax.dynamic_index_in_dim(columns, slot, keepdims=False)
        half_length, half_width, kind = sizes[0, slot], sizes[1, slot], sizes[2, slot]
        who = (scene, driven, z, own, other, half_length, half_width, kind, slot, knows_lanes)
        touches = _touches(own, z, other, half_length, half_width, 0, steps, driven.speed)
        first = _first(touches, jnp.arange(steps, dtype=jnp.int32))
        counted = ~touches[0] if config.ignore_initial_overlaps else jnp.ones(count, bool)
        first = jnp.where(counted, first, _NEVER)
        collision = _when(first, lambda: _blame(who, first, worst[0]), worst[0])
        soonest = jnp.full(count, _NEVER)
        for rank, ahead in enumerate(LOOK_AHEAD):
            if ahead == 0:
                near_by = touches[:looked]
            else:
                near_by = _touches(own, z, other, half_length, half_width, ahead, looked, driven.speed)
            keys = len(LOOK_AHEAD) * jnp.arange(looked, dtype=jnp.int32) + rank
            soonest = jnp.minimum(soonest, _first(near_by & (driven.speed[:looked] >= TTC_SPEED), keys))
        soonest = jnp.where(counted, soonest, _NEVER)
        closing = _when(soonest, lambda: _too_close(who, soonest, worst[1]), worst[1])
        return collision, closing

    fine = _Worst(jnp.ones(count), jnp.full(count, _NEVER), jnp.full(count, -1), jnp.zeros(count, bool))
    collision, closing = lax.fori_loop(0, near.sum(), one, (fine, fine))
    return Contacts(
        _score(collision), _score(closing), _time(collision), _time(closing), collision.agent, closing.agent
    )


def _near(own: Box, speed: jax.Array, agents: jax.Array, sizes: jax.Array) -> jax.Array:
    """Which road users ``[A]`` can touch any candidate at all: by boxes around all places of a step."""
    steps = own.x.shape[0]
    # What is not a number would hide the others.
    fastest = jnp.where(jnp.isfinite(speed), jnp.abs(speed), 0.0).max()
    reach = jnp.hypot(sizes[0, 0], sizes[1, 0]) + jnp.hypot(sizes[0], sizes[1])
    (low_x, high_x), (low_y, high_y) = _bounds(own.x), _bounds(own.y)
    margin = reach + STEP * LOOK_AHEAD[-1] * fastest
    close = jnp.zeros(agents.shape[2], bool)
    for delay in LOOK_AHEAD:
        last = min(steps, agents.shape[0] - delay)
        rows = agents[delay : delay + last]
        there = (rows[:, X] > low_x[:last] - margin) & (rows[:, X] < high_x[:last] + margin)
        there &= (rows[:, Y] > low_y[:last] - margin) & (rows[:, Y] < high_y[:last] + margin)
        close |= (there & (rows[:, VALID] > 0)).any(0)
    return close & (jnp.arange(agents.shape[2]) > 0)


def _bounds(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Least and greatest finite value of each row ``[T, N]``, ``[T, 1]``."""
    finite = jnp.isfinite(values)
    low, high = jnp.where(finite, values, jnp.inf), jnp.where(finite, values, -jnp.inf)
    return low.min(1, keepdims=True), high.max(1, keepdims=True)


def _touches(own: Box, z, other, half_length, half_width, ahead: int, steps: int, speed) -> jax.Array:
    """Whether the candidates touch one road user, bool ``[steps, N]``.

    Args:
        own: the candidates' boxes ``[T, N]``.
        z: m ``[T, N]``.
        other: ``[8, ≥ T]``, rows of the road user.
        half_length, half_width: of the road user [m].
        ahead: steps that the candidates are moved on at constant velocity, and the road user by the log.
        steps: steps looked at.
        speed: m/s ``[T, N]``.
    """
    there = other[:, ahead : ahead + steps, None]
    x, y = own.x[:steps], own.y[:steps]
    if ahead:
        moved = STEP * ahead * speed[:steps]
        x, y = x + moved * own.cos[:steps], y + moved * own.sin[:steps]
    first = Box(x, y, own.cos[:steps], own.sin[:steps], own.half_length, own.half_width)
    second = Box(there[X], there[Y], there[COS], there[SIN], half_length, half_width)
    present = (there[VALID] > 0) & (jnp.abs(there[Z] - z[:steps]) < LEVEL_HEIGHT)
    return present & (box_gap(first, second) <= 0)


def _first(touches: jax.Array, keys: jax.Array) -> jax.Array:
    """Least key ``[steps]`` of the steps that touch, ``[N]``."""
    return jnp.where(touches, keys[:, None], _NEVER).min(0)


def _when(found: jax.Array, update: Callable[[], _Worst], otherwise: _Worst) -> _Worst:
    """The update where anything was found, left out where nothing was."""
    return lax.cond((found != _NEVER).any(), update, lambda: otherwise)


def _at(rows: jax.Array, step: jax.Array) -> jax.Array:
    """Values of rows ``[T, N]`` at one step each, ``[N]``."""
    return jnp.take_along_axis(rows, step[None], 0)[0]


def _place(driven: Driven, own: Box, z: jax.Array, step: jax.Array) -> _Place:
    box = Box(
        _at(own.x, step),
        _at(own.y, step),
        _at(own.cos, step),
        _at(own.sin, step),
        jnp.broadcast_to(own.half_length, step.shape),
        jnp.broadcast_to(own.half_width, step.shape),
    )
    rear_x, rear_y = _at(driven.rear_x, step), _at(driven.rear_y, step)
    return _Place(box, rear_x, rear_y, _at(driven.speed, step), _at(z, step))


def _bearing(place: _Place, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether a point is ahead of the rear axle, and whether it is behind."""
    dx, dy = x - place.rear_x, y - place.rear_y
    along = dx * place.box.cos + dy * place.box.sin
    limit = _AHEAD_COS * jnp.hypot(dx, dy)
    return along > limit, along < -limit


def _blame(who, first: jax.Array, worst: _Worst) -> _Worst:
    """Adds the first contacts with one road user: at fault, or nothing."""
    scene, driven, z, own, other, half_length, half_width, kind, slot, knows_lanes = who
    found = first != _NEVER
    step = jnp.where(found, first, 0)
    place = _place(driven, own, z, step)
    there = other[:, step]
    box = Box(there[X], there[Y], there[COS], there[SIN], half_length, half_width)
    moving = jnp.abs(place.speed) > STANDING_SPEED
    fixed = kind == AgentType.STATIC
    stands = fixed | (there[VX] ** 2 + there[VY] ** 2 <= STANDING_SPEED**2)
    front_x = place.box.x + place.box.half_length * place.box.cos
    front_y = place.box.y + place.box.half_length * place.box.sin
    half_x, half_y = -place.box.half_width * place.box.sin, place.box.half_width * place.box.cos
    front = segment_touches_box(front_x, front_y, half_x, half_y, box)
    _, behind = _bearing(place, there[X], there[Y])
    clear = moving & (stands | (~behind & front))
    sideways = found & moving & ~stands & ~behind & ~front
    exposed, doubt = _exposed(scene, place, sideways, knows_lanes)
    score = jnp.where(fixed, 0.5, 0.0)
    return _worse(worst, found & (clear | (sideways & exposed)), first, score, slot, sideways & doubt)


def _too_close(who, soonest: jax.Array, worst: _Worst) -> _Worst:
    """Adds the first moment at which one road user is too close ahead, or is left out."""
    scene, driven, z, own, other, *_, slot, knows_lanes = who
    found = soonest != _NEVER
    step = jnp.where(found, soonest // len(LOOK_AHEAD), 0)
    delay = jnp.array(LOOK_AHEAD)[jnp.where(found, soonest % len(LOOK_AHEAD), 0)]
    place = _place(driven, own, z, step)
    there = other[:, step + delay]
    ahead, behind = _bearing(place, there[X], there[Y])
    sideways = found & ~ahead & ~behind

    def beside():
        exposed, doubt = _exposed(scene, place, sideways, knows_lanes)
        junction = lanes_under(
            scene, place.rear_x, place.rear_y, place.box.cos, place.box.sin, place.z
        ).in_junction
        return exposed | junction, doubt & ~junction

    nothing = jnp.zeros(found.shape, bool)
    exposed, doubt = lax.cond(sideways.any(), beside, lambda: (nothing, nothing))
    failed = found & (ahead | (sideways & exposed))
    return _worse(worst, failed, step, jnp.zeros(()), slot, sideways & doubt)


def _exposed(scene: Scene, place: _Place, asked: jax.Array, knows_lanes: jax.Array):
    """Whether footprints are in several lanes or off the road, and whether that cannot be told."""

    def look():
        off = leaves_road(scene, place.box, place.z) & scene.bank.has_edges[scene.idx]
        known = knows_lanes & scene.bank.has_edges[scene.idx]
        return off | (in_several_lanes(scene, place.box, place.z) & knows_lanes), known

    nothing = jnp.zeros(asked.shape, bool)
    exposed, known = lax.cond(asked.any(), look, lambda: (nothing, jnp.bool_(True)))
    return exposed, ~exposed & ~known


def _worse(worst: _Worst, failed, step, score, slot, doubt) -> _Worst:
    """The worst with one road user's failures added; of equally early ones the lower slot is kept."""
    earlier = failed & (step < worst.step)
    return _Worst(
        jnp.where(failed, jnp.minimum(worst.score, score), worst.score),
        jnp.where(earlier, step, worst.step),
        jnp.where(earlier, slot, worst.agent).astype(worst.agent.dtype),
        worst.doubt | doubt,
    )


def _score(worst: _Worst) -> jax.Array:
    """The score, NaN where a doubt could change it."""
    return jnp.where(worst.doubt & (worst.score > 0), jnp.nan, worst.score)


def _time(worst: _Worst) -> jax.Array:
    return jnp.where(worst.step == _NEVER, jnp.inf, STEP * worst.step)
