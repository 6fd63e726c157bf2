"""The training of a world model as a stage (`perlsim.training.stage`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from perlsim.bank import ScenarioBank, Scene
from perlsim.errors import PerlsimError
from world_model.data import NO_AUGMENTATION, Augmentation, Sample, sample_at, starts_of
from world_model.losses import forecast, loss_of
from world_model.model import WorldModel, WorldModelConfig

# Share of road users given a random mode at first; none from half of the training on [S].
_EXPLORE = 0.3
# Samples of a validation and of one of its batches.
_VALIDATION, _VALIDATION_BATCH = 512, 32


@dataclass(frozen=True)
class WorldModelSettings:
    """Choices of the training.

    Attributes:
        num_updates, batch_size: see `Stage`.
        learning_rate: its peak; it rises over the first twentieth and falls as a cosine.
        weight_decay: of AdamW.
        clip: greatest norm of a gradient.
        seed: of all randomness in the loss.
        augmentation: of the logged egos.
    """

    num_updates: int = 2000
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


class WorldModelStage:
    """Trains a `WorldModel` on the logs of some banks.

    Args:
        config: of the network.
        banks: of the training; built with ``config.network.observed_pieces``. Updates take them by turns, each as
            often as it is named: logs, and logs with departed egos (`world_model.departures.departed`).
        settings: of the training.
        validation: bank of unseen scenes; None for no validation.
        name: of the stage's folder.

    Raises:
        PerlsimError: where no bank holds a step to start from.
    """

    def __init__(
        self,
        config: WorldModelConfig,
        banks: Sequence[ScenarioBank],
        settings: WorldModelSettings | None = None,
        validation: ScenarioBank | None = None,
        name: str = "world_model",
    ):
        self.name, self.config = name, config
        self.settings = settings = settings or WorldModelSettings()
        self.num_updates, self.batch_size = settings.num_updates, settings.batch_size
        self.model = WorldModel(config)
        self.banks, self.starts = tuple(banks), tuple(starts_of(bank) for bank in banks)
        if not banks or not all(len(starts.step) for starts in self.starts):
            raise PerlsimError(
                "a bank has no step with the ego in the log and 3 s logged after it",
                remedy="leave such logs out, or import longer ones",
            )
        self.validation = validation
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, settings.learning_rate, max(1, settings.num_updates // 20), max(2, settings.num_updates)
        )
        self.optimiser = optax.chain(
            optax.clip_by_global_norm(settings.clip),
            optax.adamw(schedule, weight_decay=settings.weight_decay),
        )

    def init(self, key: jax.Array) -> Any:
        """See `Stage`."""
        return self.model.init(key)

    def data(self) -> Any:
        """See `Stage`."""
        return {"banks": self.banks, "starts": self.starts}

    def loss(self, params, data, samples, update) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Stage`."""
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(self.settings.seed)))(samples)
        keys = jax.vmap(partial(jax.random.split, num=2))(keys)
        draw = partial(drawn, self.config, self.settings.augmentation)
        # Sampling differs from bank to bank in shape; what comes of it does not.
        branches = [
            partial(draw, bank, starts) for bank, starts in zip(data["banks"], data["starts"], strict=True)
        ]
        batch = lax.switch(update % len(branches), branches, keys[:, 0])
        explore = _EXPLORE * jnp.maximum(1.0 - 2.0 * update / max(self.num_updates, 1), 0.0)
        one = partial(loss_of, self.model, params, explore=explore)
        losses, metrics = jax.vmap(lambda sample, key: one(sample, key))(batch, keys[:, 1])
        return losses.mean(), jax.tree.map(jnp.mean, metrics)

    def validate(self, params) -> dict[str, float]:
        """Displacement errors on the validation bank; ``score`` is the negative minADE."""
        if self.validation is None:
            return {}
        errors = self._validation_errors(params)
        return {**errors, "score": -errors["min_ade"]}

    @cached_property
    def _validator(self):
        return jax.jit(partial(_errors, self.model))

    def _validation_errors(self, params) -> dict[str, float]:
        assert self.validation is not None
        starts = starts_of(self.validation)
        order = np.random.default_rng(0).permutation(len(starts.step))[:_VALIDATION]
        order = np.resize(order, -(-len(order) // _VALIDATION_BATCH) * _VALIDATION_BATCH)
        bank = jax.device_put(self.validation)
        parts = [
            self._validator(params, bank, *(column[chosen] for column in starts))
            for chosen in order.reshape(-1, _VALIDATION_BATCH)
        ]
        total = jax.tree.map(lambda *leaves: float(np.sum(leaves)), *parts)
        return {name: total[name] / max(total["count"], 1.0) for name in total if name != "count"}


def drawn(config: WorldModelConfig, augmentation: Augmentation, bank, starts, keys) -> Sample:
    """Samples ``[B, …]`` of a bank, one for each key."""

    def one(key):
        choice_key, key = jax.random.split(key)
        chosen = jax.random.randint(choice_key, (), 0, len(starts.step))
        idx, step = (jnp.asarray(column)[chosen] for column in starts)
        return sample_at(config.network.observation, augmentation, Scene(bank, idx), step, key)

    return jax.vmap(one)(keys)


def _errors(model: WorldModel, params, bank, idx, step) -> dict[str, jax.Array]:
    """Sums over the road users of a batch of scenes, and their count."""
    observation = model.config.network.observation

    def one(idx, step):
        sample = sample_at(observation, NO_AUGMENTATION, Scene(bank, idx), step, jax.random.key(0))
        future = forecast(model, params, sample)
        dx, dy = future.motion.x - sample.future.x, future.motion.y - sample.future.y
        distance = jnp.hypot(dx, dy) * sample.future_valid
        ade = distance.sum(1) / jnp.maximum(sample.future_valid.sum(0), 1)
        top = jnp.take_along_axis(ade, future.logits.argmax(-1)[None], 0)[0]
        counted = sample.future_valid.any(0)
        return {
            "min_ade": (ade.min(0) * counted).sum(),
            "top_ade": (top * counted).sum(),
            "count": counted.sum().astype(jnp.float32),
        }

    return jax.tree.map(jnp.sum, jax.vmap(one)(idx, step))
