"""Margins of pairs of masks, and losses on them: pure functions of a few lines."""

from __future__ import annotations

from segpref.objectives.best_only import BestOnly
from segpref.objectives.calibrated import CalibratedDPO
from segpref.objectives.diffusion import diffusion_margins
from segpref.objectives.focal_dice import FocalDiceLoss
from segpref.objectives.groups import grouped
from segpref.objectives.likelihood import (
    Disagreement,
    Reduction,
    disagreement,
    log_ratio_map,
    log_ratio_sums,
    margins,
    reduce_margin,
)
from segpref.objectives.mask_likelihood import log_likelihood, winner_log_likelihood
from segpref.objectives.pairwise import (
    DPO,
    IPO,
    RobustDPO,
    update_strength,
)
from segpref.objectives.supervised import SupervisedLoss

__all__ = [
    "DPO",
    "IPO",
    "BestOnly",
    "CalibratedDPO",
    "Disagreement",
    "FocalDiceLoss",
    "Reduction",
    "RobustDPO",
    "SupervisedLoss",
    "diffusion_margins",
    "disagreement",
    "grouped",
    "log_likelihood",
    "log_ratio_map",
    "log_ratio_sums",
    "margins",
    "reduce_margin",
    "update_strength",
    "winner_log_likelihood",
]
