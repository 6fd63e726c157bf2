"""Training of the speed head by reinforcement, in plan rollouts or in closed loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from perlsim.bank import ScenarioBank
from perlsim.errors import PerlsimError, unknown_name
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig
from perlsim.sim.reward import RewardWeights
from perlsim.sim.types import Event, has
from planner.closed_loop import Rounds, closed_loop_loss, play
from planner.curricula import Curricula, path_weight
from planner.imitation import Asked, path_terms
from planner.losses import cross_entropy, entropy, exact_loss, reinforce_loss, soft_label
from planner.network import PlannerConfig
from planner.plans import Driven, drive_candidates
from planner.scenes import ACTION, Perturbation, TrainingData, draw, seen_at_start, start_state

MODES = ("samples", "exact", "closed_loop")
# Stream of the stage's key that draws whose road users react; samples count from 0.
_REACTIVE = 2**31 - 1


@dataclass(frozen=True)
class ReinforcementConfig:
    """How to reinforce.

    Attributes:
        mode: "samples": PerlAD's N draws and group-standardised REINFORCE; "exact": all paths × target speeds are
            driven, and the policy gradient is their expectation; "closed_loop": several plans one after the other,
            with generalised advantages.
        sim: of the simulator.
        perturbation: of the starts.
        discount: γ per step of 0.1 s.
        num_samples: N.
        entropy: weight of the bonus.
        least_spread: least standard deviation of rewards that advantages are divided by.
        imitation: weight of the losses of paths, which go on.
        speed_imitation: weight of the imitation of logged speeds; 0 leaves speeds to the rewards.
        curricula: LLA and RTS.
        weight_scale, least_weight: of LLA's weight of the choice, see `planner.curricula.path_weight`.
        group: consecutive samples that share a draw of RTS, and are driven at once on a CPU; it divides each
            device's share of the batch.
        rounds: plans of a sample and steps between them, for "closed_loop".
    """

    mode: str = "exact"
    sim: SimConfig = field(default_factory=SimConfig)
    perturbation: Perturbation = field(default_factory=Perturbation)
    discount: float = 0.98
    num_samples: int = 4
    entropy: float = 0.01
    least_spread: float = 0.1
    imitation: float = 1.0
    speed_imitation: float = 0.0
    curricula: Curricula = field(default_factory=Curricula)
    weight_scale: float = 5.0
    least_weight: float = 0.1
    group: int = 4
    rounds: Rounds = field(default_factory=Rounds)


class ReinforcementData(NamedTuple):
    """What the loss reads.

    Attributes:
        scenes: to learn in.
        weights: of the reward.
        agents: reacting road users; a pytree, of frozen parameters for learned ones. None: the log only.
    """

    scenes: TrainingData
    weights: RewardWeights
    agents: Any


class _Asked(NamedTuple):
    """What the network says of one scene.

    Attributes:
        points: ``[n, P, 2]``, of the paths that are driven.
        logits: ``[n, V]``.
        path_weights: ``[n]``.
        path, choice, speed: losses of imitation.
    """

    points: jax.Array
    logits: jax.Array
    path_weights: jax.Array
    path: jax.Array
    choice: jax.Array
    speed: jax.Array


@dataclass
class ReinforcementStage:
    """Speeds learned from rewards, paths imitated on; a `perlsim.training.stage.Stage`.

    Attributes:
        planner: configuration of the network.
        scenes: to learn in.
        weights: of the reward.
        start: parameters to start from, such as imitation's.
        num_updates, batch_size, optimiser: of the training.
        config: how.
        agents: reacting road users of RTS; None: the log only.
        check: figures of parameters at checkpoints.
        name: of its folder.
    """

    planner: PlannerConfig
    scenes: TrainingData
    weights: RewardWeights
    start: Any
    num_updates: int
    batch_size: int
    optimiser: optax.GradientTransformation
    config: ReinforcementConfig = field(default_factory=ReinforcementConfig)
    agents: Any = None
    check: Callable[[Any], dict[str, float]] | None = None
    name: str = "reinforcement"

    def __post_init__(self):
        config, bank = self.config, self.scenes.bank
        if config.mode not in MODES:
            raise unknown_name("mode of reinforcement", config.mode, MODES, "mode")
        if config.mode == "closed_loop" and not self.planner.value:
            raise PerlsimError(
                "training in closed loop needs a value head", field="value", remedy="set value"
            )
        if config.curricula.react and self.agents is None:
            raise PerlsimError("the RTS curriculum needs road users that react", field="agents")
        if self.batch_size % config.group:
            raise PerlsimError(
                f"a batch of {self.batch_size} samples is no multiple of groups of {config.group}",
                field="group",
            )
        if self.agents is not None and self.agents.requires_paths and not bank.has_agent_paths:
            raise PerlsimError(
                "these road users follow lane paths, and the bank holds none",
                field="agents",
                remedy="build the bank with agent_paths=True",
            )

    def init(self, key: jax.Array) -> Any:
        """The parameters to start from."""
        return self.start

    def data(self) -> ReinforcementData:
        """Scenes, reward and road users."""
        return ReinforcementData(self.scenes, self.weights.typed(), self.agents)

    def loss(self, params: Any, data: ReinforcementData, samples: jax.Array, update: jax.Array):
        """Mean loss of some samples, and its parts."""
        aligned = self.config.curricula.aligned(update, self.num_updates)
        asked = jax.vmap(partial(self._ask, params, data.scenes, aligned))(samples)
        if self.config.mode == "closed_loop":
            loss, rewards, metrics = self._closed_loop(params, data, samples, update)
        else:
            loss, rewards, metrics = self._plans(data, asked, samples, update)
        config = self.config
        weight = jax.vmap(lambda r: path_weight(r, config.weight_scale, config.least_weight))(rewards)
        weight = lax.stop_gradient(jnp.where(aligned, weight, 1.0))
        imitation = (
            config.imitation * (asked.path + weight * asked.choice) + config.speed_imitation * asked.speed
        )
        metrics |= {"path": asked.path.mean(), "choice": asked.choice.mean(), "speed": asked.speed.mean()}
        return (loss + imitation).mean(), {"reward": rewards.mean(), **metrics}

    def validate(self, params: Any) -> dict[str, float]:
        """What the check finds."""
        return {} if self.check is None else self.check(params)

    def _ask(self, params: Any, scenes: TrainingData, aligned: jax.Array, number: jax.Array) -> _Asked:
        """Paths to drive and the speeds on them, in the scene of a sample."""
        sample = draw(scenes, self.config.perturbation, self.planner.shape, number)
        net = Asked(self.planner, params, seen_at_start(self.config.sim, self.planner.observation, sample))
        target = sample.target.waypoints
        path, choice = path_terms(self.planner, net.paths, target)
        best = jnp.argmax(net.paths.logits)
        if self.config.mode == "exact":
            # Before the turn of LLA the logged path stands in for the most probable one.
            logged = net.paths.waypoints.at[best].set(target)
            waypoints = jnp.where(aligned, net.paths.waypoints, logged)
            path_weights = jax.nn.softmax(net.paths.logits)
        else:
            waypoints = jnp.where(aligned, net.paths.waypoints[best], target)[None]
            path_weights, best = jnp.ones(1), 0
        points = net.points(waypoints)
        logits = net.speeds(points).logits
        speeds = jnp.asarray(self.planner.speeds, jnp.float32)
        speed = cross_entropy(logits[best], soft_label(speeds, sample.target_speed))
        return _Asked(points, logits, lax.stop_gradient(path_weights), path, choice, speed)

    def _plans(self, data: ReinforcementData, asked: _Asked, samples: jax.Array, update: jax.Array):
        """Loss and expected reward of each sample by plan rollouts, and metrics."""
        config = self.config
        speeds = jnp.asarray(self.planner.speeds, jnp.float32)
        exact = config.mode == "exact"
        if exact:
            actions = jnp.broadcast_to(jnp.arange(len(speeds)), asked.logits.shape)
        else:
            actions = jax.vmap(partial(self._actions, data.scenes))(samples, asked.logits)
        driven = self._driven(data, samples, asked.points, speeds[actions], update)
        if exact:
            loss, of_paths = jax.vmap(partial(exact_loss, least=config.least_spread))(
                asked.logits, driven.reward, asked.path_weights
            )
            rewards = (asked.path_weights * of_paths).sum(-1)
            shares = asked.path_weights[..., None] * jax.nn.softmax(asked.logits)
        else:
            loss = jax.vmap(partial(reinforce_loss, least=config.least_spread))(
                asked.logits[:, 0], actions[:, 0], driven.reward[:, 0]
            )
            rewards = driven.reward.mean((1, 2))
            shares = jnp.full_like(driven.reward, 1.0 / config.num_samples)
        spread = (asked.path_weights * entropy(asked.logits)).sum(-1)
        collided = (shares * has(driven.happened, Event.COLLISION)).sum((1, 2)).mean()
        progress = (shares * driven.progress).sum((1, 2)).mean()
        metrics = {"entropy": spread.mean(), "collisions": collided, "progress": progress}
        return loss - config.entropy * spread, rewards, lax.stop_gradient(metrics)

    def _actions(self, scenes: TrainingData, number: jax.Array, logits: jax.Array) -> jax.Array:
        """N target speeds drawn for each path, int32 ``[n, N]``."""
        key = jax.random.fold_in(jax.random.fold_in(scenes.key, number), ACTION)
        count = self.config.num_samples
        return jax.random.categorical(key, logits[:, None], shape=(len(logits), count))

    def _driven(
        self, data: ReinforcementData, samples: jax.Array, points: jax.Array, targets: jax.Array, update
    ) -> Driven:
        """What candidates ``[b, n, m]`` earn."""

        def one(bank: ScenarioBank, agents: Any, number: jax.Array, points: jax.Array, targets: jax.Array):
            config, shape = self.config, self.planner.shape
            sample = draw(data.scenes._replace(bank=bank), config.perturbation, shape, number)
            state = start_state(config.sim, self.planner.observation, agents, sample)
            along = jnp.broadcast_to(points[:, None], (*targets.shape, *points.shape[1:]))
            return drive_candidates(
                shape, config.sim, agents, data.weights, config.discount, sample.scene, state, along, targets
            )

        inputs = lax.stop_gradient((samples, points, targets))
        return self.in_groups(data, one, inputs, update)

    def in_groups(self, data: ReinforcementData, one: Callable, inputs: Any, update: jax.Array) -> Any:
        """Runs ``one(bank, agents, *inputs)`` for each sample, with the road users that RTS gives its group.

        On a CPU groups run one after the other, which keeps what they touch in the cache, and of the two kinds of
        road users only the one that a group has.
        """
        group, scenes = self.config.group, data.scenes
        share = self.config.curricula.reactive(update, self.num_updates)
        grouped = jax.tree.map(lambda leaf: leaf.reshape(-1, group, *leaf.shape[1:]), inputs)
        reactive_key = jax.random.fold_in(scenes.key, _REACTIVE)

        def of_group(grouped):
            def with_agents(agents):
                return jax.vmap(partial(one, scenes.bank, agents))(*grouped)

            if not self.config.curricula.react:
                return with_agents(LogAgents())
            drawn = jax.random.uniform(jax.random.fold_in(reactive_key, grouped[0][0] // group))
            return lax.cond(drawn < share, lambda: with_agents(data.agents), lambda: with_agents(LogAgents()))

        mapped = lax.map if jax.default_backend() == "cpu" else lambda f, x: jax.vmap(f)(x)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), mapped(of_group, grouped))

    def _closed_loop(self, params: Any, data: ReinforcementData, samples: jax.Array, update: jax.Array):
        """Loss and total reward of each sample over several plans, and metrics."""
        config = self.config

        def one(bank: ScenarioBank, agents: Any, number: jax.Array):
            sample = draw(data.scenes._replace(bank=bank), config.perturbation, self.planner.shape, number)
            return play(
                self.planner, config.sim, config.rounds, config.discount, lax.stop_gradient(params), agents,
                data.weights, sample,
            )  # fmt: skip

        played = self.in_groups(data, one, (samples,), update)
        loss, metrics = jax.vmap(partial(closed_loop_loss, self.planner, config.rounds, params))(
            lax.stop_gradient(played)
        )
        loss = loss - config.entropy * metrics["entropy"]
        return loss, played.reward.sum(-1), {name: value.mean() for name, value in metrics.items()}
