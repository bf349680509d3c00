"""Structures that a judge never draws, on which it abstains.

A judge that compares candidates with masks of its own gives an empty candidate 1 and a drawn one 0
wherever its own mask is empty. On a structure that it finds almost nowhere this is no evidence: it
would teach the model to draw nothing there. The same holds for a judge without masks of its own that
was trained on labels without the structure: it learned that nothing is right.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from segpref.data.dataset import Dataset
from segpref.metrics import overlap_counts
from segpref.types import IGNORE, Case, Judge, LabelSpace

__all__ = [
    "RARELY",
    "DrawingJudge",
    "MaskBasedJudge",
    "UndrawnStructures",
    "note_undrawn_structures",
    "silence_of",
]

RARELY = 0.1
"""A structure that is found in a smaller share of images is found almost nowhere."""

log = logging.getLogger(__name__)

Mask = UInt8[np.ndarray, "field *space"]


class UndrawnStructures:
    """Which structures each of a judge's own sources of masks finds almost nowhere.

    A structure is found in an image where the mask overlaps with the label; the share is of the
    labelled images that have the structure. Where none has it, or nothing is labelled, the share is of
    all images, and a mask that is not empty finds it. Images in which a member says nothing of a field
    (``IGNORE`` everywhere) are not among its own. Nothing is left out before :meth:`measure`.

    Args:
        label_space: what the masks mean.
        members: how many sources of masks.
    """

    def __init__(self, label_space: LabelSpace, members: int = 1) -> None:
        self.label_space = label_space
        self.members = members
        self._heard: Bool[np.ndarray, "member structure"] | None = None

    def measure(self, images: Iterable[tuple[Sequence[Mask] | np.ndarray, Mask | None]]) -> bool:
        """Look at images, each with one mask per member and its label or None.

        Returns:
            Whether there was any image; without one nothing changes.
        """
        shape = (self.members, len(self.label_space.structures))
        found, due, drawn, seen = (np.zeros(shape, int) for _ in range(4))
        looked_at = False
        for masks, label in images:
            looked_at = True
            said = np.stack(list(masks))
            truth = np.full_like(said[0], IGNORE) if label is None else np.asarray(label)
            counts = overlap_counts(said, truth, self.label_space)
            # One column per structure; of an exclusive label map all are in its one field.
            speaks = (said != IGNORE).reshape(*said.shape[:2], -1).any(axis=2)
            found += counts.intersection > 0
            due += speaks & (counts.true > 0)
            planes = self.label_space.structure_masks(said, field_axis=1)
            drawn += planes.reshape(*shape, -1).any(axis=2)
            seen += np.broadcast_to(speaks, shape)
        if looked_at:
            self.conclude(found, due, drawn, seen)
        return looked_at

    def conclude(
        self,
        found: Int[np.ndarray, "member structure"],
        due: Int[np.ndarray, "member structure"],
        drawn: Int[np.ndarray, "member structure"] | int = 0,
        seen: Int[np.ndarray, "member structure"] | int = 0,
    ) -> None:
        """Leave out the structures that these numbers of images say are found almost nowhere.

        Args:
            found: images with the structure in which it is found.
            due: images that have the structure.
            drawn: images in which it is drawn, for structures that no label has.
            seen: images that were looked at.
        """
        share = np.where(due > 0, found / np.maximum(due, 1), drawn / np.maximum(seen, 1))
        self._heard = share >= RARELY

    def counted(self, member: int = 0) -> Bool[np.ndarray, " structure"] | None:
        """The structures of which the member says something; None for all."""
        if self._heard is None or self._heard[member].all():
            return None
        return np.asarray(self._heard[member])

    def field_scores(
        self,
        scores: Float[np.ndarray, "K structure"],
        held: Bool[np.ndarray, " structure"],
    ) -> Float[np.ndarray, "K field"]:
        """Scores per field of a judge with one member that scores every structure.

        Multi-label: its scores, NaN where it abstains. Multi-class: the mean over the structures that
        are held and of which it says something; where none is held, over all of which it does; NaN
        where there is none.
        """
        counted = self.counted()
        if self.label_space.kind == "multi-label":
            return scores if counted is None else np.where(counted, scores, np.nan)
        known = np.ones_like(held) if counted is None else counted
        if not known.any():
            return np.full((len(scores), 1), np.nan)
        over = held & known if (held & known).any() else known
        return np.asarray(scores[:, over].mean(axis=1, keepdims=True))

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures of which no member says anything."""
        if self._heard is None:
            return ()
        heard = np.asarray(self._heard.any(axis=0))
        return tuple(
            name for name, said in zip(self.label_space.structures, heard, strict=True) if not said
        )


@runtime_checkable
class MaskBasedJudge(Protocol):
    """A judge that can tell which structures it never draws, or knows nothing of."""

    needs_label: bool
    """Whether it reads labels."""

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        ...

    def find_silence(self, dataset: Dataset) -> bool:
        """Find these structures on labelled images; False where it has no mask of any of them."""
        ...


@runtime_checkable
class DrawingJudge(Protocol):
    """A judge that has one mask of its own of an image, so that it could be a segmenter itself."""

    def own_mask(self, case: Case) -> Mask | None:
        """Its mask of a prepared case; None where it has none."""
        ...


def silence_of(judge: Judge) -> tuple[str, ...]:
    """The structures on which a judge abstains since :func:`note_undrawn_structures` looked at it."""
    inner: Any = judge
    if isinstance(judge, MaskBasedJudge):
        return judge.abstains_on
    if hasattr(inner, "judges"):
        each = [silence_of(one) for one in inner.judges]
        return tuple(name for name in each[0] if all(name in other for other in each[1:]))
    return silence_of(inner.judge) if hasattr(inner, "judge") else ()


def note_undrawn_structures(
    judge: Judge, labelled: Dataset, pool: Dataset | None = None
) -> tuple[str, ...]:
    """Have a judge abstain on structures that it never draws, and say which.

    Judges within others (``judge``, ``judges``) are looked at, too.

    Args:
        judge: which.
        labelled: images with labels that may be looked at, such as those of validation.
        pool: images to look at in their place where the judge has no mask of any of those; without
            labels, unless the judge reads labels anyway.

    Returns:
        Names of the structures on which the whole judge abstains.
    """
    inner: Any = judge
    if isinstance(judge, MaskBasedJudge):
        before = judge.abstains_on
        if not judge.find_silence(labelled) and pool is not None:
            judge.find_silence(pool if judge.needs_label else pool.without_labels())
        if judge.abstains_on and judge.abstains_on != before:
            log.warning(
                "The judge (%s) draws %s next to nowhere, so it abstains there: what it does not draw "
                "is no evidence against candidates that do.",
                type(judge).__name__,
                ", ".join(judge.abstains_on),
            )
    for one in getattr(inner, "judges", [inner.judge] if hasattr(inner, "judge") else []):
        note_undrawn_structures(one, labelled, pool)
    return silence_of(judge)
