"""Bench2Drive's numbers, recomputed from the infractions in Leaderboard result files.

Per route: score = completion [%] × product of penalties. Over the given routes: driving score, success rate,
efficiency, comfort and the five abilities (`score`). Source: the benchmark's paper (Jia et al., NeurIPS 2024)
and its public evaluation; `perlsim.metrics.comfort` lists where that evaluation departs from its own words.
"""

from perlsim.metrics.bench2drive.abilities import ABILITIES, Ability, Attempt, abilities, passed_junction
from perlsim.metrics.bench2drive.drives import read_motion
from perlsim.metrics.bench2drive.records import PENALTIES, ResultFile, RouteRecord, read_results
from perlsim.metrics.bench2drive.scores import Drive, Duplicate, Gathered, Scores, gather, score

__all__ = [
    "ABILITIES",
    "PENALTIES",
    "Ability",
    "Attempt",
    "Drive",
    "Duplicate",
    "Gathered",
    "ResultFile",
    "RouteRecord",
    "Scores",
    "abilities",
    "gather",
    "passed_junction",
    "read_motion",
    "read_results",
    "score",
]
