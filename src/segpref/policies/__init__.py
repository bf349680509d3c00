"""Policies: the models that are fine-tuned, and their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.policies.atomic_writes import atomic_folder
    from segpref.policies.bundle import read_bundle, write_bundle
    from segpref.policies.bundle_transforms import settings_of
    from segpref.policies.capabilities import OwnPrediction, OwnValidation
    from segpref.policies.card_format import FORMAT, current
    from segpref.policies.checkpoints import (
        ModelCard,
        NetworkSpec,
        load_model,
        load_segmenter,
        read_card,
        save_model,
    )
    from segpref.policies.latent import LatentMargins, LatentSegmenter
    from segpref.policies.loading import load_policy
    from segpref.policies.mask_sampler import MaskSampler, draws_masks
    from segpref.policies.model_formats import OpenModel, holds_model, open_model
    from segpref.policies.plain_weights import PlainModel, read_plain, write_plain
    from segpref.policies.segmenter import Segmenter, SegmenterState
    from segpref.policies.tunable import PolicySpec, TunablePolicy
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "atomic_writes": ("atomic_folder",),
            "bundle": ("read_bundle", "write_bundle"),
            "bundle_transforms": ("settings_of",),
            "capabilities": ("OwnPrediction", "OwnValidation"),
            "card_format": ("FORMAT", "current"),
            "checkpoints": (
                "ModelCard",
                "NetworkSpec",
                "load_model",
                "load_segmenter",
                "read_card",
                "save_model",
            ),
            "latent": ("LatentMargins", "LatentSegmenter"),
            "loading": ("load_policy",),
            "mask_sampler": ("MaskSampler", "draws_masks"),
            "model_formats": ("OpenModel", "holds_model", "open_model"),
            "plain_weights": ("PlainModel", "read_plain", "write_plain"),
            "segmenter": ("Segmenter", "SegmenterState"),
            "tunable": ("PolicySpec", "TunablePolicy"),
        },
    )

__all__ = [
    "FORMAT",
    "LatentMargins",
    "LatentSegmenter",
    "MaskSampler",
    "ModelCard",
    "NetworkSpec",
    "OpenModel",
    "OwnPrediction",
    "OwnValidation",
    "PlainModel",
    "PolicySpec",
    "Segmenter",
    "SegmenterState",
    "TunablePolicy",
    "atomic_folder",
    "current",
    "draws_masks",
    "holds_model",
    "load_model",
    "load_policy",
    "load_segmenter",
    "open_model",
    "read_bundle",
    "read_card",
    "read_plain",
    "save_model",
    "settings_of",
    "write_bundle",
    "write_plain",
]
