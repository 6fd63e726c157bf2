"""perlsim: vector-space pseudo-simulation for closed-loop training of driving planners from offline logs.

Importing this package imports neither jax nor torch; the submodules that need jax import it themselves.
"""

__version__ = "0.1.0"
