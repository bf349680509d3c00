"""Prompts: what they are, where they come from without an expert, and how they are perturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.prompts.answers import QUESTION, Answerer, Endpoint, LocalVQA
    from segpref.prompts.checkpoints import pretrained
    from segpref.prompts.clip import ContrastiveModel, TransformersClip
    from segpref.prompts.crf import DenseCRF
    from segpref.prompts.descriptions import Descriptions
    from segpref.prompts.labels import ExpertPrompts, LabelPrompts
    from segpref.prompts.masks import (
        box_iou,
        box_of,
        jittered,
        largest_components,
        mask_logits,
        points_in,
    )
    from segpref.prompts.prepared import FixedPrompts, in_prepared
    from segpref.prompts.prompt import Box, Point, Prompt, Prompts, checked
    from segpref.prompts.promptable import (
        Answer,
        ParticularPrompter,
        PreparedPrompter,
        Promptable,
        PromptedModel,
        Prompter,
        prompted,
    )
    from segpref.prompts.saliency import GradCAM, GScoreCAM, Saliency
    from segpref.prompts.sources import SaliencyPrompts, Target, WholeImage, image_digest
    from segpref.prompts.store import KeptPrompts
    from segpref.prompts.symmetry import turned, turned_prompt
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "answers": ("Answerer", "Endpoint", "LocalVQA", "QUESTION"),
            "checkpoints": ("pretrained",),
            "clip": ("ContrastiveModel", "TransformersClip"),
            "crf": ("DenseCRF",),
            "descriptions": ("Descriptions",),
            "labels": ("ExpertPrompts", "LabelPrompts"),
            "masks": (
                "box_iou",
                "box_of",
                "jittered",
                "largest_components",
                "mask_logits",
                "points_in",
            ),
            "prepared": ("FixedPrompts", "in_prepared"),
            "prompt": ("Box", "Point", "Prompt", "Prompts", "checked"),
            "promptable": (
                "Answer",
                "ParticularPrompter",
                "PreparedPrompter",
                "Promptable",
                "PromptedModel",
                "Prompter",
                "prompted",
            ),
            "saliency": ("GScoreCAM", "GradCAM", "Saliency"),
            "sources": ("SaliencyPrompts", "Target", "WholeImage", "image_digest"),
            "store": ("KeptPrompts",),
            "symmetry": ("turned", "turned_prompt"),
        },
    )

__all__ = [
    "QUESTION",
    "Answer",
    "Answerer",
    "Box",
    "ContrastiveModel",
    "DenseCRF",
    "Descriptions",
    "Endpoint",
    "ExpertPrompts",
    "FixedPrompts",
    "GScoreCAM",
    "GradCAM",
    "KeptPrompts",
    "LabelPrompts",
    "LocalVQA",
    "ParticularPrompter",
    "Point",
    "PreparedPrompter",
    "Prompt",
    "Promptable",
    "PromptedModel",
    "Prompter",
    "Prompts",
    "Saliency",
    "SaliencyPrompts",
    "Target",
    "TransformersClip",
    "WholeImage",
    "box_iou",
    "box_of",
    "checked",
    "image_digest",
    "in_prepared",
    "jittered",
    "largest_components",
    "mask_logits",
    "points_in",
    "pretrained",
    "prompted",
    "turned",
    "turned_prompt",
]
