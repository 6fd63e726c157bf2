"""PerlAD's two curricula as functions of the update (FACTS §1).

LLA (lateral–longitudinal alignment): in the first two thirds the speed head sees the logged path, then the predicted.
RTS (reactive training simulation): in the first two thirds road users repeat the log, then more and more of them react.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Curricula:
    """What is on, and when.

    Attributes:
        align: LLA; without it the speed head sees the logged path all the time, and losses of the path's choice are
            not weighted.
        react: RTS; without it road users repeat the log all the time.
        turn: share of the training after which they change.
        reactive_share: share of the scenes with reacting road users at the end; PerlAD's gain saturates near ⅔.
    """

    align: bool = True
    react: bool = False
    turn: float = 2.0 / 3.0
    reactive_share: float = 2.0 / 3.0

    def aligned(self, update: jax.Array, num_updates: int) -> jax.Array:
        """Whether the speed head sees the predicted path: bool."""
        return jnp.bool_(self.align) & (jnp.asarray(update, jnp.float32) >= self.turn * num_updates)

    def reactive(self, update: jax.Array, num_updates: int) -> jax.Array:
        """Share of the scenes with reacting road users: 0 until the turn, then rising evenly to the end."""
        if not self.react:
            return jnp.float32(0.0)
        begin = self.turn * num_updates
        done = (jnp.asarray(update, jnp.float32) - begin) / max(num_updates - 1 - begin, 1.0)
        return self.reactive_share * jnp.clip(done, 0.0, 1.0)


def path_weight(reward: jax.Array, scale: float, least: float) -> jax.Array:
    """LLA's weight of the loss of the path's choice: high where the path is driven well.

    PerlAD clips the rewards without saying how; here (S) a reward of 0 or more counts in full, ``scale`` below it the
    loss counts ``least``, evenly between.

    Args:
        reward: expected return of plans on the path.
        scale: of rewards.
        least: in [0, 1].
    """
    return jnp.clip(1.0 + reward / scale, least, 1.0)
