"""Reactive prediction world model: the agents of a simulated scene respond to the ego."""
