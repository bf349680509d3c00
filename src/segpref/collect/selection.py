"""Which pairs of candidates are worth asking about.

The expected information of a pair is ``area x p (1 - p) x (1 + doubt)``: the voxels in which its masks
differ, how open the answer is (p is the probability that the first is better), and how unsure the
policy is of its margin: by its passes under dropout where it has any (:func:`margin_doubt`), else by
the spread of the candidates (:class:`Compared`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segpref.types import LabelSpace

__all__ = [
    "Asked",
    "Compared",
    "PairSelection",
    "compared",
    "differing_voxels",
    "information",
    "margin_doubt",
    "preference_chance",
    "score_scale",
    "share_preferring",
]

Square = Float[np.ndarray, "K K"]


def differing_voxels(
    masks: Bool[np.ndarray, "K voxel"], weight: Float[np.ndarray, " voxel"] | None = None
) -> Square:
    """In how many voxels every two masks differ, or the sum of weights over these."""
    # As numbers, so that it is one product of matrices; single precision counts to 2^24 without error.
    plain = masks.astype(np.float32)
    weighted = plain if weight is None else plain * weight.astype(np.float32)
    both, own = (weighted @ plain.T).astype(np.float64), weighted.sum(axis=1, dtype=np.float64)
    return np.asarray(np.maximum(own[:, None] + own[None] - 2 * both, 0.0))


def preference_chance(scores: Float[np.ndarray, " K"], scale: float) -> Square:
    """Probability that the first of two candidates is better: logistic in the difference of scores.

    Args:
        scores: a judge's; NaN where it abstains, which makes the answer open.
        scale: the difference of scores that makes it 0.73; see :func:`score_scale`.
    """
    if not scale > 0:
        return np.full((len(scores), len(scores)), 0.5)
    gaps = (scores[:, None] - scores[None]) / scale
    chance = 1 / (1 + np.exp(-np.clip(gaps, -50, 50)))
    return np.where(np.isnan(gaps), 0.5, chance)


def share_preferring(scores: Float[np.ndarray, "judge K"]) -> Square:
    """Share of an ensemble's members that prefer the first of two candidates.

    One more member is counted for either side, so that few members who agree don't make it certain;
    equal scores are half a voice for both, and members that abstain have none.
    """
    gaps = scores[:, :, None] - scores[:, None]
    there = (~np.isnan(gaps)).sum(axis=0)
    wins = (gaps > 0).sum(axis=0) + 0.5 * (gaps == 0).sum(axis=0)
    return np.asarray((wins + 1) / (there + 2))


def score_scale(scores: Float[np.ndarray, "image K"]) -> float:
    """Typical spread of scores within an image: root of the mean variance; 0 where there are none."""
    usable = [own for row in scores if len(own := row[~np.isnan(row)]) > 1]
    return float(np.sqrt(np.mean([own.var() for own in usable]))) if usable else 0.0


def information(area: Square, chance: Square, doubt: Square) -> Square:
    """Expected information of every pair: ``area x p (1 - p) x (1 + doubt)``."""
    return np.asarray(area * chance * (1 - chance) * (1 + doubt))


def margin_doubt(
    masks: UInt8[np.ndarray, "K field *space"],
    passes: Float[np.ndarray, "S C *space"],
    space: LabelSpace,
) -> Float[np.ndarray, "field K K"]:
    """How unsure a policy is of the margin of every pair, by several stochastic passes.

    The margin of a pair is linear in the logits. With its mean m and standard deviation s over the
    passes, doubt is ``s / (s + |m|)``, however margins are normalised: 0 where all passes agree, near 1
    where they cancel. It is 0 of a mask with itself.

    Args:
        masks: candidates.
        passes: logits of at least two passes.
        space: what the masks mean.
    """
    flat = masks.reshape(*masks.shape[:2], -1)
    varying = (flat != flat[:1]).any(axis=(0, 1))
    held = flat[:, :, varying].astype(np.int64)
    logits = passes.reshape(*passes.shape[:2], -1)[:, :, varying].astype(np.float64)
    found = []
    for number in range(held.shape[1]):
        if space.kind == "multi-label":
            sums = logits[:, number] @ held[:, number].T
        else:
            at = np.arange(held.shape[2])
            sums = np.stack([[one[mask, at].sum() for mask in held[:, 0]] for one in logits])
        margins = sums[:, :, None] - sums[:, None]
        spread, mean = margins.std(axis=0, ddof=1), np.abs(margins.mean(axis=0))
        total = spread + mean
        found.append(np.where(total > 0, spread / np.where(total > 0, total, 1), 0.0))
    return np.stack(found)


class Compared(NamedTuple):
    """How the candidates of an image differ in one structure.

    Args:
        area: voxels in which they differ.
        dice: of the two; 1 where both are empty.
        doubt: mean over the voxels in which they differ of ``4 q (1 - q)``, where q is the share of the
            candidates that hold the voxel: 1 where they are split in halves, near 0 where one differs
            from all others.
        alone: whether they differ in no other structure, as far as a vote would be learned there.
    """

    area: Square
    dice: Square
    doubt: Square
    alone: Bool[np.ndarray, "K K"]


def compared(masks: UInt8[np.ndarray, "K field *space"], space: LabelSpace) -> list[Compared]:
    """How candidates differ, for each structure."""
    flat = masks.reshape(*masks.shape[:2], -1)
    varying = (flat != flat[:1]).any(axis=(0, 1))
    # Most voxels are equal in all of them: they count in Dice alone.
    inside = space.structure_masks(flat[:, :, varying], field_axis=1)
    shared = space.structure_masks(flat[0][:, ~varying]).sum(axis=1)
    areas = [differing_voxels(inside[:, number]) for number in range(inside.shape[1])]
    found = []
    for number, area in enumerate(areas):
        own = inside[:, number]
        share = own.mean(axis=0)
        weighted = differing_voxels(own, 4 * share * (1 - share))
        sizes = own.sum(axis=1) + float(shared[number])
        total = sizes[:, None] + sizes[None]
        dice = np.where(total > 0, 1 - area / np.maximum(total, 1), 1.0)
        doubt = np.where(area > 0, weighted / np.maximum(area, 1), 0.0)
        others = [one for place, one in enumerate(areas) if place != number]
        exclusive = space.kind == "multi-class" and others
        alone = np.sum(others, axis=0) == 0 if exclusive else np.ones(area.shape, bool)
        found.append(Compared(area, dice, doubt, np.asarray(alone)))
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about an image.

    Args:
        places: of its masks in the slate.
        structure: number of the structure that it is about.
        information: that is expected of it.
        chosen_by: how it was chosen.
    """

    places: tuple[int, ...]
    structure: int
    information: float
    chosen_by: Literal["information", "random"]


class PairSelection:
    """Chooses the questions about one image after the other, structure by structure.

    Of two masks that are near-duplicates in a structure nobody is asked, nor of pairs of an exclusive
    label map that differ in another structure, too. A mask is in one question about a structure at
    most. The share of random questions is kept over all images.

    Args:
        count: questions about an image, at most.
        masks: of a question: 1 (the anchor's, once, then candidates that differ from it), 2, or 4 that
            are far apart.
        random: share of questions that are drawn at random.
        most_dice: above it two masks are near-duplicates.
        least_voxels: so are masks that differ in fewer voxels.
        seed: of what is drawn.
    """

    def __init__(
        self,
        count: int,
        masks: int = 2,
        *,
        random: float = 0.2,
        most_dice: float = 0.97,
        least_voxels: int = 10,
        seed: int = 0,
    ) -> None:
        self._count, self._masks, self._share = count, masks, random
        self._most_dice, self._least = most_dice, least_voxels
        self._rng = np.random.default_rng([seed, 0xA5])
        self._images = self._asked = 0

    def __call__(
        self,
        masks: UInt8[np.ndarray, "K field *space"],
        space: LabelSpace,
        chance: Float[np.ndarray, "field K K"] | None = None,
        doubt: Float[np.ndarray, "field K K"] | None = None,
    ) -> list[Asked]:
        """The questions about the next image.

        Args:
            masks: its candidates; the first is the anchor.
            space: what they mean.
            chance: for every field, that the first of two candidates is better; open where None.
            doubt: for every field, how unsure the policy is of its margin; by the spread of the
                candidates where None.
        """
        known = compared(masks, space)
        turn, self._images = self._images, self._images + 1
        order = [(turn + number) % len(known) for number in range(len(known))]
        free = {number: np.ones(len(masks), bool) for number in order}
        found: list[Asked] = []
        while order and len(found) < self._count:
            for number in list(order):
                if len(found) == self._count:
                    break
                field = number if space.kind == "multi-label" else 0
                open_answer = np.full(known[number].area.shape, 0.5)
                answer = open_answer if chance is None else chance[field]
                if doubt is not None:
                    known[number] = known[number]._replace(doubt=doubt[field])
                one = self._next(known[number], answer, free[number], number)
                if one is None:
                    order.remove(number)
                    continue
                free[number][list(one.places)] = False
                if self._masks == 1:
                    for own in free.values():
                        own[0] = False
                found.append(one)
                self._asked += 1
        return found

    def _next(
        self, known: Compared, chance: Square, free: Bool[np.ndarray, " K"], structure: int
    ) -> Asked | None:
        value = information(known.area, chance, known.doubt)
        fit = (known.dice <= self._most_dice) & (known.area >= self._least) & known.alone
        if self._masks == 1:
            return self._single(value, fit, free, structure)
        usable = np.triu(fit & free[:, None] & free[None], 1)
        if not usable.any():
            return None
        drawn = self._random_turn()
        first, second = self._pick(value, usable, drawn)
        places = [first, second]
        if self._masks > 2:
            places = _far_apart(places, known.area, fit, free, self._masks)
            if len(places) < self._masks:
                return None
        pairs = [float(value[i, j]) for n, i in enumerate(places) for j in places[n + 1 :]]
        return Asked(tuple(places), structure, max(pairs), "random" if drawn else "information")

    def _single(
        self,
        value: Square,
        fit: Bool[np.ndarray, "K K"],
        free: Bool[np.ndarray, " K"],
        structure: int,
    ) -> Asked | None:
        if free[0]:
            best = float(np.where(fit[0], value[0], 0.0).max())
            return Asked((0,), structure, best, "information")
        usable = np.zeros_like(fit)
        usable[0] = fit[0] & free
        if not usable.any():
            return None
        drawn = self._random_turn()
        _, place = self._pick(value, usable, drawn)
        by: Literal["information", "random"] = "random" if drawn else "information"
        return Asked((place,), structure, float(value[0, place]), by)

    def _pick(self, value: Square, usable: Bool[np.ndarray, "K K"], drawn: bool) -> tuple[int, int]:
        if drawn:
            first, second = self._rng.choice(np.argwhere(usable)).tolist()
        else:
            best = int(np.where(usable, value, -1.0).argmax())
            first, second = divmod(best, len(value))
        return first, second

    def _random_turn(self) -> bool:
        """Whether the next question is drawn: every fifth, at a share of 0.2."""
        return int((self._asked + 1) * self._share + 1e-9) > int(self._asked * self._share + 1e-9)


def _far_apart(
    places: list[int],
    area: Square,
    fit: Bool[np.ndarray, "K K"],
    free: Bool[np.ndarray, " K"],
    count: int,
) -> list[int]:
    """The places with others, each as far as possible from the nearest of those before it."""
    found = list(places)
    while len(found) < count:
        usable = free & fit[found].all(axis=0)
        if not usable.any():
            break
        found.append(int(np.where(usable, area[found].min(axis=0), -1.0).argmax()))
    return found
