"""A stage small enough to train in a second: a linear map learned from samples drawn by their numbers."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax


@dataclass
class ToyStage:
    name: str = "toy"
    num_updates: int = 40
    batch_size: int = 8
    optimiser: optax.GradientTransformation = field(default_factory=lambda: optax.adam(0.05))
    breaks_at: int = -1
    scores: tuple[float, ...] = ()

    def init(self, key):
        return {"layer": {"weight": 0.1 * jax.random.normal(key, (3, 2)), "offset": jnp.zeros(2)}}

    def data(self):
        return {"truth": np.arange(6, dtype=np.float32).reshape(3, 2), "key": jax.random.key(7)}

    def loss(self, params, data, samples, update):
        def one(sample):
            key = jax.random.fold_in(data["key"], sample)
            x = jax.random.normal(key, (3,))
            found = x @ params["layer"]["weight"] + params["layer"]["offset"]
            return ((found - x @ data["truth"]) ** 2).sum()

        loss = jax.vmap(one)(samples).mean()
        loss = jnp.where(update == self.breaks_at, jnp.nan, 1.0) * loss
        return loss, {"first_sample": samples[0].astype(jnp.float32)}

    def validate(self, params):
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
        if not self.scores:
            return {}
        self.validated = getattr(self, "validated", -1) + 1
        return {"score": self.scores[self.validated]}


def main(folder: str, seconds_per_validation: float) -> None:
    """Trains in a process of its own, so that it can be killed."""
    import time

    from perlsim import backend

    backend.setup(int(os.environ.get("TOY_DEVICES", "2")))
    if "JAX_PROCESS_ID" in os.environ:
        from perlsim.training import distributed

        distributed.start()
    from perlsim.training.loop import train_stage
    from perlsim.training.run_log import JsonLines, Logs

    class Slow(ToyStage):
        def validate(self, params):
            time.sleep(seconds_per_validation)
            return {}

    log = JsonLines(Path(folder) / "log.jsonl") if jax.process_index() == 0 else Logs(())
    train_stage(Slow(), Path(folder), log, seed=1, updates_per_call=3, checkpoint_every=4)
    log.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
