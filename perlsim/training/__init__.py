"""Training of stages: the loop, checkpoints, run logs, exported models, configuration, several processes."""
