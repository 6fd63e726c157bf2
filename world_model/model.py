"""The reactive prediction network: scene encoder, modes, and a decoder that is told where the ego goes.

PerlAD's world model (arXiv 2603.14908): a recurrent decoder for each road user at 2 Hz; at each of its steps the ego's
displacement of that step, and no later one, is injected. Beyond PerlAD, road users may see each other's decoded state
at each step, and the ego enters by its pose as seen from each of them. Everything that the decoder sees is relative,
so its predictions move and turn with the scene.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from perlsim.errors import FormatError
from perlsim.geometry.numerics import rotate, safe_norm, to_frame
from perlsim.sim.observe import Observation, ObservationConfig
from world_model.encoder import Mlp, NetworkConfig, Relations, SceneEncoder, nothing_seen
from world_model.features import relative
from world_model.kinematics import NUM_CONTROLS, SUBSTEPS, Body, Controls, Motion, bounded, move_on

# Seconds of a step.
_DURATION = 0.1 * SUBSTEPS
# Beyond the first distance [m] the ego's plan fades, beyond the second nobody is told of it: out of its reach [S].
_FADES, _OUT_OF_REACH = 40.0, 60.0


@dataclass(frozen=True)
class WorldModelConfig:
    """Choices of a world model; static, hashable.

    Attributes:
        network: sizes of encoder and decoder.
        num_modes: futures of each road user, K.
        conditioned: whether the decoder is told where the ego goes. Without, it is as large, and a learned constant
            stands in for the ego.
        interactions: whether road users see each other's decoded state at each step.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    num_modes: int = 6
    conditioned: bool = True
    interactions: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> WorldModelConfig:
        """What `as_dict` gave.

        Raises:
            FormatError: for fields that are unknown or missing.
        """
        try:
            network = dict(content["network"])
            observation = ObservationConfig(**network.pop("observation"))
            rest = {name: value for name, value in content.items() if name != "network"}
            return cls(network=NetworkConfig(observation=observation, **network), **rest)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not the configuration of a world model: {error!r}", field="config") from error


class EgoStep(NamedTuple):
    """What road users know of the ego during a step; scalars, in the frame of their motion.

    Attributes:
        x, y, cos, sin: its pose at the step's beginning [m].
        dx, dy: its planned displacement until the step's end [m].
        known: 1, or 0 where its plan is kept from them.
    """

    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array
    dx: jax.Array
    dy: jax.Array
    known: jax.Array


class Encoded(NamedTuple):
    """A scene as the decoder takes it.

    Attributes:
        tokens: ``[K, D]`` of the road users.
        mode_logits: ``[K, num_modes]``.
        ego: half length and half width of the ego [m], ``[2]``.
    """

    tokens: jax.Array
    mode_logits: jax.Array
    ego: jax.Array


class _Layers(nn.Module):
    """The network's parameters and what is computed with them; `WorldModel` calls it."""

    config: WorldModelConfig

    def setup(self):
        """Layers."""
        network = self.config.network
        width, size = network.width, network.decoder_width
        self.encoder = SceneEncoder(network)
        self.mode_head = Mlp(2 * width, self.config.num_modes)
        self.mode_embedding = nn.Embed(self.config.num_modes, width)
        self.first_memory = Mlp(2 * width, size)
        self.see_ego = Mlp(size, size)
        self.ego_unknown = self.param("ego_unknown", nn.initializers.normal(0.1), (size,))
        self.see_others = Relations(network.pool_width)
        self.take_in = nn.Dense(size)
        self.cell = nn.GRUCell(size)
        self.control_head = nn.Dense(NUM_CONTROLS, kernel_init=nn.initializers.normal(0.01))

    def __call__(self, seen: Observation, motion: Motion, body: Body, ego: EgoStep):
        """Everything once, for initialisation: memory and controls after one step in mode 0."""
        encoded = self.encode(seen)
        memory = self.remember(encoded, jnp.zeros(len(seen.agents), jnp.int32))
        return self.decide(encoded.ego, memory, motion, body, seen.agents_valid, ego)

    def encode(self, seen: Observation) -> Encoded:
        """Encodes a scene."""
        tokens = self.encoder(seen).agents
        return Encoded(tokens, self.mode_head(tokens), 0.5 * seen.ego[1:3])

    def remember(self, encoded: Encoded, mode: jax.Array) -> jax.Array:
        """See `WorldModel.remember`."""
        return jnp.tanh(self.first_memory(encoded.tokens + self.mode_embedding(mode)))

    def decide(
        self,
        ego_size: jax.Array,
        memory: jax.Array,
        motion: Motion,
        body: Body,
        valid: jax.Array,
        ego: EgoStep,
    ) -> tuple[jax.Array, Controls]:
        """See `WorldModel.decide`."""
        # What is seen has no gradient, only what is remembered and how controls move: it would cost as much as all
        # the rest, in time and twice that in compilation.
        motion = lax.stop_gradient(motion)
        ahead, left = rotate(motion.vx, motion.vy, motion.cos, -motion.sin)
        inputs = [jnp.stack([ahead / 10.0, left / 10.0, ahead**2 / 100.0], -1)]
        inputs.append(self._told(ego_size, motion, body, ego))
        if self.config.interactions:
            column, row = (slice(None), None), (None, slice(None))
            pairs = encounter(motion.at(*column), body.at(*column), motion.at(*row), body.at(*row))
            others = valid & ~jnp.eye(len(valid), dtype=bool)
            inputs.append(self.see_others(pairs, memory, others))
        taken = nn.relu(self.take_in(jnp.concatenate(inputs, -1)))
        memory, _ = self.cell(memory, taken)
        return memory, bounded(self.control_head(memory), body)

    def _told(self, ego_size: jax.Array, motion: Motion, body: Body, ego: EgoStep) -> jax.Array:
        """What each is told of the ego, ``[K, M]``; a learned constant where that is nothing."""
        other = Motion(ego.x, ego.y, ego.cos, ego.sin, ego.dx / _DURATION, ego.dy / _DURATION)
        size = Body(ego_size[0], ego_size[1], jnp.float32(1.0))
        # Computed by both variants, so that they have the same parameters.
        seen = self.see_ego(encounter(motion, body, other, size))
        distance = safe_norm(motion.x - ego.x, motion.y - ego.y)
        share = jnp.clip((_OUT_OF_REACH - distance) / (_OUT_OF_REACH - _FADES), 0.0, 1.0) * ego.known
        share = share[:, None] * float(self.config.conditioned)
        return share * seen + (1.0 - share) * self.ego_unknown


@dataclass(frozen=True)
class WorldModel:
    """See the module; functions of one scene and of parameters, vmapped by the caller.

    Attributes:
        config: its choices.
    """

    config: WorldModelConfig

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters."""
        zero, scalar = jnp.zeros(self.config.network.observation.num_agents), jnp.float32(0.0)
        arguments = Motion(*[zero] * 6), Body(*[zero] * 3), EgoStep(*[scalar] * 7)
        return _Layers(self.config).init(key, nothing_seen(self.config.network), *arguments)

    def encode(self, params: Any, seen: Observation) -> Encoded:
        """Encodes a scene."""
        return cast(Encoded, _Layers(self.config).apply(params, seen, method=_Layers.encode))

    def remember(self, params: Any, encoded: Encoded, mode: jax.Array) -> jax.Array:
        """The decoder's memory ``[K, M]`` at its start, for a mode of each road user, int32 ``[K]``."""
        return cast(jax.Array, _Layers(self.config).apply(params, encoded, mode, method=_Layers.remember))

    def decide(
        self,
        params: Any,
        ego_size: jax.Array,
        memory: jax.Array,
        motion: Motion,
        body: Body,
        valid: jax.Array,
        ego: EgoStep,
    ) -> tuple[jax.Array, Controls]:
        """One step of the decoder: memory ``[K, M]``, and the controls that hold during it.

        Args:
            params: of the network.
            ego_size: half length and width [m], ``[2]``.
            memory: ``[K, M]``.
            motion, body: of the road users, ``[K]``.
            valid: bool ``[K]``.
            ego: the ego in this step.
        """
        arguments = (ego_size, memory, motion, body, valid, ego)
        decided = _Layers(self.config).apply(params, *arguments, method=_Layers.decide)
        return cast(tuple[jax.Array, Controls], decided)


def encounter(own: Motion, body: Body, other: Motion, other_body: Body) -> jax.Array:
    """How another road user looks from one's own, ``[..., F]``; the two broadcast.

    Pose and velocity in one's own frame, and what following and passing depend on: gap ahead, room beside, closing
    speed, all bounded.
    """
    x, y = to_frame(other.x, other.y, own.x, own.y, own.cos, own.sin)
    vx, vy = rotate(other.vx - own.vx, other.vy - own.vy, own.cos, -own.sin)
    cos = jnp.abs(other.cos * own.cos + other.sin * own.sin)
    sin = jnp.abs(other.sin * own.cos - other.cos * own.sin)
    gap = jnp.abs(x) - body.half_length - other_body.half_length * cos - other_body.half_width * sin
    room = jnp.abs(y) - body.half_width - other_body.half_length * sin - other_body.half_width * cos
    is_ahead = (x > 0).astype(x.dtype)
    speed = own.vx * own.cos + own.vy * own.sin
    columns = [
        vx / 10.0,
        vy / 10.0,
        is_ahead * jnp.clip(gap / 10.0, -1.0, 1.0),
        is_ahead * jnp.clip(gap / 40.0, -1.0, 1.0),
        jnp.clip(room / 2.0, -1.0, 1.0),
        is_ahead,
        # Deceleration that closes the gap exactly, as a share of a hard brake.
        is_ahead * jnp.clip(jnp.maximum(-vx, 0.0) ** 2 / (2.0 * jnp.maximum(gap, 1.0)) / 8.0, 0.0, 2.0),
        jnp.clip(gap / (jnp.maximum(speed, 0.0) + 1.0), -1.0, 4.0) * is_ahead,
    ]
    shape = jnp.broadcast_shapes(*(column.shape for column in columns))
    rest = jnp.stack([jnp.broadcast_to(column, shape) for column in columns], -1)
    return jnp.concatenate([relative(own.places, other.places), rest], -1)


def decode(
    model: WorldModel,
    params: Any,
    encoded: Encoded,
    mode: jax.Array,
    motion: Motion,
    body: Body,
    valid: jax.Array,
    ego: EgoStep,
) -> tuple[Motion, Controls]:
    """The future of one scene, step by step.

    Args:
        model, params: the network.
        encoded: the scene.
        mode: int32 ``[K]`` of each road user.
        motion, body, valid: the road users now, ``[K]``.
        ego: fields ``[S]``, one for each step.

    Returns:
        Motion at the end of each step ``[S, K]``, and the controls that led there.
    """

    def one(carry, ego):
        memory, motion = carry
        memory, controls = model.decide(params, encoded.ego, memory, motion, body, valid, ego)
        motion = move_on(motion, controls, body)
        return (memory, motion), (motion, controls)

    memory = model.remember(params, encoded, mode)
    _, future = lax.scan(one, (memory, motion), ego)
    return future
