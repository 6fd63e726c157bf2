"""Numbers that networks see: poses relative to one another, and what an observation tells of each element.

Everything is bounded or of order one, so that far elements do no harm. Angles come as cosine and sine.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.geometry.numerics import rotate, safe_norm, to_frame
from perlsim.sim.observe import PIECE_KIND, PIECE_LIMIT, Observation
from perlsim.vocabulary import AgentType, LaneType, LightState, MarkingType

# Scales of places, speeds and sizes [m, m/s, m, S].
_PLACE, _SPEED, _SIZE = 30.0, 10.0, 5.0
# Distance at which far begins, and lateral distance that is resolved well [m, S].
_NEAR, _LATERAL = 10.0, 4.0
# Codes beside the vocabularies (see `Observation`).
_JUNCTION, _EDGE, _SIGN = 16, 16, 16
# Columns of `relative`.
NUM_RELATIVE = 7


class Places(NamedTuple):
    """Poses of elements in any one frame: x, y [m], cosine and sine of the heading; any shape."""

    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array

    @classmethod
    def of(cls, columns: jax.Array) -> Places:
        """From the first four columns of an array ``[..., C]``."""
        return cls(columns[..., 0], columns[..., 1], columns[..., 2], columns[..., 3])

    def at(self, *index) -> Places:
        """Each field indexed, for broadcasting."""
        return Places(*(field[index] for field in self))


def relative(own: Places, other: Places) -> jax.Array:
    """The other's pose as it looks from one's own, ``[..., NUM_RELATIVE]``; the two broadcast.

    The same for poses moved and turned together.
    """
    x, y = to_frame(other.x, other.y, own.x, own.y, own.cos, own.sin)
    cos, sin = rotate(other.cos, other.sin, own.cos, -own.sin)
    # Where one is, seen from the other: across a lane this is the offset from its middle.
    across = x * sin - y * cos
    near = 1.0 / (_NEAR + safe_norm(x, y))
    columns = [
        x * near,
        y * near,
        _NEAR * near,
        cos,
        sin,
        jnp.clip(y / _LATERAL, -1.5, 1.5),
        jnp.clip(across / _LATERAL, -1.5, 1.5),
    ]
    return jnp.stack(jnp.broadcast_arrays(*columns), -1)


def _place(columns: jax.Array) -> jax.Array:
    """x, y scaled, and cosine and sine, of the first four columns."""
    return jnp.concatenate([columns[..., :2] / _PLACE, columns[..., 2:4]], -1)


def _one_hot(codes: jax.Array, vocabulary) -> jax.Array:
    return jax.nn.one_hot(codes.astype(jnp.int32), len(vocabulary))


def agent_motion(seen: Observation) -> jax.Array:
    """What is known of each road user in its own frame, ``[K, F]``: velocity, size, kind, past."""
    now = seen.agents
    own = Places.of(now)
    vx, vy = rotate(now[:, 4], now[:, 5], own.cos, -own.sin)
    past = Places.of(seen.past)
    own = own.at(slice(None), None)
    x, y = to_frame(past.x, past.y, own.x, own.y, own.cos, own.sin)
    cos, sin = rotate(past.cos, past.sin, own.cos, -own.sin)
    before = jnp.stack([x / _SPEED, y / _SPEED, cos, sin, jnp.ones_like(x)], -1)
    before = jnp.where(seen.past_valid[..., None], before, 0.0)
    rest = jnp.stack([vx / _SPEED, vy / _SPEED, now[:, 6] / _SIZE, now[:, 7] / _SIZE], -1)
    kind = _one_hot(now[:, 8], AgentType)
    return jnp.concatenate([rest, kind, before.reshape(len(now), -1)], -1)


def agent_features(seen: Observation) -> jax.Array:
    """Everything about each road user, its place in the ego frame among it, ``[K, F]``."""
    return jnp.concatenate([_place(seen.agents), agent_motion(seen)], -1)


def ego_features(seen: Observation) -> jax.Array:
    """The ego's own state, ``[F]``."""
    speed, length, width, wheelbase, offset, limit, cos, sin = seen.ego
    return jnp.stack(
        [
            speed / _SPEED,
            length / _SIZE,
            width / _SIZE,
            wheelbase / _SIZE,
            jnp.clip(offset / _LATERAL, -3.0, 3.0),
            limit / _SPEED,
            (limit > 0).astype(jnp.float32),
            cos,
            sin,
        ]
    )


def route_features(seen: Observation) -> jax.Array:
    """The route's points, ``[F]``."""
    return (seen.route / _PLACE).reshape(-1)


def lane_features(pieces: jax.Array) -> jax.Array:
    """Pieces of lanes, ``[M, F]``."""
    code = pieces[:, PIECE_KIND]
    junction = code >= _JUNCTION
    limit = pieces[:, PIECE_LIMIT]
    rest = jnp.stack([pieces[:, 4] / _SIZE, limit / _SPEED, limit > 0, junction], -1)
    kind = _one_hot(code - _JUNCTION * junction, LaneType)
    return jnp.concatenate([_place(pieces), rest, kind], -1)


def boundary_features(pieces: jax.Array) -> jax.Array:
    """Pieces of markings and road edges, ``[N, F]``."""
    code = pieces[:, PIECE_KIND]
    edge = code == _EDGE
    rest = jnp.stack([pieces[:, 4] / _SIZE, edge], -1)
    return jnp.concatenate([_place(pieces), rest, _one_hot(code, MarkingType)], -1)


def stop_line_features(lines: jax.Array) -> jax.Array:
    """Stop lines and their lights, ``[L, F]``."""
    sign = lines[:, 5] == _SIGN
    rest = jnp.stack([lines[:, 4] / _SIZE, sign], -1)
    return jnp.concatenate([_place(lines), rest, _one_hot(lines[:, 5], LightState)], -1)
