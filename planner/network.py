"""The planner's network: paths by modes, and speeds conditioned on a path.

Lateral and longitudinal queries look at the scene separately (PerlAD, FACTS §1). A speed depends on its own path only,
never on what other paths there are, so that all paths of a scene may be asked about together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from perlsim.errors import PerlsimError
from perlsim.geometry.numerics import safe_norm
from perlsim.sim.observe import Observation, ObservationConfig
from planner.plans import PathShape, extended
from world_model.encoder import Mlp, NetworkConfig, Relations, SceneEncoder, SceneTokens
from world_model.features import agent_motion, stop_line_features

# Target speeds [m/s]: PerlAD's 13, and a range that motorways need.
SPEEDS: dict[str, tuple[float, ...]] = {
    "perlad": tuple(float(v) for v in range(13)),
    "motorway": (*(float(v) for v in range(13)), 14.0, 16.0, 18.0, 20.0, 22.0, 24.0, 26.0, 28.0, 30.0),
}
# Scales of places and speeds that a network sees [m, m/s], distance at which far begins, and the one across a path
# that is resolved well [m]; S.
_PLACE, _SPEED, _NEAR, _LATERAL = 30.0, 10.0, 10.0, 3.0


@dataclass(frozen=True)
class PlannerConfig:
    """Everything static about a planner.

    Attributes:
        network: of its encoder.
        shape: of its paths and plans.
        anchors: ``[K][W][2]`` m, of `planner.anchors.cluster`.
        speeds: target speeds of its choice, rising [m/s].
        value: whether it has a value head, for closed-loop training.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    shape: PathShape = field(default_factory=PathShape)
    anchors: tuple[tuple[tuple[float, float], ...], ...] = ()
    speeds: tuple[float, ...] = SPEEDS["perlad"]
    value: bool = False

    @property
    def observation(self) -> ObservationConfig:
        """What the planner sees."""
        return self.network.observation

    @property
    def num_modes(self) -> int:
        """Paths of a scene, K."""
        return len(self.anchors)

    def validate(self) -> PlannerConfig:
        """Itself.

        Raises:
            PerlsimError: anchors that do not fit the shape of paths, speeds that do not rise.
        """
        sizes = {len(anchor) for anchor in self.anchors}
        if sizes != {self.shape.num_waypoints}:
            raise PerlsimError(
                f"expected anchors of {self.shape.num_waypoints} waypoints, found {sorted(sizes)}",
                field="anchors",
                remedy="make them with planner.anchors.cluster from paths of the same shape",
            )
        if len(self.speeds) < 2 or any(b <= a for a, b in zip(self.speeds, self.speeds[1:], strict=False)):
            raise PerlsimError(f"speeds must rise, found {self.speeds}", field="speeds")
        return self


class Paths(NamedTuple):
    """Paths that the ego may take.

    Attributes:
        waypoints: ``[K, W, 2]`` m in the ego frame.
        logits: ``[K]``.
    """

    waypoints: jax.Array
    logits: jax.Array


class Speeds(NamedTuple):
    """What is said of n paths.

    Attributes:
        logits: ``[n, V]``, of the target speeds.
        values: ``[n]``, expected return; 0 without a value head.
    """

    logits: jax.Array
    values: jax.Array


class PlannerNetwork(nn.Module):
    """`Observation` of one scene to paths and speeds; vmapped by the caller."""

    config: PlannerConfig

    def setup(self):
        """Makes the parts."""
        network = self.config.network
        self.encoder = SceneEncoder(network)
        self.lateral = _Lateral(self.config)
        self.longitudinal = _Longitudinal(self.config)

    def __call__(self, seen: Observation) -> tuple[Paths, Speeds]:
        """All paths, and the speeds on each."""
        context = self.encode(seen)
        paths = self.paths(context)
        return paths, self.speeds(context, seen, self.points(seen, paths.waypoints))

    def encode(self, seen: Observation) -> SceneTokens:
        """The scene's tokens."""
        return self.encoder(seen)

    def paths(self, context: SceneTokens) -> Paths:
        """The K paths."""
        return self.lateral(context)

    def points(self, seen: Observation, waypoints: jax.Array) -> jax.Array:
        """Paths ``[n, W, 2]``, each led on along the route to the points of a plan ``[n, P, 2]``."""
        spacing = float(self.config.observation.route_spacing)
        return jax.vmap(lambda one: extended(self.config.shape, one, seen.route, spacing))(waypoints)

    def speeds(self, context: SceneTokens, seen: Observation, points: jax.Array) -> Speeds:
        """Speeds on paths ``[n, P, 2]`` as `points` gives them; nothing flows back into the paths."""
        return self.longitudinal(context, seen, jax.lax.stop_gradient(points))


class _Lateral(nn.Module):
    config: PlannerConfig

    @nn.compact
    def __call__(self, context: SceneTokens) -> Paths:
        network, anchors = self.config.network, jnp.asarray(self.config.anchors, jnp.float32)
        own = nn.Dense(network.width, name="ego")(jnp.concatenate([context.ego, context.route]))
        query = Mlp(network.width, network.width, name="anchor")(anchors.reshape(len(anchors), -1) / _PLACE)
        query = query + own
        query = Look(network.width, network.heads, name="look")(query, context)
        offset = nn.Dense(anchors[0].size, name="offset", kernel_init=_SMALL)(query)
        logits = nn.Dense(1, name="logit", kernel_init=_SMALL)(query)[:, 0]
        return Paths(anchors + offset.reshape(anchors.shape), logits)


class _Longitudinal(nn.Module):
    config: PlannerConfig

    @nn.compact
    def __call__(self, context: SceneTokens, seen: Observation, points: jax.Array) -> Speeds:
        network = self.config.network
        around = _AlongPath(network.pool_width, name="along_path")(seen, points)
        shape = points.reshape(len(points), -1) / _PLACE
        query = nn.Dense(network.width, name="ego")(context.ego)
        query = query + Mlp(network.width, network.width, name="path")(jnp.concatenate([shape, around], -1))
        query = Look(network.width, network.heads, name="look")(query, context)
        logits = nn.Dense(len(self.config.speeds), name="logits", kernel_init=_SMALL)(query)
        if not self.config.value:
            return Speeds(logits, jnp.zeros(len(points)))
        return Speeds(logits, nn.Dense(1, name="value", kernel_init=_SMALL)(query)[:, 0])


# Heads begin near "all alike".
_SMALL = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


class _AlongPath(nn.Module):
    """What stands and moves along paths: road users and stop lines in the coordinates of each path."""

    width: int

    @nn.compact
    def __call__(self, seen: Observation, points: jax.Array) -> jax.Array:
        """``[n, P, 2]`` to ``[n, F]``."""
        speed = seen.ego[0]

        def summary(name: str, others: jax.Array, content: jax.Array, valid: jax.Array) -> jax.Array:
            pairs = jax.vmap(lambda path: along_path(path, others, speed))(points)
            return Relations(self.width, name=name)(pairs, content, valid)

        still = jnp.zeros((len(seen.stop_lines), 2))
        lines = jnp.concatenate([seen.stop_lines[:, :4], still], -1)
        agents = summary("agents", seen.agents, agent_motion(seen), seen.agents_valid)
        content = stop_line_features(seen.stop_lines)[:, 4:]
        return jnp.concatenate([agents, summary("stop_lines", lines, content, seen.stop_lines_valid)], -1)


def along_path(path: jax.Array, others: jax.Array, speed: jax.Array) -> jax.Array:
    """Where elements are along a path, how they lie and move along it, ``[J, F]``; all of order one.

    Args:
        path: ``[P, 2]`` m.
        others: ``[J, 6]`` and more: x, y [m], cos, sin of the heading, vx, vy [m/s]; in the frame of the path.
        speed: of the ego, m/s.
    """
    direction = jnp.concatenate([path[1:], path[-1:]]) - jnp.concatenate([path[:1], path[:-1]])
    length = jnp.maximum(safe_norm(direction[:, 0], direction[:, 1]), 1e-3)
    direction = direction / length[:, None]
    chords = path[1:] - path[:-1]
    arcs = jnp.concatenate([jnp.zeros(1), jnp.cumsum(safe_norm(chords[:, 0], chords[:, 1]))])
    apart = others[:, None, :2] - path
    nearest = jnp.argmin((apart**2).sum(-1), -1)
    dx, dy = jnp.take_along_axis(apart, nearest[:, None, None], 1)[:, 0].T
    (cos, sin), arc = direction[nearest].T, arcs[nearest]
    ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
    arc = arc + ahead
    turn_cos, turn_sin = others[:, 2] * cos + others[:, 3] * sin, others[:, 3] * cos - others[:, 2] * sin
    along, across = others[:, 4] * cos + others[:, 5] * sin, others[:, 5] * cos - others[:, 4] * sin
    return jnp.stack(
        [
            arc / _PLACE,
            jnp.sign(arc) * _NEAR / (_NEAR + jnp.abs(arc)),
            # Far from the path nothing matters much, near it half a metre does.
            jnp.clip(left / _LATERAL, -2.0, 2.0),
            jnp.clip(left / _PLACE, -2.0, 2.0),
            turn_cos,
            turn_sin,
            along / _SPEED,
            across / _SPEED,
            (speed - along) / _SPEED,
            jnp.broadcast_to(speed / _SPEED, arc.shape),
        ],
        -1,
    )


class Look(nn.Module):
    """Queries that attend to a scene's tokens, each for itself, then an MLP."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, query: jax.Array, context: SceneTokens) -> jax.Array:
        """Queries ``[n, D]``, changed and normalised."""
        tokens = context.tokens

        def split(values: jax.Array) -> jax.Array:
            return values.reshape(len(values), self.heads, -1)

        mask = jnp.broadcast_to(context.valid, (1, len(query), len(tokens)))
        seen = jax.nn.dot_product_attention(
            split(nn.Dense(self.width, name="query")(nn.LayerNorm()(query))),
            split(nn.Dense(self.width, name="key", use_bias=False)(tokens)),
            split(nn.Dense(self.width, name="value")(tokens)),
            mask=mask,
        )
        query = query + nn.Dense(self.width, name="out")(seen.reshape(len(query), -1))
        query = query + Mlp(2 * self.width, self.width, name="mlp")(nn.LayerNorm()(query))
        return nn.LayerNorm()(query)
