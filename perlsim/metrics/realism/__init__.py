"""Realism of agent models in the manner of the Waymo Open Sim Agents Challenge; see `docs/scores.md`."""

from perlsim.metrics.realism.measure import realism, realism_of
from perlsim.metrics.realism.score import Realism, SceneRealism
from perlsim.metrics.realism.settings import CHALLENGE_2024, CHALLENGE_2025, Feature, RealismSettings

__all__ = [
    "CHALLENGE_2024",
    "CHALLENGE_2025",
    "Feature",
    "Realism",
    "RealismSettings",
    "SceneRealism",
    "realism",
    "realism_of",
]
