"""The scene encoder that world model and planner share (each with its own parameters).

Ego, road users, pieces of the map, stop lines and the route become tokens. Every road user first looks at what
surrounds it in its own frame; then ego and road users attend to all tokens for a few layers. Tokens of the map are
embedded and attended to, not changed: they are most of the tokens, and this is what makes the encoder cheap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from perlsim.errors import unknown_name
from perlsim.sim.observe import Observation, ObservationConfig
from world_model.features import (
    Places,
    agent_features,
    agent_motion,
    boundary_features,
    ego_features,
    lane_features,
    relative,
    route_features,
    stop_line_features,
)


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a network; static, hashable.

    Attributes:
        observation: what it sees.
        lane_pieces, boundary_pieces: most of them; banks are built with ``observed_pieces``.
        width: numbers of a token, D.
        heads: of attention; they divide the width.
        layers: of attention.
        expansion: hidden width of a layer's MLP, in widths.
        pool_width: numbers of a relation between two elements.
        decoder_width: memory of a decoder for one road user.
    """

    observation: ObservationConfig = field(default_factory=ObservationConfig)
    lane_pieces: int = 64
    boundary_pieces: int = 40
    width: int = 128
    heads: int = 4
    layers: int = 2
    expansion: int = 2
    pool_width: int = 32
    decoder_width: int = 64

    @property
    def observed_pieces(self) -> tuple[int, int]:
        """For `perlsim.bank_build.build_bank`."""
        return self.lane_pieces, self.boundary_pieces


NETWORKS: dict[str, NetworkConfig] = {
    "debug": NetworkConfig(
        observation=ObservationConfig(num_agents=8),
        lane_pieces=16,
        boundary_pieces=8,
        width=32,
        heads=2,
        layers=1,
        pool_width=16,
        decoder_width=32,
    ),
    "small": NetworkConfig(),
    # PerlAD's size: 50 agents, 100 map elements (pieces of the map come in multiples of 8).
    "base": NetworkConfig(
        observation=ObservationConfig(num_agents=50),
        lane_pieces=104,
        boundary_pieces=56,
        width=256,
        heads=8,
        layers=4,
        expansion=4,
        pool_width=64,
        decoder_width=256,
    ),
}
"""Networks by name."""


def network_of(name: str) -> NetworkConfig:
    """The sizes of a name.

    Raises:
        PerlsimError: for an unknown name.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return NETWORKS[name]


class SceneTokens(NamedTuple):
    """An encoded scene; invalid tokens are zero.

    Attributes:
        ego: ``[D]``.
        route: ``[D]``.
        agents: ``[K, D]``, in the observation's order.
        lanes: ``[M, D]``.
        boundaries: ``[N, D]``.
        stop_lines: ``[L, D]``.
        tokens: all of them in this order, ``[2 + K + M + N + L, D]``.
        valid: bool, of all tokens; ego and route always are.
    """

    ego: jax.Array
    route: jax.Array
    agents: jax.Array
    lanes: jax.Array
    boundaries: jax.Array
    stop_lines: jax.Array
    tokens: jax.Array
    valid: jax.Array


class SceneEncoder(nn.Module):
    """`Observation` of one scene to `SceneTokens`; vmapped by the caller."""

    config: NetworkConfig

    @nn.compact
    def __call__(self, seen: Observation) -> SceneTokens:
        """Encodes a scene."""
        width = self.config.width
        ego = Mlp(width, width, name="ego")(ego_features(seen))
        route = Mlp(width, width, name="route")(route_features(seen))
        lanes = Mlp(width, width, name="lanes")(lane_features(seen.lanes))
        boundaries = Mlp(width, width, name="boundaries")(boundary_features(seen.boundaries))
        lines = Mlp(width, width, name="stop_lines")(stop_line_features(seen.stop_lines))
        agents = Mlp(width, width, name="agents")(agent_features(seen))
        around = Surroundings(self.config.pool_width, name="surroundings")(seen)
        agents = agents + nn.Dense(width, name="from_surroundings")(around)

        moving = jnp.concatenate([ego[None], route[None], agents])
        moving_valid = jnp.concatenate([jnp.ones(2, bool), seen.agents_valid])
        fixed = jnp.concatenate([lanes, boundaries, lines])
        fixed_valid = jnp.concatenate([seen.lanes_valid, seen.boundaries_valid, seen.stop_lines_valid])
        fixed = _masked(nn.LayerNorm(name="fixed_norm")(fixed), fixed_valid)
        valid = jnp.concatenate([moving_valid, fixed_valid])
        for layer in range(self.config.layers):
            attention = Attention(width, self.config.heads, self.config.expansion, name=f"layer_{layer}")
            moving = attention(_masked(moving, moving_valid), fixed, valid)
        moving = _masked(nn.LayerNorm(name="norm")(moving), moving_valid)

        num_lanes, num_boundaries = len(lanes), len(boundaries)
        return SceneTokens(
            ego=moving[0],
            route=moving[1],
            agents=moving[2:],
            lanes=fixed[:num_lanes],
            boundaries=fixed[num_lanes : num_lanes + num_boundaries],
            stop_lines=fixed[num_lanes + num_boundaries :],
            tokens=jnp.concatenate([moving, fixed]),
            valid=valid,
        )


class Mlp(nn.Module):
    """Two dense layers."""

    hidden: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., F]`` to ``[..., width]``."""
        return nn.Dense(self.width)(nn.relu(nn.Dense(self.hidden)(x)))


class Relations(nn.Module):
    """What a number of elements mean to each of others: a small network of each pair, and its greatest over them.

    Where none is valid the result is 0.
    """

    width: int

    @nn.compact
    def __call__(self, pairs: jax.Array, content: jax.Array, valid: jax.Array) -> jax.Array:
        """Summaries ``[K, width]``.

        Args:
            pairs: ``[K, J, F]``, of each pair.
            content: ``[J, G]``, of each element.
            valid: bool, ``[J]`` or ``[K, J]``.
        """
        hidden = nn.Dense(self.width)(pairs) + nn.Dense(self.width, use_bias=False)(content)
        values = nn.relu(nn.Dense(self.width)(nn.relu(hidden)))
        return jnp.where(valid[..., None], values, 0.0).max(-2)


class Surroundings(nn.Module):
    """What each road user has around it, in its own frame ``[K, 3 · width]``."""

    width: int

    @nn.compact
    def __call__(self, seen: Observation) -> jax.Array:
        """Summaries of lanes, of stop lines, and of road users, the ego among them."""
        own = Places.of(seen.agents).at(slice(None), None)

        def summary(name: str, columns: jax.Array, content: jax.Array, valid: jax.Array) -> jax.Array:
            pairs = relative(own, Places.of(columns).at(None))
            return Relations(self.width, name=name)(pairs, content, valid)

        count = len(seen.agents)
        speed, length, width = seen.ego[:3]
        one, zero = jnp.ones_like(speed), jnp.zeros_like(speed)
        ego = jnp.stack([zero, zero, one, zero])
        # The ego as one road user among the others: forwards at its speed, without kind and past.
        motion = agent_motion(seen)
        ego_motion = (
            jnp.zeros_like(motion[0]).at[:4].set(jnp.stack([speed / 10.0, zero, length / 5.0, width / 5.0]))
        )
        everyone = jnp.concatenate([ego[None], seen.agents[:, :4]])
        others = jnp.concatenate([jnp.zeros((count, 1), bool), jnp.eye(count, dtype=bool)], 1)
        others = ~others & jnp.concatenate([jnp.ones(1, bool), seen.agents_valid])
        return jnp.concatenate(
            [
                summary("lanes", seen.lanes, lane_features(seen.lanes)[:, 4:], seen.lanes_valid),
                summary(
                    "stop_lines",
                    seen.stop_lines,
                    stop_line_features(seen.stop_lines)[:, 4:],
                    seen.stop_lines_valid,
                ),
                summary("agents", everyone, jnp.concatenate([ego_motion[None], motion]), others),
            ],
            -1,
        )


class Attention(nn.Module):
    """A layer in which moving tokens attend to all, then an MLP; normalised before each."""

    width: int
    heads: int
    expansion: int

    @nn.compact
    def __call__(self, moving: jax.Array, fixed: jax.Array, valid: jax.Array) -> jax.Array:
        """Moving tokens ``[Q, D]`` changed; ``fixed`` ``[S, D]`` stay; ``valid``: bool ``[Q + S]``, not all false."""
        normed = nn.LayerNorm()(moving)
        tokens = jnp.concatenate([normed, fixed])
        query, key, value = (
            part.reshape(-1, self.heads, self.width // self.heads)
            for part in (
                nn.Dense(self.width, name="query")(normed),
                nn.Dense(self.width, name="key", use_bias=False)(tokens),
                nn.Dense(self.width, name="value")(tokens),
            )
        )
        mask = jnp.broadcast_to(valid, (1, len(moving), len(tokens)))
        seen = jax.nn.dot_product_attention(query, key, value, mask=mask)
        moving = moving + nn.Dense(self.width, name="out")(seen.reshape(-1, self.width))
        return moving + Mlp(self.expansion * self.width, self.width, name="mlp")(nn.LayerNorm()(moving))


def _masked(tokens: jax.Array, valid: jax.Array) -> jax.Array:
    return jnp.where(valid[:, None], tokens, 0.0)


def nothing_seen(config: NetworkConfig) -> Observation:
    """An observation of an empty scene, with the shapes that a network expects."""
    observation = config.observation
    agents, past = observation.num_agents, observation.history
    lanes, boundaries = config.observed_pieces
    lines, points = observation.num_stop_lines, observation.route_points
    return Observation(
        ego=jnp.zeros(8),
        agents=jnp.zeros((agents, 9)),
        agents_valid=jnp.zeros(agents, bool),
        past=jnp.zeros((agents, past, 4)),
        past_valid=jnp.zeros((agents, past), bool),
        lanes=jnp.zeros((lanes, 8)),
        lanes_valid=jnp.zeros(lanes, bool),
        boundaries=jnp.zeros((boundaries, 8)),
        boundaries_valid=jnp.zeros(boundaries, bool),
        stop_lines=jnp.zeros((lines, 6)),
        stop_lines_valid=jnp.zeros(lines, bool),
        route=jnp.zeros((points, 2)),
    )
