"""Margins of pairs of masks, and losses on them: pure functions of a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.objectives.best_only import BestOnly
    from segpref.objectives.calibrated import CalibratedDPO
    from segpref.objectives.diffusion import (
        denoising_log_ratio,
        diffusion_margins,
        margin_scale,
        reduce_map,
        safe_scale,
    )
    from segpref.objectives.elbo import negative_elbo
    from segpref.objectives.focal_dice import FocalDiceLoss, quality_loss
    from segpref.objectives.groups import grouped
    from segpref.objectives.joint import JointLikelihood, joint_margins
    from segpref.objectives.kto import KTO
    from segpref.objectives.likelihood import (
        Disagreement,
        Reduction,
        disagreement,
        log_ratio_map,
        log_ratio_sums,
        margins,
        reduce_margin,
    )
    from segpref.objectives.mask_likelihood import (
        log_likelihood,
        whole_log_likelihood,
        winner_log_likelihood,
    )
    from segpref.objectives.pairwise import DPO, IPO, RobustDPO, update_strength
    from segpref.objectives.soft_targets import both_orders
    from segpref.objectives.step import step_objective
    from segpref.objectives.supervised import OneHotLoss, SupervisedLoss
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "best_only": ("BestOnly",),
            "calibrated": ("CalibratedDPO",),
            "diffusion": (
                "denoising_log_ratio",
                "diffusion_margins",
                "margin_scale",
                "reduce_map",
                "safe_scale",
            ),
            "elbo": ("negative_elbo",),
            "focal_dice": ("FocalDiceLoss", "quality_loss"),
            "groups": ("grouped",),
            "joint": ("JointLikelihood", "joint_margins"),
            "kto": ("KTO",),
            "likelihood": (
                "Disagreement",
                "Reduction",
                "disagreement",
                "log_ratio_map",
                "log_ratio_sums",
                "margins",
                "reduce_margin",
            ),
            "mask_likelihood": (
                "log_likelihood",
                "whole_log_likelihood",
                "winner_log_likelihood",
            ),
            "pairwise": ("DPO", "IPO", "RobustDPO", "update_strength"),
            "soft_targets": ("both_orders",),
            "step": ("step_objective",),
            "supervised": ("OneHotLoss", "SupervisedLoss"),
        },
    )

__all__ = [
    "DPO",
    "IPO",
    "KTO",
    "BestOnly",
    "CalibratedDPO",
    "Disagreement",
    "FocalDiceLoss",
    "JointLikelihood",
    "OneHotLoss",
    "Reduction",
    "RobustDPO",
    "SupervisedLoss",
    "both_orders",
    "denoising_log_ratio",
    "diffusion_margins",
    "disagreement",
    "grouped",
    "joint_margins",
    "log_likelihood",
    "log_ratio_map",
    "log_ratio_sums",
    "margin_scale",
    "margins",
    "negative_elbo",
    "quality_loss",
    "reduce_map",
    "reduce_margin",
    "safe_scale",
    "step_objective",
    "update_strength",
    "whole_log_likelihood",
    "winner_log_likelihood",
]
