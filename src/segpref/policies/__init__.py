"""Policies: the models that are fine-tuned, and their files."""

from segpref.policies.checkpoints import (
    ModelCard,
    NetworkSpec,
    load_model,
    load_segmenter,
    read_card,
    save_model,
)
from segpref.policies.segmenter import Segmenter, SegmenterState

__all__ = [
    "ModelCard",
    "NetworkSpec",
    "Segmenter",
    "SegmenterState",
    "load_model",
    "load_segmenter",
    "read_card",
    "save_model",
]
