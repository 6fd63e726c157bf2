"""Metrics: pure functions of arrays and masks. What an input lacks makes a result NaN, never a silent 0 or 1."""
