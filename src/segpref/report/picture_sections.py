"""Sections that several pages share: contours side by side, and the slate of one image."""

from __future__ import annotations

from collections.abc import Sequence

from segpref.report.page import Section
from segpref.report.pictures import (
    Overlay,
    SlatePicture,
    overlay_keys,
    overlay_pictures,
    slate_keys,
    slate_tiles,
    variance_pictures,
)

__all__ = ["overlay_section", "slate_section", "variance_section"]


def overlay_section(overlays: Sequence[Overlay], title: str) -> Section:
    """Images with the outlines of several models side by side."""
    text = "The same images with the contours of each model."
    if any(one.focus for one in overlays):
        text = (
            "The validation images with the lowest Dice after tuning, the one that lost most and a "
            "usual one; of each the slice in which the tuned model is most wrong."
        )
    return Section(
        title,
        text,
        pictures=overlay_pictures(overlays),
        layout="rows",
        columns=len(overlays[0].masks) if overlays else 1,
        keys=overlay_keys(overlays),
    )


def slate_section(shown: SlatePicture) -> Section:
    """The candidates of one image, as the judge ranks them."""
    text = f"The {len(shown.slate)} candidate masks of {shown.name}, the judge's favourite first."
    if shown.label_space.kind == "multi-label":
        text += f" Shown is {shown.label_space.structures[shown.field]}."
    if shown.pair is not None:
        text += " The model learns to prefer the winner to the loser, only where they differ."
    return Section(
        "What the judge sees",
        text,
        pictures=slate_tiles(shown),
        layout="tiles",
        keys=slate_keys(shown),
        note="The number is the judge's score; below it is how the candidate was made.",
    )


def variance_section(shown: SlatePicture) -> Section:
    """Where the candidates of one image differ."""
    return Section(
        "Where the candidates differ",
        "A preference can teach something only where candidates differ: dark where all agree, "
        "white where half of them disagree.",
        pictures=variance_pictures([shown]),
    )
