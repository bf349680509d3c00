"""Promptable policies: SAM, MedSAM and SAM 2 of transformers (extra ``[promptable]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face
from segpref.policies.promptable.guided import guided

if TYPE_CHECKING:
    from segpref.policies.promptable.adapters import PARTS, Lora, Part, part_of, set_trainable
    from segpref.policies.promptable.checkpoints import (
        load_promptable,
        load_sam,
        promptable_card,
        save_sam,
    )
    from segpref.policies.promptable.embeddings import ImageEmbeddings
    from segpref.policies.promptable.frame import IMAGENET_MEAN, IMAGENET_STD, Fit, Frame, coloured
    from segpref.policies.promptable.guided import GuidedPolicy
    from segpref.policies.promptable.network import Family, PromptableNetwork
    from segpref.policies.promptable.policy import PromptablePolicy, PromptableState
    from segpref.policies.promptable.small import small_sam
    from segpref.policies.promptable.texts import SentenceEncoder
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "adapters": ("Lora", "PARTS", "Part", "part_of", "set_trainable"),
            "checkpoints": ("load_promptable", "load_sam", "promptable_card", "save_sam"),
            "embeddings": ("ImageEmbeddings",),
            "frame": ("Fit", "Frame", "IMAGENET_MEAN", "IMAGENET_STD", "coloured"),
            "guided": ("GuidedPolicy",),
            "network": ("Family", "PromptableNetwork"),
            "policy": ("PromptablePolicy", "PromptableState"),
            "small": ("small_sam",),
            "texts": ("SentenceEncoder",),
        },
    )

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PARTS",
    "Family",
    "Fit",
    "Frame",
    "GuidedPolicy",
    "ImageEmbeddings",
    "Lora",
    "Part",
    "PromptableNetwork",
    "PromptablePolicy",
    "PromptableState",
    "SentenceEncoder",
    "coloured",
    "guided",
    "load_promptable",
    "load_sam",
    "part_of",
    "promptable_card",
    "save_sam",
    "set_trainable",
    "small_sam",
]
