"""Scores of models on prepared cases, and masks of new images in their own geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.inference.case_masks import predict_case
    from segpref.inference.evaluation import (
        mean_iou,
        mean_of,
        predict_masks,
        score_masks,
        score_model,
    )
    from segpref.inference.image_sampler import ImageSampler, open_image_sampler
    from segpref.inference.mask_formats import mask_format
    from segpref.inference.mask_samplers import (
        DropoutSampler,
        EnsembleSampler,
        LatentSampler,
    )
    from segpref.inference.mask_writing import write_map, write_mask
    from segpref.inference.network_export import export_network
    from segpref.inference.predict import predict_folder
    from segpref.inference.propagation import Propagation, propagate
    from segpref.inference.quality.calibration import Calibration, Rising, threshold
    from segpref.inference.quality.config import QualityConfig
    from segpref.inference.quality.disagreement import (
        SelfAssessment,
        confidence_of,
        pairwise_disagreement,
    )
    from segpref.inference.quality.images import ImageReference, figures_of
    from segpref.inference.quality.measuring import MaskFigures, VolumeFigures
    from segpref.inference.quality.ranking import RankedMask, image_order, ranked, worst_images
    from segpref.inference.quality.reference import LabelledImages, QualityReference
    from segpref.inference.quality.shapes import Shape, shape_of, spreads_of, z_scores
    from segpref.inference.samples import rated_masks, sample_cases, score_samples, summarise
    from segpref.inference.segment_table import segments_of
    from segpref.inference.sliding import WindowedNetwork
    from segpref.inference.user_prompts import read_prompts
    from segpref.inference.windows import PaddedImages, WholeImages, whole_images
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "propagation": (
                "Propagation",
                "propagate",
            ),
            "case_masks": ("predict_case",),
            "evaluation": ("mean_iou", "mean_of", "predict_masks", "score_masks", "score_model"),
            "image_sampler": ("ImageSampler", "open_image_sampler"),
            "mask_formats": ("mask_format",),
            "mask_samplers": ("DropoutSampler", "EnsembleSampler", "LatentSampler"),
            "mask_writing": ("write_map", "write_mask"),
            "network_export": ("export_network",),
            "predict": ("predict_folder",),
            "quality.calibration": ("Calibration", "Rising", "threshold"),
            "quality.config": ("QualityConfig",),
            "quality.disagreement": ("SelfAssessment", "confidence_of", "pairwise_disagreement"),
            "quality.images": ("ImageReference", "figures_of"),
            "quality.measuring": ("MaskFigures", "VolumeFigures"),
            "quality.ranking": ("RankedMask", "image_order", "ranked", "worst_images"),
            "quality.reference": ("LabelledImages", "QualityReference"),
            "quality.shapes": ("Shape", "shape_of", "spreads_of", "z_scores"),
            "samples": ("rated_masks", "sample_cases", "score_samples", "summarise"),
            "segment_table": ("segments_of",),
            "sliding": ("WindowedNetwork",),
            "user_prompts": ("read_prompts",),
            "windows": ("PaddedImages", "WholeImages", "whole_images"),
        },
    )

__all__ = [
    "Calibration",
    "DropoutSampler",
    "EnsembleSampler",
    "ImageReference",
    "ImageSampler",
    "LabelledImages",
    "LatentSampler",
    "MaskFigures",
    "PaddedImages",
    "Propagation",
    "QualityConfig",
    "QualityReference",
    "RankedMask",
    "Rising",
    "SelfAssessment",
    "Shape",
    "VolumeFigures",
    "WholeImages",
    "WindowedNetwork",
    "confidence_of",
    "export_network",
    "figures_of",
    "image_order",
    "mask_format",
    "mean_iou",
    "mean_of",
    "open_image_sampler",
    "pairwise_disagreement",
    "predict_case",
    "predict_folder",
    "predict_masks",
    "propagate",
    "ranked",
    "rated_masks",
    "read_prompts",
    "sample_cases",
    "score_masks",
    "score_model",
    "score_samples",
    "segments_of",
    "shape_of",
    "spreads_of",
    "summarise",
    "threshold",
    "whole_images",
    "worst_images",
    "write_map",
    "write_mask",
    "z_scores",
]
