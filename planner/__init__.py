"""Hierarchical planner: lateral path by imitation, longitudinal speed by reinforcement."""
