"""How to keep XLA from fusing everything into one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def apart(once: jax.Array, function: Callable[[], Any]) -> Any:
    """The result of ``function()``, computed in kernels of its own.

    XLA's CPU compiler fuses reductions into whatever uses them, and the loops that come of it no longer run on
    vectors: a step of the simulator is 5 to 10 times slower in one kernel than in twenty. Barriers that the
    compiler offers are removed before it fuses; a loop whose length it does not know is not. Other backends fuse
    well, and would pay for the loop: there this is a plain call.

    Args:
        once: int32, 1, not batched, and not a constant of the program.
        function: of no differentiable argument; closes over what it needs.
    """
    if jax.default_backend() != "cpu":
        return function()
    shapes = jax.eval_shape(function)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.fori_loop(0, once, lambda _, __: function(), empty)
