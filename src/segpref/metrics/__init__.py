"""Metrics of masks, and of judges on slates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.metrics.ambiguity import AmbiguityScores, ambiguity_scores, pairwise_overlap
    from segpref.metrics.diversity import pairwise_dice, pixel_variance
    from segpref.metrics.flips import (
        FlipBin,
        FlipCurves,
        disagreement_fractions,
        flip_curves,
        mined_flips,
    )
    from segpref.metrics.overlap import (
        Overlap,
        VolumeScores,
        dice,
        iou,
        overlap_counts,
        precision,
        sensitivity,
        slate_iou,
        volume_difference,
        volume_scores,
    )
    from segpref.metrics.slates import (
        NEAR_TIE,
        HarmfulMass,
        ScoreState,
        SlateDiagnostics,
        diagnose,
        harmful_update_mass,
        score_state,
    )
    from segpref.metrics.structures import (
        StructureFigures,
        StructureSlate,
        structure_figures,
        structure_slate,
    )
    from segpref.metrics.surface import (
        DistanceSummary,
        SurfaceDistances,
        average_surface_distance,
        element_distances,
        hausdorff,
        hausdorff_95,
        summarise_distances,
        surface_dice,
        surface_distances,
        surface_scores,
    )
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "ambiguity": ("AmbiguityScores", "ambiguity_scores", "pairwise_overlap"),
            "diversity": ("pairwise_dice", "pixel_variance"),
            "flips": (
                "FlipBin",
                "FlipCurves",
                "disagreement_fractions",
                "flip_curves",
                "mined_flips",
            ),
            "overlap": (
                "Overlap",
                "VolumeScores",
                "dice",
                "iou",
                "overlap_counts",
                "precision",
                "sensitivity",
                "slate_iou",
                "volume_difference",
                "volume_scores",
            ),
            "slates": (
                "HarmfulMass",
                "NEAR_TIE",
                "ScoreState",
                "SlateDiagnostics",
                "diagnose",
                "harmful_update_mass",
                "score_state",
            ),
            "structures": (
                "StructureFigures",
                "StructureSlate",
                "structure_figures",
                "structure_slate",
            ),
            "surface": (
                "DistanceSummary",
                "SurfaceDistances",
                "average_surface_distance",
                "element_distances",
                "hausdorff",
                "hausdorff_95",
                "summarise_distances",
                "surface_dice",
                "surface_distances",
                "surface_scores",
            ),
        },
    )

__all__ = [
    "NEAR_TIE",
    "AmbiguityScores",
    "DistanceSummary",
    "FlipBin",
    "FlipCurves",
    "HarmfulMass",
    "Overlap",
    "ScoreState",
    "SlateDiagnostics",
    "StructureFigures",
    "StructureSlate",
    "SurfaceDistances",
    "VolumeScores",
    "ambiguity_scores",
    "average_surface_distance",
    "diagnose",
    "dice",
    "disagreement_fractions",
    "element_distances",
    "flip_curves",
    "harmful_update_mass",
    "hausdorff",
    "hausdorff_95",
    "iou",
    "mined_flips",
    "overlap_counts",
    "pairwise_dice",
    "pairwise_overlap",
    "pixel_variance",
    "precision",
    "score_state",
    "sensitivity",
    "slate_iou",
    "structure_figures",
    "structure_slate",
    "summarise_distances",
    "surface_dice",
    "surface_distances",
    "surface_scores",
    "volume_difference",
    "volume_scores",
]
