"""Promptable policies: SAM and its kin of transformers, and LiteMedSAM (extra ``[promptable]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face
from segpref.policies.promptable.guided import guided

if TYPE_CHECKING:
    from segpref.policies.promptable.adapters import PARTS, Lora, Part, part_of, set_trainable
    from segpref.policies.promptable.checkpoints import (
        as_promptable,
        load_promptable,
        load_sam,
        promptable_card,
        save_sam,
    )
    from segpref.policies.promptable.embeddings import ImageEmbeddings
    from segpref.policies.promptable.frame import IMAGENET_MEAN, IMAGENET_STD, Fit, Frame, coloured
    from segpref.policies.promptable.guided import GuidedPolicy
    from segpref.policies.promptable.lite_medsam import (
        lite_medsam_in,
        load_lite_medsam,
        network_of,
        save_lite_medsam,
        write_like,
    )
    from segpref.policies.promptable.network import Family, PromptableNetwork
    from segpref.policies.promptable.policy import PromptablePolicy, PromptableState
    from segpref.policies.promptable.segmenter_prompts import SegmenterPrompts
    from segpref.policies.promptable.small import small_sam
    from segpref.policies.promptable.texts import SentenceEncoder
    from segpref.policies.promptable.tiny_vit import TinyViT, WindowAttention, WindowBlock
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "adapters": ("Lora", "PARTS", "Part", "part_of", "set_trainable"),
            "checkpoints": (
                "as_promptable",
                "load_promptable",
                "load_sam",
                "promptable_card",
                "save_sam",
            ),
            "embeddings": ("ImageEmbeddings",),
            "frame": ("Fit", "Frame", "IMAGENET_MEAN", "IMAGENET_STD", "coloured"),
            "guided": ("GuidedPolicy",),
            "lite_medsam": (
                "lite_medsam_in",
                "load_lite_medsam",
                "network_of",
                "save_lite_medsam",
                "write_like",
            ),
            "network": ("Family", "PromptableNetwork"),
            "policy": ("PromptablePolicy", "PromptableState"),
            "segmenter_prompts": ("SegmenterPrompts",),
            "small": ("small_sam",),
            "texts": ("SentenceEncoder",),
            "tiny_vit": ("TinyViT", "WindowAttention", "WindowBlock"),
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
    "SegmenterPrompts",
    "SentenceEncoder",
    "TinyViT",
    "WindowAttention",
    "WindowBlock",
    "as_promptable",
    "coloured",
    "guided",
    "lite_medsam_in",
    "load_lite_medsam",
    "load_promptable",
    "load_sam",
    "network_of",
    "part_of",
    "promptable_card",
    "save_lite_medsam",
    "save_sam",
    "set_trainable",
    "small_sam",
    "write_like",
]
