"""Bridge from the simulator and planner to Vision-Language-Action models."""
