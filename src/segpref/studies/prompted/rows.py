"""Rows of the study's tables: their names and score files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segpref.studies.prompted.workspace import PromptedWorkspace, Prompts
from segpref.training.feedback import FeedbackKind

__all__ = [
    "ABLATIONS",
    "BASE",
    "FLIPPED",
    "KINDS",
    "MORE",
    "UNET",
    "UNTUNED",
    "aligned_row",
    "row_file",
]

BASE: Prompts = "box, points and text"
"""The model that is aligned, prompted as in the paper but for the answers of a VQA model."""

ABLATIONS: tuple[Prompts, ...] = (BASE, "box and points", "text", "none", "expert")
MORE: Literal["more labels"] = "more labels"
UNET = "U-Net"
UNTUNED = "box and points, not tuned"
"""The stand-in for SAM as it is, which has not seen an image of the dataset."""
KINDS: tuple[FeedbackKind, ...] = ("best-only", "rating", "ranking")
FLIPPED: tuple[FeedbackKind, ...] = ("rating", "ranking")
"""Feedback that is flipped on purpose."""


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
