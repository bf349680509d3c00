"""Margins of pairs of masks, and losses on them: pure functions of a few lines."""

from __future__ import annotations

from segpref.objectives.likelihood import (
    Disagreement,
    Reduction,
    disagreement,
    log_likelihood,
    log_ratio_map,
    log_ratio_sums,
    margins,
    reduce_margin,
)
from segpref.objectives.pairwise import (
    DPO,
    IPO,
    ConservativeDPO,
    Hinge,
    RobustDPO,
    update_strength,
)
from segpref.objectives.supervised import SupervisedLoss

__all__ = [
    "DPO",
    "IPO",
    "ConservativeDPO",
    "Disagreement",
    "Hinge",
    "Reduction",
    "RobustDPO",
    "SupervisedLoss",
    "disagreement",
    "log_likelihood",
    "log_ratio_map",
    "log_ratio_sums",
    "margins",
    "reduce_margin",
    "update_strength",
]
