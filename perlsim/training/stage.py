"""What the training loop asks of one optimisation."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import optax


class Stage(Protocol):
    """One optimisation: parameters, data and a loss, which `perlsim.training.loop.train_stage` runs.

    The loss of a sample is a pure function of the parameters, the data and the sample's number, so that results
    do not depend on the number of devices and a training that was stopped goes on exactly.

    Attributes:
        name: of the stage's folder in the run.
        num_updates: updates from start to end.
        batch_size: samples of one update over all devices.
        optimiser: updates the parameters; schedules in it count updates.
    """

    name: str
    num_updates: int
    batch_size: int
    optimiser: optax.GradientTransformation

    def init(self, key: jax.Array) -> Any:
        """The trainable parameters at the start, a pytree of arrays.

        Args:
            key: of their random numbers.
        """
        ...

    def data(self) -> Any:
        """What the loss reads and training leaves alone, a pytree of arrays, with a copy on every device: banks,
        tables, frozen parameters."""
        ...

    def loss(
        self, params: Any, data: Any, samples: jax.Array, update: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The mean loss of some samples; called inside jit, once a device.

        Args:
            params: trainable parameters.
            data: what `data` gave.
            samples: int32 `[b]`, numbers of this device's share: ``update * batch_size + i``. All randomness is
                keyed by ``fold_in(key of the stage, sample number)``.
            update: int32, for curricula.

        Returns:
            Mean over the samples, and scalar metrics that are means over the samples too: those of several
            devices are averaged.
        """
        ...

    def validate(self, params: Any) -> dict[str, float]:
        """Figures on data that is not trained on, computed on the host at checkpoints; empty if there are none.

        Args:
            params: trainable parameters.
        """
        ...
