"""The simulator: pure functions of one scene that callers vmap, and rollouts of thousands of them."""
