"""What is compared between a log and its simulations: a number for each road user at each step.

After Montali et al. (2023), "The Waymo Open Sim Agents Challenge". Derivatives are central differences of positions and
headings, so that a model cannot claim a speed that it does not drive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, Scene, X, Y, Z
from perlsim.geometry.boxes import Box, corners
from perlsim.geometry.numerics import safe_arctan2, wrap_angle
from perlsim.metrics.margins import lead_time_to_collision, nearest_distance
from perlsim.metrics.realism.edges import EdgeDistance
from perlsim.sim.everyone import pose_of
from perlsim.sim.outcomes import stop_line_events
from perlsim.sim.types import Event, has

# The challenge rounds the corners of boxes by this share of half their shorter side.
CORNER_ROUNDING = 0.7
# Steps of the log before the first simulated one that differences reach back to.
LEAD_IN = 2


class Features(NamedTuple):
    """Features ``[..., H, A]``, float32; NaN where a road user is absent or the feature cannot be known.

    Attributes:
        linear_speed: m/s, of the positions in x and y.
        linear_acceleration: m/s², of the speed.
        angular_speed: rad/s; angular_acceleration: rad/s².
        distance_to_nearest_object: m between boxes with rounded corners, negative for an overlap.
        collision_indication: 1 where that distance is negative, else 0.
        time_to_collision: s with the object followed, 5 without or beyond.
        distance_to_road_edge: m of the corner farthest off the road, negative on it; NaN without road edges.
        offroad_indication: 1 where that distance is positive, else 0.
        traffic_light_violation: 1 where the front crossed the line of a red light, else 0; NaN without lights.
    """

    linear_speed: jax.Array | np.ndarray
    linear_acceleration: jax.Array | np.ndarray
    angular_speed: jax.Array | np.ndarray
    angular_acceleration: jax.Array | np.ndarray
    distance_to_nearest_object: jax.Array | np.ndarray
    collision_indication: jax.Array | np.ndarray
    time_to_collision: jax.Array | np.ndarray
    distance_to_road_edge: jax.Array | np.ndarray
    offroad_indication: jax.Array | np.ndarray
    traffic_light_violation: jax.Array | np.ndarray


def features_of(scene: Scene, start: jax.Array, tracks: jax.Array) -> Features:
    """The features of one rollout that need no road edge; those that do are NaN (see `with_edges`).

    Args:
        scene: the scene.
        start: int32, step of the log at which it began.
        tracks: ``[LEAD_IN + H, 8, A]``: the steps ``start − 1`` and ``start`` of the log, then the rollout.
    """
    there = tracks[:, VALID] > 0
    speed = jnp.hypot(_central(tracks[:, X], there), _central(tracks[:, Y], there))
    heading = safe_arctan2(tracks[:, SIN], tracks[:, COS])
    turn = _central(heading, there, wrapped=True)
    sizes = scene.bank.boxes[scene.idx]

    def at(step: jax.Array):
        rows = tracks[step]
        # At the last step there is no difference, only the velocity that the model states.
        driven = jnp.where(jnp.isnan(speed[step]), jnp.hypot(rows[VX], rows[VY]), speed[step])
        distance = nearest_distance(rows, sizes, CORNER_ROUNDING)
        time = lead_time_to_collision(rows, sizes, driven)
        return distance, time, _runs_red(scene, start + step + 1 - LEAD_IN, tracks[step - 1], rows)

    # Step by step: pairs of all road users at all steps would fill the memory.
    distance, time, red = lax.map(at, jnp.arange(LEAD_IN, tracks.shape[0]))
    unknown = jnp.full(distance.shape, jnp.nan, jnp.float32)
    simulated = Features(
        linear_speed=speed[LEAD_IN:],
        linear_acceleration=_central(speed, jnp.isfinite(speed))[LEAD_IN:],
        angular_speed=turn[LEAD_IN:],
        angular_acceleration=_central(turn, jnp.isfinite(turn))[LEAD_IN:],
        distance_to_nearest_object=distance,
        collision_indication=(distance < 0).astype(jnp.float32),
        time_to_collision=time,
        distance_to_road_edge=unknown,
        offroad_indication=unknown,
        traffic_light_violation=red,
    )
    return Features(*(jnp.where(there[LEAD_IN:], value, jnp.nan) for value in simulated))


def _central(values: jax.Array, known: jax.Array, wrapped: bool = False) -> jax.Array:
    """Central differences along the first axis [1/s], NaN where a neighbour in time is not known.

    Args:
        values: ``[T, A]``.
        known: bool ``[T, A]``.
        wrapped: whether they are angles, whose differences go the short way round.
    """
    apart = values[2:] - values[:-2]
    if wrapped:
        apart = wrap_angle(apart)
    inner = jnp.where(known[2:] & known[:-2], apart / (2 * STEP), jnp.nan)
    return jnp.pad(inner, ((1, 1), (0, 0)), constant_values=jnp.nan)


def _runs_red(scene: Scene, step: jax.Array, before: jax.Array, after: jax.Array) -> jax.Array:
    """Whether each road user crossed the line of a red light in a step, ``[A]``, 0 or 1."""
    half_length = scene.bank.boxes[scene.idx, 0]
    lights = scene.lights_at(step)
    events = jax.vmap(
        lambda before, after, half_length: stop_line_events(
            scene, lights, before, after, half_length, jnp.float32(0.0)
        )
    )(pose_of(before), pose_of(after), half_length)
    both = (before[VALID] > 0) & (after[VALID] > 0)
    return (has(events, Event.RED_LIGHT) & both).astype(jnp.float32)


def with_edges(
    features: Features, edges: EdgeDistance | None, tracks: np.ndarray, sizes: np.ndarray
) -> Features:
    """Adds what the road's edge decides.

    Args:
        features: ``[..., H, A]``.
        edges: of the map, or None where it has none.
        tracks: ``[..., H, 8, A]``, without what precedes the rollout.
        sizes: ``[3, A]``.
    """
    if edges is None:
        return features
    rows = np.moveaxis(tracks, -2, 0)
    there = rows[VALID] > 0
    half_sizes = (np.broadcast_to(size, there.shape) for size in sizes[:2])
    box: Any = [values[there] for values in (rows[X], rows[Y], rows[COS], rows[SIN], *half_sizes)]
    distance = np.full(there.shape, np.nan, np.float32)
    places = [np.column_stack([*corner, rows[Z][there]]) for corner in corners(Box(*box))]
    found = edges(np.concatenate(places).astype(np.float64)).reshape(4, -1)
    distance[there] = found.max(0)
    return features._replace(
        distance_to_road_edge=distance,
        offroad_indication=np.where(np.isnan(distance), np.nan, distance > 0).astype(np.float32),
    )
