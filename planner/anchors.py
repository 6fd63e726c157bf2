"""Path targets from logs, and the anchors that they cluster into.

A path is a row of waypoints by arc length, not by time: where to drive, not how fast (PerlAD, FACTS §1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import PATH_SPACING, HostBank, Scene
from perlsim.geometry.numerics import safe_norm, to_frame
from perlsim.geometry.polylines import project
from perlsim.sim.control import point_on_path, project_on_path
from perlsim.sim.types import Pose

# From the end of a log its path runs into the route over this length [m, S]; farther than a lane's width off the
# route [m, S], it goes on straight.
_MERGE, _FARTHEST = 10.0, 3.5
# A target from beside the log's path leads back as fast as these accelerations across allow, for an offset and for a
# turn [m/s², S], within these lengths [m]; as `perlsim.policies.route_path`.
_BACK_ACCELERATION, _TURN_ACCELERATION, _BLEND_SHORTEST, _BLEND_LONGEST = 1.0, 2.0, 6.0, 30.0
# Points of the log's path on which a target is laid, from 2 m behind the ego on.
_WINDOW, _BEHIND = 64, 2
_ROUNDS = 50


class Target(NamedTuple):
    """A path that leads on as the log does.

    Attributes:
        waypoints: ``[W, 2]`` m in the ego frame.
        arc: m, where on the log's path the ego is.
    """

    waypoints: jax.Array
    arc: jax.Array


def driven_paths(host: HostBank) -> np.ndarray:
    """The paths of the logs' egos, led on along their routes.

    Args:
        host: the bank.

    Returns:
        float32 ``[S, P, 2]`` m, every `PATH_SPACING`, by the arcs of ``bank.log_arc``: up to the log's end the driven
        path, then the route, or straight on where the route is not near.
    """
    bank = host.bank
    log_path, log_arc = np.asarray(bank.log_path, np.float64), np.asarray(bank.log_arc)
    routes, steps = np.asarray(bank.route, np.float64), np.asarray(bank.num_steps)
    paths = log_path.copy()
    for k in range(len(paths)):
        end = float(log_arc[k, steps[k] - 1])
        first = int(end / PATH_SPACING) + 1
        beyond = np.arange(first, paths.shape[1]) * PATH_SPACING - end
        last = np.array(
            [np.interp(end / PATH_SPACING, np.arange(paths.shape[1]), paths[k, :, i]) for i in (0, 1)]
        )
        place = float(project(routes[k], last[None]).arc[0])
        nearest = _at(routes[k], np.array([place]))[0]
        if not len(beyond) or np.hypot(*(last - nearest)) > _FARTHEST:
            continue
        left = np.clip(1.0 - beyond / _MERGE, 0.0, 1.0)[:, None]
        paths[k, first:] = _at(routes[k], place + beyond) + left * (last - nearest)
    return paths.astype(np.float32)


def _at(line: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Points of a line every `PATH_SPACING` at arcs [m]; straight on beyond its end."""
    first = np.clip((arcs / PATH_SPACING).astype(int), 0, len(line) - 2)
    share = (arcs / PATH_SPACING - first)[:, None]
    return line[first] + share * (line[first + 1] - line[first])


def target_of(
    paths: jax.Array, scene: Scene, start: jax.Array, ego: Pose, num_waypoints: int, spacing: float
) -> Target:
    """The path that the log took from a step on, from where the ego is.

    An ego beside it or turned away is led back by a cubic polynomial.

    Args:
        paths: of `driven_paths`.
        scene: scene.
        start: int32 step of the log.
        ego: where the ego is, within a few metres of the log's at the step.
        num_waypoints: W.
        spacing: m of arc between waypoints; the first lies one spacing ahead.
    """
    logged = scene.bank.log_arc[scene.idx, start]
    size = min(_WINDOW, paths.shape[1])
    first = jnp.floor(logged / PATH_SPACING).astype(jnp.int32) - _BEHIND
    first = jnp.clip(first, 0, paths.shape[1] - size)
    line = jax.lax.dynamic_slice(paths, (scene.idx, first, jnp.int32(0)), (1, size, 2))[0]
    x, y = to_frame(line[:, 0], line[:, 1], ego.x, ego.y, ego.cos, ego.sin)
    line = jnp.stack([x, y], 1)
    zero = jnp.float32(0.0)
    place = project_on_path(line, PATH_SPACING, zero, zero)
    ahead = spacing * jnp.arange(num_waypoints + 1, dtype=jnp.float32)
    near = jax.vmap(lambda s: jnp.stack(point_on_path(line, place + s / PATH_SPACING)))
    points, before, after = near(ahead), near(ahead - 0.5 * PATH_SPACING), near(ahead + 0.5 * PATH_SPACING)
    direction = after - before
    direction = direction / jnp.maximum(safe_norm(direction[:, 0], direction[:, 1]), 1e-6)[:, None]
    cos, sin = direction[0]
    aside = points[0, 0] * sin - points[0, 1] * cos
    slope = jnp.clip(-sin / jnp.maximum(cos, 0.5), -1.0, 1.0)
    length = ego.speed * jnp.sqrt(6.0 / _BACK_ACCELERATION * jnp.abs(aside))
    length = jnp.maximum(length, ego.speed**2 * (4.0 / _TURN_ACCELERATION) * jnp.abs(slope))
    length = jnp.clip(length, _BLEND_SHORTEST, _BLEND_LONGEST)
    t = jnp.minimum(ahead / length, 1.0)
    left = aside * (1.0 - t * t * (3.0 - 2.0 * t)) + slope * length * t * (1.0 - t) ** 2
    waypoints = points + left[:, None] * jnp.stack([-direction[:, 1], direction[:, 0]], 1)
    return Target(waypoints[1:], (first + place) * PATH_SPACING)


def cluster(paths: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Anchors of paths by k-means (Lloyd's iterations from k-means++ seeds).

    Args:
        paths: ``[n, W, 2]`` m, n at least 1.
        count: number of anchors, K.
        seed: of the draws.

    Returns:
        float32 ``[K, W, 2]``, the farthest right at the end first. With fewer different paths than anchors some
        anchors are equal.
    """
    random = np.random.default_rng(seed)
    flat = np.asarray(paths, np.float64).reshape(len(paths), -1)
    centres = [flat[random.integers(len(flat))]]
    for _ in range(count - 1):
        squared = np.min([((flat - centre) ** 2).sum(1) for centre in centres], 0)
        total = squared.sum()
        share = squared / total if total > 0 else np.full(len(flat), 1 / len(flat))
        centres.append(flat[random.choice(len(flat), p=share)])
    anchors = np.array(centres)
    for _ in range(_ROUNDS):
        squared = (flat**2).sum(1)[:, None] - 2 * flat @ anchors.T + (anchors**2).sum(1)
        nearest = squared.argmin(1)
        moved = np.array(
            [flat[nearest == k].mean(0) if (nearest == k).any() else anchors[k] for k in range(count)]
        )
        if np.allclose(moved, anchors, atol=1e-4):
            break
        anchors = moved
    order = np.argsort(anchors[:, -1], kind="stable")
    return anchors[order].reshape(count, *paths.shape[1:]).astype(np.float32)


def as_tuple(values: Any) -> tuple:
    """Nested tuples of Python's numbers, which a static configuration can hold."""
    return tuple(map(as_tuple, values)) if np.ndim(values) else round(float(values), 4)  # type: ignore[return-value]
