"""PDMS and EPDMS of candidate trajectories, batched on the device.

`score_candidates` scores the candidates of one scene and is pure; `PdmScorer` compiles it for many scenes, and
`as_reward` gives it to trainers as a reward.
"""

from perlsim.metrics.pdm.score import every_step, extended_total, score_candidates
from perlsim.metrics.pdm.scorer import HISTORY_STEPS, PdmScorer, as_reward
from perlsim.metrics.pdm.types import HORIZON, PdmConfig, PdmScore, Previous, SubScore

__all__ = [
    "HISTORY_STEPS",
    "HORIZON",
    "PdmConfig",
    "PdmScore",
    "PdmScorer",
    "Previous",
    "SubScore",
    "as_reward",
    "every_step",
    "extended_total",
    "score_candidates",
]
