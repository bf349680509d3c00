"""Judges score every candidate of a slate; one class per kind of judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.judges.annotator import VirtualAnnotator, quartiles, rated
    from segpref.judges.committee import Committee, trust_weights
    from segpref.judges.diversity import DiversityJudge
    from segpref.judges.ensemble import EnsembleJudge
    from segpref.judges.masks import MasksJudge
    from segpref.judges.model import ModelJudge
    from segpref.judges.noisy import NoisyJudge
    from segpref.judges.oracle import OracleJudge
    from segpref.judges.raters import RatersJudge
    from segpref.judges.regressor import RegressorJudge, regressor_input
    from segpref.judges.undrawn_structures import (
        DrawingJudge,
        MaskBasedJudge,
        UndrawnStructures,
        note_undrawn_structures,
        silence_of,
    )
    from segpref.judges.whole_masks import (
        WholeMaskJudge,
        WholeScores,
        whole_iou,
        whole_mask_scores,
    )
    from segpref.judges.yaml_types import NamedJudge, NamedPredictor
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "annotator": ("VirtualAnnotator", "quartiles", "rated"),
            "committee": ("Committee", "trust_weights"),
            "diversity": ("DiversityJudge",),
            "ensemble": ("EnsembleJudge",),
            "masks": ("MasksJudge",),
            "model": ("ModelJudge",),
            "noisy": ("NoisyJudge",),
            "oracle": ("OracleJudge",),
            "raters": ("RatersJudge",),
            "regressor": ("RegressorJudge", "regressor_input"),
            "undrawn_structures": (
                "DrawingJudge",
                "MaskBasedJudge",
                "UndrawnStructures",
                "note_undrawn_structures",
                "silence_of",
            ),
            "whole_masks": ("WholeMaskJudge", "WholeScores", "whole_iou", "whole_mask_scores"),
            "yaml_types": ("NamedJudge", "NamedPredictor"),
        },
    )

__all__ = [
    "Committee",
    "DiversityJudge",
    "DrawingJudge",
    "EnsembleJudge",
    "MaskBasedJudge",
    "MasksJudge",
    "ModelJudge",
    "NamedJudge",
    "NamedPredictor",
    "NoisyJudge",
    "OracleJudge",
    "RatersJudge",
    "RegressorJudge",
    "UndrawnStructures",
    "VirtualAnnotator",
    "WholeMaskJudge",
    "WholeScores",
    "note_undrawn_structures",
    "quartiles",
    "rated",
    "regressor_input",
    "silence_of",
    "trust_weights",
    "whole_iou",
    "whole_mask_scores",
]
