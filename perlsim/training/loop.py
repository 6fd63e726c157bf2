"""The training loop: runs a `Stage` on all devices of all processes, and goes on where a killed one was.

Which samples an update takes is a function of its number alone, so that a checkpoint needs no more than
parameters, optimiser and that number.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from rich.console import Console

from perlsim import backend
from perlsim.errors import PerlsimError
from perlsim.training.checkpoints import Checkpoints, by_name
from perlsim.training.distributed import wait_for_all
from perlsim.training.progress import Progress
from perlsim.training.run_log import RunLog
from perlsim.training.stage import Stage

AXIS = "samples"
CHECKPOINTS = "checkpoints"


class TrainState(NamedTuple):
    """What training changes: trainable parameters, and the optimiser's memory."""

    params: Any
    optimiser: Any


class _Loop(NamedTuple):
    """Carry of the updates of one call: metrics are summed, and the first fault ends them."""

    update: jax.Array
    state: TrainState
    sums: dict[str, jax.Array]
    finite: dict[str, jax.Array]


def train_stage(
    stage: Stage,
    folder: Path,
    log: RunLog,
    *,
    seed: int,
    updates_per_call: int = 50,
    checkpoint_every: int = 500,
    console: Console | None = None,
) -> Any:
    """Trains a stage to its end, from its newest checkpoint if there is one.

    Args:
        stage: what to train.
        folder: of the stage; checkpoints go into its folder ``checkpoints``.
        log: of figures.
        seed: of the initial parameters.
        updates_per_call: updates between two looks of the host.
        checkpoint_every: updates between checkpoints; validation happens there.
        console: for progress; None is silent.

    Returns:
        Parameters (numpy): of the checkpoint whose figure ``score`` of `Stage.validate` is highest, or of the
        last where validation gives none.

    Raises:
        PerlsimError: a number that is not finite (named), a batch that the devices cannot share, damaged
            checkpoints only.
    """
    mesh = _mesh(stage.batch_size)
    checkpoints = Checkpoints(Path(folder) / CHECKPOINTS)
    # As numpy, so that no weak type and no leftover of the making tells a fresh state from a restored one.
    params = jax.tree.map(np.asarray, stage.init(jax.random.key(seed)))
    state = TrainState(params, jax.tree.map(np.asarray, stage.optimiser.init(params)))
    with Progress(console, stage.name, stage.num_updates, stage.batch_size) as progress:
        restored = checkpoints.restore(state)
        begin = 0
        if restored is not None:
            state, begin = restored.tree, restored.update
            for problem in restored.problems:
                progress.say(f"damaged checkpoint passed over: {problem}")
            progress.say(f"goes on after update {begin} of {stage.num_updates}")
        if begin < stage.num_updates:
            log.rewind(begin)
            calls = _Calls(stage, mesh, updates_per_call, checkpoint_every)
            _train(calls, checkpoints, state, begin, log, progress)
        best = checkpoints.restore(state, best=True)
        if best is None:
            raise PerlsimError(f"{stage.name} has no updates to do", field="num_updates")
        for problem in best.problems:
            progress.say(f"damaged checkpoint passed over: {problem}")
    return best.tree.params


class _Calls:
    """The compiled updates of a stage, and when the host looks at them."""

    def __init__(self, stage: Stage, mesh: Mesh, updates_per_call: int, checkpoint_every: int):
        self.stage, self.updates_per_call, self.checkpoint_every = stage, updates_per_call, checkpoint_every
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        options = backend.compiler_options(mesh.devices.flat[0].platform)
        self.run = jax.jit(partial(_updates, stage, mesh), donate_argnums=0, compiler_options=options)

    def end_of_call(self, update: int) -> int:
        """Update at which a call that begins at one ends: at checkpoints, and at the end of the stage."""
        checkpoint = (update // self.checkpoint_every + 1) * self.checkpoint_every
        return min(update + self.updates_per_call, checkpoint, self.stage.num_updates)


def _train(
    calls: _Calls, checkpoints: Checkpoints, state: Any, begin: int, log: RunLog, progress: Progress
) -> None:
    """Updates from one number to the end."""
    stage = calls.stage
    state = _put(state, calls.everywhere)
    data = _put(stage.data(), calls.everywhere)
    update = begin
    while update < stage.num_updates:
        last = calls.end_of_call(update)
        done, state, sums, finite = calls.run(state, data, np.int32(update), np.int32(last))
        _check(stage.name, int(done), {name: bool(value) for name, value in finite.items()})
        figures = {name: float(value) / (last - update) for name, value in sums.items()}
        update = last
        figures |= progress.show(update, figures)
        if update % calls.checkpoint_every and update < stage.num_updates:
            log.write(update, figures)
            continue
        paused = time.monotonic()
        host = jax.tree.map(np.asarray, state)
        validation = {name: float(value) for name, value in stage.validate(host.params).items()}
        # Before the checkpoint: who goes on from it finds this line and forgets those after it.
        log.write(update, figures | {f"validation/{name}": value for name, value in validation.items()})
        if jax.process_index() == 0:
            checkpoints.save(update, host, validation)
        wait_for_all(f"{stage.name} {update}")
        progress.paused(time.monotonic() - paused)


def _updates(stage: Stage, mesh: Mesh, state: TrainState, data: Any, first: jax.Array, last: jax.Array):
    """Updates ``first`` to ``last`` (exclusive), one program for any number of them.

    Returns:
        Number of updates begun, state, sums of the metrics, and which of the last update's numbers are finite.
    """
    share = stage.batch_size // mesh.size

    def on_device(state, data, first, last):
        own = lax.axis_index(AXIS) * share + jnp.arange(share, dtype=jnp.int32)

        def one(state: TrainState, update: jax.Array):
            samples = update * stage.batch_size + own
            gradient = jax.value_and_grad(stage.loss, has_aux=True)
            (loss, metrics), grads = gradient(state.params, data, samples, update)
            (loss, metrics), grads = lax.pmean(((loss, metrics), grads), AXIS)
            changes, optimiser = stage.optimiser.update(grads, state.optimiser, state.params)
            params = optax.apply_updates(state.params, changes)
            metrics = {"loss": loss, **metrics, "gradient_norm": optax.tree.norm(grads)}
            named = {f"metric {name}": value for name, value in metrics.items()}
            named |= {f"gradient of {name}": leaf for name, leaf in by_name(grads).items()}
            named |= {f"parameter {name}": leaf for name, leaf in by_name(params).items()}
            finite = {name: jnp.isfinite(value).all() for name, value in named.items()}
            metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
            return TrainState(params, optimiser), metrics, finite

        _, metrics, finite = jax.eval_shape(one, state, first)
        begin = _Loop(
            first,
            state,
            {name: jnp.float32(0.0) for name in metrics},
            {name: jnp.bool_(True) for name in finite},
        )

        def goes_on(loop: _Loop):
            return (loop.update < last) & jnp.stack(list(loop.finite.values())).all()

        def body(loop: _Loop):
            state, metrics, finite = one(loop.state, loop.update)
            sums = {name: loop.sums[name] + value for name, value in metrics.items()}
            return _Loop(loop.update + 1, state, sums, finite)

        return tuple(lax.while_loop(goes_on, body, begin))

    everywhere = PartitionSpec()
    return jax.shard_map(on_device, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)(
        state, data, first, last
    )


def _check(name: str, done: int, finite: dict[str, bool]) -> None:
    """Raises `PerlsimError` where a number of the last update is not finite."""
    # The cause first: a loss that is not finite spoils all gradients, and they all parameters.
    order = ("metric loss", "metric", "gradient", "parameter")
    bad = [what for what, good in finite.items() if not good]
    bad.sort(key=lambda what: next(place for place, start in enumerate(order) if what.startswith(start)))
    if not bad:
        return
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    raise PerlsimError(
        f"not finite in update {done - 1} of {name}: {', '.join(bad[:3])}{more}",
        remedy="the last checkpoint is from before; lower the learning rate, or look at the samples of this update",
    )


def _mesh(batch_size: int) -> Mesh:
    """All devices; of one process only as many as share a batch evenly."""
    devices = jax.devices()
    if batch_size % len(devices):
        if jax.process_count() > 1:
            raise PerlsimError(
                f"a batch of {batch_size} samples cannot be shared evenly by {len(devices)} devices",
                field="batch_size",
                remedy=f"take a multiple of {len(devices)}",
            )
        devices = devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _put(tree: Any, everywhere: NamedSharding) -> Any:
    """A copy of a pytree on every device."""
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)

    def put(leaf: Any) -> jax.Array:
        # Only what the host holds can be sent to devices of other processes, and random keys are no such thing.
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return jax.device_put(np.asarray(leaf), everywhere)

    return jax.tree.map(put, tree)
