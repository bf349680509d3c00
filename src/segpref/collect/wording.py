"""What raters are asked, in words, unless a study says something else."""

from __future__ import annotations

from collections.abc import Mapping

from segpref.collect.contents import Mode

__all__ = ["INSTRUCTIONS", "QUESTIONS"]

QUESTIONS: Mapping[Mode, str] = {
    "pair": "Which of the two contours would you rather use for this patient?",
    "best-of-four": "Which of the four contours would you rather use for this patient?",
    "accept-reject": "Would you use this contour without changing it?",
    "base-or-tuned": "Which of the two segmentations would you rather use for this patient?",
}

_SHARED = (
    "Judge only the structure that is named. Look at every slice in which the contours differ. Which "
    "side a contour is on means nothing: it is drawn at random. "
)

INSTRUCTIONS: Mapping[Mode, str] = {
    "pair": _SHARED
    + "Say that both are equally good, or that both are bad, where that is so; and that you can't tell "
    "where the image does not show it.",
    "best-of-four": _SHARED + "Say that none is good where that is so.",
    "accept-reject": "Judge only the structure that is named, in every slice. Accept what you would "
    "use as it is; reject what you would have to correct.",
    "base-or-tuned": "Look at every slice in which the segmentations differ. Which side a "
    "segmentation is on means nothing: it is drawn at random. Say that both are equally good, or "
    "that both are bad, where that is so.",
}
