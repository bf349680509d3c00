"""Rows of the study's tables: their names and score files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segpref.studies.prompted.recipe import PromptedRecipe, Prompts
from segpref.studies.prompted.workspace import UNET, PromptedWorkspace
from segpref.training.feedback import FeedbackKind

__all__ = [
    "FLIPPED",
    "KINDS",
    "MORE",
    "RANDOM",
    "UNET",
    "aligned_row",
    "asked_prompts",
    "asks_clip",
    "measured_boxes",
    "row_file",
    "untuned_row",
]

MORE: Literal["more labels"] = "more labels"
KINDS: tuple[FeedbackKind, ...] = ("best-only", "rating", "ranking")
FLIPPED: tuple[FeedbackKind, ...] = ("rating", "ranking")
"""Feedback that is flipped on purpose."""
RANDOM = 0.5
"""Reversed so often, feedback says nothing."""


def asks_clip(prompts: str) -> bool:
    """Whether prompts are made with the stand-in for CLIP."""
    return prompts not in ("U-Net box", "none", "expert", "expert box")


def measured_boxes(recipe: PromptedRecipe) -> Prompts:
    """The prompts whose boxes are set beside the structure: those that are aligned, or a CLIP's."""
    first = recipe.prompts[0]
    return first if first in ("box", "U-Net box") else "box and points"


def asked_prompts(recipe: PromptedRecipe) -> tuple[Prompts, ...]:
    """All ways in which the study asks; some may come twice."""
    return (*recipe.prompts, *recipe.untuned, measured_boxes(recipe))


def untuned_row(prompts: Prompts) -> str:
    """Name of a row: the model that all begin with as it is, asked in this way."""
    return f"{prompts}, not tuned"


def row_file(workspace: PromptedWorkspace, fold: int, row: str) -> Path:
    """Scores of a row of a table on the images that the fold tests on."""
    return workspace.folder(fold) / row / "test.csv"


def aligned_row(
    share: float, kind: FeedbackKind, reduction: str, flips: float = 0.0, reversals: float = 0.0
) -> str:
    """Name of a row: how much is unlabelled, what is said, and how it is reduced."""
    noise = f", {flips:.0%} flipped" if flips else ""
    noise += f", {reversals:.0%} reversed" if reversals else ""
    return f"+ {share:.0%}, {kind}, {reduction}{noise}"
