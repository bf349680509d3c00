"""Policies: the models that are fine-tuned, and their files."""

from segpref.policies.capabilities import OwnPrediction, OwnValidation
from segpref.policies.checkpoints import (
    ModelCard,
    NetworkSpec,
    load_model,
    load_segmenter,
    read_card,
    save_model,
)
from segpref.policies.loading import load_policy
from segpref.policies.segmenter import Segmenter, SegmenterState
from segpref.policies.tunable import PolicySpec, TunablePolicy

__all__ = [
    "ModelCard",
    "NetworkSpec",
    "OwnPrediction",
    "OwnValidation",
    "PolicySpec",
    "Segmenter",
    "SegmenterState",
    "TunablePolicy",
    "load_model",
    "load_policy",
    "load_segmenter",
    "read_card",
    "save_model",
]
