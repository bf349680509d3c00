"""Volumes turned as those of the training, and what is said about images that are unlike these."""

from __future__ import annotations

import logging
from dataclasses import replace

from segpref.data.orientation import orientation_of, turned
from segpref.data.preparation import Preparation
from segpref.policies import ModelCard
from segpref.progress import console
from segpref.types import Case, known_spacing

__all__ = ["AsTrained"]

log = logging.getLogger(__name__)

_BEYOND = 0.05
"""Share by which a voxel size may lie outside those of the training before it is said."""


class AsTrained:
    """Turns cases; what it says is said once for each direction and voxel size.

    Args:
        card: of the model.
        reorient: whether volumes are turned as in training; otherwise they are used unchanged.
    """

    def __init__(self, card: ModelCard, reorient: bool) -> None:
        self._card, self._reorient = card, reorient
        self._said: set[object] = set()

    def turned(self, case: Case, name: object) -> tuple[Case, str | None]:
        """The case with its axes as in training, and where they point to if they were turned."""
        own, wanted = orientation_of(case), self._card.orientation
        seen, codes = case, None
        turns = wanted is not None and self._reorient and case.image.ndim == 4
        if turns and own is None:
            self._say("axes", f"{name} does not say where its axes point to: {wanted} is assumed")
        elif turns and own != wanted:
            seen, codes = turned(replace(case, label=None, raters=None), wanted), wanted
            self._say(
                own,
                f"{name} has axes that point to {own}: it is turned to {wanted}, as in training, and "
                "its mask turned back",
            )
        elif wanted is None and own is not None and _axes_matter(self._card):
            self._say(
                own,
                f"{name} has axes that point to {own}, but the model does not say where they pointed "
                "to in training: it is used unchanged",
            )
        self._warn_of_spacing(seen, name)
        return seen, codes

    def warn_of_prompted(self, case: Case, name: object) -> None:
        """Say so where prompts were drawn on a volume, which therefore can't be turned."""
        own, wanted = orientation_of(case), self._card.orientation
        if None not in (own, wanted) and own != wanted:
            self._say(
                own,
                f"{name} has axes that point to {own}, and in training they pointed to {wanted}: it is "
                "not turned, for prompts were drawn on it",
            )

    def _warn_of_spacing(self, case: Case, name: object) -> None:
        known, spacing = self._card.spacing_range_mm, known_spacing(case.spacing_mm)
        if known is None or not spacing or self._card.preparation.spacing_mm is not None:
            return
        outside = any(
            not low * (1 - _BEYOND) <= step <= high * (1 + _BEYOND)
            for step, (low, high) in zip(spacing, known, strict=False)
        )
        if outside and spacing not in self._said:
            self._said.add(spacing)
            log.warning(
                "%s has voxels of %s mm, outside what the model was trained with (%s mm): its mask may "
                "be worse than on such images.",
                name,
                " x ".join(f"{step:.3g}" for step in spacing),
                " x ".join(
                    f"{low:.3g}" if high - low < 0.01 * high else f"{low:.3g} to {high:.3g}"
                    for low, high in known
                ),
            )

    def _say(self, what: object, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            console.print(f"{text}.", highlight=False, soft_wrap=True)


def _axes_matter(card: ModelCard) -> bool:
    """Whether nothing but the images themselves says how the network wants its axes."""
    return isinstance(card.preparation, Preparation) and card.preparation.orientation is None
