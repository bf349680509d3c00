"""Promptable policies: SAM, MedSAM and SAM 2 of transformers (extra ``[promptable]``)."""

from __future__ import annotations

from segpref.policies.promptable.adapters import PARTS, Lora, Part, part_of, set_trainable
from segpref.policies.promptable.checkpoints import (
    load_promptable,
    load_sam,
    promptable_card,
    save_sam,
)
from segpref.policies.promptable.embeddings import ImageEmbeddings
from segpref.policies.promptable.frame import Fit, Frame
from segpref.policies.promptable.guided import GuidedPolicy, guided
from segpref.policies.promptable.network import Family, PromptableNetwork
from segpref.policies.promptable.policy import PromptablePolicy, PromptableState
from segpref.policies.promptable.small import small_sam
from segpref.policies.promptable.texts import SentenceEncoder

__all__ = [
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
    "guided",
    "load_promptable",
    "load_sam",
    "part_of",
    "promptable_card",
    "save_sam",
    "set_trainable",
    "small_sam",
]
