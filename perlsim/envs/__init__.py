"""The simulator as environments for reinforcement learning.

`perlsim.envs.functional` is pure and vmappable; `perlsim.envs.vector` and
`perlsim.envs.single` put gymnasium's two interfaces over it.
"""
