"""Two CPU devices for the tests of the simulator, set up before the first use of jax."""

from perlsim import backend

backend.setup(2)
