"""A stage small enough to train in a second: a linear map learned from samples drawn by their numbers."""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from perlsim.training.config import Strict
from perlsim.training.loop import train_stage
from perlsim.training.run_log import JsonLines, Logs


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
    from perlsim import backend

    backend.setup(int(os.environ.get("TOY_DEVICES", "2")))
    if "JAX_PROCESS_ID" in os.environ:
        from perlsim.training import distributed

        distributed.start()

    class Slow(ToyStage):
        def validate(self, params):
            time.sleep(seconds_per_validation)
            return {}

    log = JsonLines(Path(folder) / "log.jsonl") if jax.process_index() == 0 else Logs(())
    train_stage(Slow(), Path(folder), log, seed=1, updates_per_call=3, checkpoint_every=4)
    log.close()


class Layers(Strict):
    width: int = 1


class ToySettings(Strict):
    num_updates: int = 4
    layers: Layers = Layers()
    pause: float = 0.0


class ToyJob:
    """A pipeline of the toy stage; see `perlsim.train_command.Job`."""

    def __init__(self, settings, folder, console):
        self.settings, self.folder, self.console = settings, folder, console

    def train(self):
        pause = self.settings.pause

        class Slow(ToyStage):
            def validate(self, params):
                time.sleep(pause)
                return {}

        stage = Slow(num_updates=self.settings.num_updates)
        log = JsonLines(self.folder / "toy" / "log.jsonl")
        params = train_stage(
            stage,
            self.folder / "toy",
            log,
            seed=1,
            updates_per_call=3,
            checkpoint_every=4,
            console=self.console,
        )
        log.close()
        content = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
        (self.folder / "weights.bin").write_bytes(content)

    def examine(self, folder, console):
        results = {"policies": ["toy"]}
        folder.write("results.json", results)
        return results

    def finished(self, folder, results):
        assert (folder / "run.json").is_file()
        (folder / "page.html").write_text("")

    def show(self, results, console):
        console.print(results["policies"][0])


def command(configs: str, out: str, pause: str) -> None:
    """``perlsim train`` in a process of its own, so that it can be killed."""
    from perlsim.cli import Train
    from perlsim.train_command import Program, run

    args = Train(config="tiny", out=Path(out), set=(f"pause={pause}",))
    run(args, lambda: Program(ToySettings, Path(configs), ToyJob))


if __name__ == "__main__":
    if sys.argv[1] == "train":
        command(*sys.argv[2:])
    else:
        main(sys.argv[1], float(sys.argv[2]))
