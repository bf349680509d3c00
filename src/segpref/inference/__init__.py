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
    from segpref.inference.mask_writing import write_map, write_mask
    from segpref.inference.network_export import export_network
    from segpref.inference.predict import predict_folder
    from segpref.inference.propagation import Propagation, propagate
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
            "mask_writing": ("write_map", "write_mask"),
            "network_export": ("export_network",),
            "predict": ("predict_folder",),
            "samples": ("rated_masks", "sample_cases", "score_samples", "summarise"),
            "segment_table": ("segments_of",),
            "sliding": ("WindowedNetwork",),
            "user_prompts": ("read_prompts",),
            "windows": ("PaddedImages", "WholeImages", "whole_images"),
        },
    )

__all__ = [
    "ImageSampler",
    "PaddedImages",
    "Propagation",
    "WholeImages",
    "WindowedNetwork",
    "export_network",
    "mask_format",
    "mean_iou",
    "mean_of",
    "open_image_sampler",
    "predict_case",
    "predict_folder",
    "predict_masks",
    "propagate",
    "rated_masks",
    "read_prompts",
    "sample_cases",
    "score_masks",
    "score_model",
    "score_samples",
    "segments_of",
    "summarise",
    "whole_images",
    "write_map",
    "write_mask",
]
