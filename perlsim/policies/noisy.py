"""A policy that errs on purpose for stretches of time, so that logs of it show recoveries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from perlsim.policies import Policy
from perlsim.sim.types import Plan


class Stretch(NamedTuple):
    """What is added at present to each plan: m to the left, share of the speed; and to how many more plans."""

    aside: jax.Array
    faster: jax.Array
    left: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["policy", "aside", "faster"],
    meta_fields=["plans"],
)
@dataclass(frozen=True)
class NoisyPolicy:
    """Drives as a policy does, but shifts its plans aside and changes their speeds for stretches of time.

    Stretches with and without noise alternate; each lasts `plans` plans on average, half as long at least. In every
    stretch with noise both amounts are drawn anew, uniformly within their bounds. A policy that stands stays
    standing.

    Plans begin at the ego, so that what one of them leads astray the next does not take back at once: over a stretch
    the shifts of its plans add up.

    Attributes:
        policy: that is disturbed.
        aside: m, about the most that the ego is led to its left or right in a stretch.
        faster: most by which its speeds are raised or lowered, a share of them.
        plans: mean length of a stretch (static).
    """

    policy: Any
    aside: float
    faster: float
    plans: int = 5

    def __getattr__(self, name: str) -> Any:
        """What the policy says of itself: whether it is privileged, what it observes."""
        if name == "policy" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.policy, name)

    def init(self, scene, start, key) -> tuple[Any, Stretch]:
        """Without noise at first."""
        zero = jnp.float32(0.0)
        return self.policy.init(scene, start, key), Stretch(zero, zero, jnp.int32(self.plans))

    def act(self, carry, observation, key) -> tuple[tuple[Any, Stretch], Plan]:
        """The policy's plan, disturbed."""
        inner, stretch = carry
        inner, plan = self.policy.act(inner, observation, key)
        stretch = self._next(stretch, jax.random.fold_in(key, 1))
        return (inner, stretch), replace(
            plan,
            path=_shifted(plan.path, stretch.aside),
            target_speed=plan.target_speed * (1 + stretch.faster),
        )

    def _next(self, stretch: Stretch, key: jax.Array) -> Stretch:
        side, speed, length = jax.random.split(key, 3)
        was_quiet = (stretch.aside == 0) & (stretch.faster == 0)
        most = jnp.stack([jnp.asarray(self.aside) / self.plans, jnp.asarray(self.faster)]) * was_quiet
        aside, faster = jnp.stack([jax.random.uniform(k, (), minval=-1.0) for k in (side, speed)]) * most
        count = jax.random.randint(length, (), (self.plans + 1) // 2 - 1, self.plans + self.plans // 2)
        fresh = Stretch(aside, faster, count)
        going = stretch._replace(left=stretch.left - 1)
        return jax.tree.map(lambda new, old: jnp.where(stretch.left > 0, old, new), fresh, going)


def _shifted(path: jax.Array, aside: jax.Array) -> jax.Array:
    """A path ``[W, 2]`` with all its points moved to its left by ``aside`` m."""
    ahead = jnp.concatenate([path[1:] - path[:-1], path[-1:] - path[-2:-1]])
    ahead = ahead / jnp.maximum(jnp.linalg.norm(ahead, axis=1, keepdims=True), 1e-3)
    return path + aside * jnp.stack([-ahead[:, 1], ahead[:, 0]], 1)


def disturbed(
    policy: Policy, aside: float, faster: float, replan_every: int, seconds: float = 2.5
) -> NoisyPolicy:
    """A `NoisyPolicy` whose stretches last ``seconds`` on average where plans are ``replan_every`` × 0.1 s apart."""
    return NoisyPolicy(policy, aside, faster, max(round(seconds / (replan_every * 0.1)), 2))
