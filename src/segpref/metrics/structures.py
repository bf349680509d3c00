"""What a judge is worth for every structure: good means hide the structure that is being lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segpref.metrics.overlap import iou, overlap_counts
from segpref.metrics.slates import score_state
from segpref.types import LabelSpace, Pairs

__all__ = ["StructureFigures", "StructureSlate", "structure_figures", "structure_slate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureFigures:
    """A judge against the truth on one structure; NaN where there is nothing to tell it by.

    ``m`` is the IoU of a candidate with the true structure, *top* the judge's favourite of the field
    that the structure is in, *base* the anchor. Slates in which neither truth nor any candidate has the
    structure are left out.

    Args:
        structure: its name.
        headroom: mean of ``m(top) - m(base)``.
        harm_top: share of slates with ``m(top) < m(base)``.
        pair_flip: share of mined pairs with the truly worse mask as winner, among pairs that differ in
            more pixels of this structure than of any other.
        empty: share of the candidates that lack the structure.
        empty_truth: share of the labels that lack it.
        slates: how many slates the judge says something of.
        pairs: how many pairs differ mainly in it.
        abstained: how many slates the judge says nothing of: no score, or none for this structure.
    """

    structure: str
    headroom: float
    harm_top: float
    pair_flip: float
    empty: float
    empty_truth: float
    slates: int
    pairs: int
    abstained: int


class StructureSlate(NamedTuple):
    """What is kept of one slate, by structure.

    Args:
        quality: IoU of every candidate with the truth; 1 where both are empty.
        empty: which candidates lack the structure.
        empty_truth: whether the truth lacks it.
    """

    quality: Float[np.ndarray, "K structure"]
    empty: Bool[np.ndarray, "K structure"]
    empty_truth: Bool[np.ndarray, " structure"]


def structure_slate(
    masks: UInt8[np.ndarray, "K field *space"],
    truth: UInt8[np.ndarray, "field *space"],
    label_space: LabelSpace,
) -> StructureSlate:
    """Measure the candidates of one slate structure by structure."""
    counts = overlap_counts(masks, truth, label_space)
    return StructureSlate(iou(counts), counts.predicted == 0, counts.true[0] == 0)


def structure_figures(
    slates: Sequence[StructureSlate],
    scores: Sequence[Float[np.ndarray, "K field"]],
    qualities: Sequence[Float[np.ndarray, "K field"]],
    masks: Sequence[UInt8[np.ndarray, "K field *space"]],
    pairs: Pairs,
    label_space: LabelSpace,
    abstains_on: Collection[str] = (),
    about: Sequence[str | None] | None = None,
) -> tuple[StructureFigures, ...]:
    """A row per structure that labels tell of.

    Args:
        slates: of :func:`structure_slate`.
        scores: the judge's, one array per slate; NaN abstains.
        qualities: true qualities of the candidates, per field.
        masks: the candidates; each slate is read once.
        pairs: what a miner made of the scores; ``pairs.case`` points into ``scores``.
        label_space: what the masks mean.
        abstains_on: structures of which the judge says nothing although its field has scores.
        about: the only structure that a slate's scores are about, such as one that people were asked
            about, or None; the slate does not count for the others.
    """
    mainly = _mainly(masks, pairs, label_space)
    gain = np.array(
        [
            qualities[case][winner, field] - qualities[case][loser, field]
            for case, field, winner, loser in zip(
                pairs.case, pairs.field, pairs.winner, pairs.loser, strict=True
            )
        ],
        dtype=float,
    )
    rows = []
    for number, name in enumerate(label_space.structures):
        if name in label_space.unlabelled:
            continue
        field = number if label_space.kind == "multi-label" else 0
        gains, abstained = [], 0
        for slate, said, asked in zip(slates, scores, about or [None] * len(slates), strict=True):
            if asked not in (None, name):
                continue
            if slate.empty_truth[number] and slate.empty[:, number].all():
                continue
            state = "abstained" if name in abstains_on else score_state(said[:, field])
            abstained += state == "abstained"
            if state == "usable":
                true = slate.quality[:, number]
                gains.append(float(true[int(np.nanargmax(said[:, field]))] - true[0]))
        own = gain[(mainly == number) & ~np.isnan(gain)]
        rows.append(
            StructureFigures(
                structure=name,
                headroom=_mean(gains),
                harm_top=_mean([one < 0 for one in gains]),
                pair_flip=_mean(list(own < 0)),
                empty=_mean([float(slate.empty[:, number].mean()) for slate in slates]),
                empty_truth=_mean([float(slate.empty_truth[number]) for slate in slates]),
                slates=len(gains),
                pairs=len(own),
                abstained=abstained,
            )
        )
    return tuple(rows)


def _mainly(
    masks: Sequence[UInt8[np.ndarray, "K field *space"]], pairs: Pairs, label_space: LabelSpace
) -> np.ndarray:
    """The structure of which winner and loser differ in most pixels, of equal ones the first."""
    if label_space.kind == "multi-label":
        return np.asarray(pairs.field)
    found = np.zeros(len(pairs), np.int64)
    for case in np.unique(pairs.case):
        slate = masks[int(case)]
        for place in np.flatnonzero(pairs.case == case):
            winner, loser = (
                label_space.structure_masks(slate[one])
                for one in (pairs.winner[place], pairs.loser[place])
            )
            differs = (winner ^ loser).reshape(len(winner), -1).sum(axis=1)
            found[place] = int(differs.argmax())
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan
