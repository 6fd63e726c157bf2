"""The planner as an ego policy, and its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from perlsim.bank import Scene
from perlsim.errors import FormatError
from perlsim.sim.observe import Observation, ObservationConfig
from perlsim.sim.types import Plan
from planner.anchors import as_tuple
from planner.imitation import Asked
from planner.network import PlannerConfig
from planner.plans import PathShape, plan_of
from world_model.encoder import NetworkConfig

KIND = "planner"


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["config", "sampled"])
@dataclass(frozen=True)
class Planner:
    """Drives the most probable path with the most probable target speed on it.

    Attributes:
        params: of its network.
        config: everything static.
        sampled: whether the target speed is drawn instead.
    """

    params: Any
    config: PlannerConfig
    sampled: bool = False
    privileged: ClassVar[bool] = False
    replays_log: ClassVar[bool] = False

    @property
    def observation(self) -> ObservationConfig:
        """What it has to be shown."""
        return self.config.observation

    @property
    def observed_pieces(self) -> tuple[int, int]:
        """Lane and boundary pieces that banks are built with for it."""
        return self.config.network.observed_pieces

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> tuple[()]:
        """No memory."""
        return ()

    def act(self, carry: tuple[()], observation: Observation, key: jax.Array) -> tuple[tuple[()], Plan]:
        """The plan."""
        net = Asked(self.config, self.params, observation)
        points = net.points(net.paths.waypoints[jnp.argmax(net.paths.logits)][None])
        logits = net.speeds(points).logits[0]
        choice = jax.random.categorical(key, logits) if self.sampled else jnp.argmax(logits)
        target = jnp.asarray(self.config.speeds, jnp.float32)[choice]
        return carry, plan_of(self.config.shape, points[0], observation.ego[0], target)


def save_policy(folder: Path | str, policy: Planner) -> None:
    """Writes a planner as files that need nothing of the training (`perlsim.training.export`)."""
    from perlsim.training.export import save_model

    save_model(folder, KIND, asdict(policy.config), policy.params)


def load_policy(folder: Path | str) -> Planner:
    """The planner that `save_policy` wrote.

    Raises:
        PerlsimError: no planner there, or one of a newer version.
        FormatError: damaged files.
    """
    from perlsim.training.export import load_model

    content, params = load_model(folder, KIND)
    try:
        network = dict(content["network"])
        observation = ObservationConfig(**network.pop("observation"))
        config = PlannerConfig(
            network=NetworkConfig(observation=observation, **network),
            shape=PathShape(**content["shape"]),
            anchors=as_tuple(content["anchors"]),
            speeds=tuple(content["speeds"]),
            value=bool(content["value"]),
        ).validate()
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"damaged configuration: {error!r}", file=Path(folder) / "model.json") from error
    return Planner(jax.tree.map(jnp.asarray, params), config)
