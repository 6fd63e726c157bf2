"""Geometry on the host (numpy, shapely) and on the device (jax)."""
