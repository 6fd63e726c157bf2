"""Training by imitation: paths, and the baseline's speeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from perlsim.sim.core import SimConfig
from perlsim.sim.observe import Observation
from planner.losses import cross_entropy, path_loss, soft_label
from planner.network import Paths, PlannerConfig, PlannerNetwork, Speeds
from planner.scenes import Perturbation, TrainingData, draw, seen_at_start
from world_model.encoder import SceneTokens


@dataclass(frozen=True)
class ImitationConfig:
    """How to imitate.

    Attributes:
        sim: of the simulator, which observations are taken from.
        perturbation: of the starts.
        choice: weight of the loss of the path's choice, in relation to its waypoints'.
    """

    sim: SimConfig = field(default_factory=SimConfig)
    perturbation: Perturbation = field(default_factory=Perturbation)
    choice: float = 1.0


@dataclass
class ImitationStage:
    """Paths and speeds learned from logs; a `perlsim.training.stage.Stage`.

    The speed head sees the logged path and the predicted one, in equal shares: in a drive it will see the latter.

    Attributes:
        planner: configuration of the network.
        scenes: to learn from.
        num_updates, batch_size, optimiser: of the training.
        config: how.
        check: figures of parameters at checkpoints, such as `planner.check.ClosedLoopCheck`.
        name: of its folder.
    """

    planner: PlannerConfig
    scenes: TrainingData
    num_updates: int
    batch_size: int
    optimiser: optax.GradientTransformation
    config: ImitationConfig = field(default_factory=ImitationConfig)
    check: Callable[[Any], dict[str, float]] | None = None
    name: str = "imitation"

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters."""
        return init_params(self.planner, self.scenes, key)

    def data(self) -> TrainingData:
        """The scenes."""
        return self.scenes

    def loss(self, params: Any, data: TrainingData, samples: jax.Array, update: jax.Array):
        """Mean loss of some samples, and its parts."""
        losses = jax.vmap(partial(self._one, params, data))(samples)
        metrics = {name: value.mean() for name, value in losses.items()}
        total = metrics["path"] + self.config.choice * metrics["choice"] + metrics["speed"]
        return total, metrics

    def _one(self, params: Any, data: TrainingData, number: jax.Array) -> dict[str, jax.Array]:
        sample = draw(data, self.config.perturbation, self.planner.shape, number)
        net = Asked(self.planner, params, seen_at_start(self.config.sim, self.planner.observation, sample))
        regression, choice = path_terms(self.planner, net.paths, sample.target.waypoints)
        best = net.paths.waypoints[jnp.argmax(net.paths.logits)]
        both = jnp.stack([sample.target.waypoints, best])
        speeds = jnp.asarray(self.planner.speeds, jnp.float32)
        label = soft_label(speeds, sample.target_speed)
        logits = net.speeds(net.points(both)).logits
        speed = jax.vmap(lambda one: cross_entropy(one, label))(logits).mean()
        error = jnp.abs(speeds[jnp.argmax(logits[1])] - jnp.clip(sample.target_speed, speeds[0], speeds[-1]))
        return {
            "path": regression,
            "choice": choice,
            "speed": speed,
            "path_error": jnp.sqrt(((best - sample.target.waypoints) ** 2).sum(-1)).mean(),
            "speed_error": error,
        }

    def validate(self, params: Any) -> dict[str, float]:
        """What the check finds."""
        return {} if self.check is None else self.check(params)


class Asked:
    """A network that has looked at one scene and is asked about it; for use inside one trace.

    Args:
        planner: configuration.
        params: of its network.
        seen: the scene.
    """

    def __init__(self, planner: PlannerConfig, params: Any, seen: Observation):
        self._network, self._params, self._seen = PlannerNetwork(planner), {"params": params}, seen
        self.context: SceneTokens = self._call(PlannerNetwork.encode, seen)
        self.paths: Paths = self._call(PlannerNetwork.paths, self.context)

    def _call(self, method: Callable, *args: Any) -> Any:
        return self._network.apply(self._params, *args, method=method)

    def points(self, waypoints: jax.Array) -> jax.Array:
        """Paths ``[n, W, 2]`` led on to plans' points ``[n, P, 2]``; nothing flows back into the paths."""
        return jax.lax.stop_gradient(self._call(PlannerNetwork.points, self._seen, waypoints))

    def speeds(self, points: jax.Array) -> Speeds:
        """Speeds on paths as `points` gives them."""
        return self._call(PlannerNetwork.speeds, self.context, self._seen, points)


def path_terms(planner: PlannerConfig, paths: Paths, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Losses of the waypoints and of the choice of a path."""
    anchors = jnp.asarray(planner.anchors, jnp.float32)
    return path_loss(paths.waypoints, paths.logits, anchors, target)


def init_params(planner: PlannerConfig, scenes: TrainingData, key: jax.Array) -> Any:
    """Fresh parameters of a planner's network.

    Args:
        planner: configuration.
        scenes: whose observations show the sizes.
        key: of the random numbers.
    """
    planner.validate()

    def first(scenes: TrainingData) -> Observation:
        sample = draw(scenes, Perturbation(), planner.shape, jnp.int32(0))
        return seen_at_start(SimConfig(), planner.observation, sample)

    shapes = jax.eval_shape(first, scenes)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.jit(PlannerNetwork(planner).init)(key, nothing)["params"]
