"""Intersection over union and Dice, counted once for many masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from segpref.types import IGNORE, LabelSpace, SegprefError

__all__ = [
    "Overlap",
    "VolumeScores",
    "dice",
    "iou",
    "overlap_counts",
    "precision",
    "sensitivity",
    "slate_iou",
    "volume_difference",
    "volume_scores",
]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixel counts per mask and structure, from which every overlap score follows.

    Args:
        intersection: pixels that mask and truth both give to the structure.
        predicted: pixels that the mask gives to it.
        true: pixels that the truth gives to it.
    """

    intersection: Int64[np.ndarray, "K structure"]
    predicted: Int64[np.ndarray, "K structure"]
    true: Int64[np.ndarray, "K structure"]


@dataclass(frozen=True, slots=True)
class VolumeScores:
    """Scores per volume and structure; NaN where truth and prediction both lack the structure.

    Args:
        volumes: names, in the order in which they first came.
        iou: intersection over union with the slices of a volume stacked.
        dice: the same for Dice.
    """

    volumes: tuple[str, ...]
    iou: Float[np.ndarray, "volume structure"]
    dice: Float[np.ndarray, "volume structure"]


def overlap_counts(
    masks: UInt8[np.ndarray, "K field *space"],
    truth: UInt8[np.ndarray, "field *space"],
    label_space: LabelSpace,
) -> Overlap:
    """Count the overlap of K masks with one.

    Pixels that are :data:`~segpref.types.IGNORE` in ``truth`` are left out of all counts; where a
    mask is ``IGNORE`` it holds no structure.

    Raises:
        SegprefError: the masks do not lie on the grid of ``truth``.
    """
    if masks.shape[1:] != truth.shape:
        raise SegprefError(
            f"masks of shape {masks.shape[1:]} cannot be compared with one of shape {truth.shape}; "
            "resample one onto the grid of the other"
        )
    count, fields = len(masks), label_space.fields
    # Where no mask holds anything there is nothing to count; structures fill a small part of an image.
    window: tuple[Any, ...] = (..., *_occupied(masks, truth))
    found = np.moveaxis(masks[window].reshape(count, fields, -1), 1, 0)
    real = truth[window].reshape(fields, 1, -1)
    known = real != IGNORE
    all_known = known.all()
    columns = []
    # One structure after the other: the binary masks of all at once need much room.
    for structure in range(len(label_space.structures)):
        predicted = _pack(_held(found, label_space, structure))
        true = _pack(_held(real, label_space, structure))
        if not all_known:
            predicted = predicted & _pack(known[structure if fields > 1 else 0])
        columns.append((_ones(predicted & true), _ones(predicted), _ones(true).repeat(count)))
    both, of_masks, of_truth = (np.stack(column, axis=1) for column in zip(*columns, strict=True))
    return Overlap(both, of_masks, of_truth)


def iou(counts: Overlap, empty: float = 1.0) -> Float[np.ndarray, "K structure"]:
    """Intersection over union; ``empty`` where mask and truth both lack the structure."""
    union = counts.predicted + counts.true - counts.intersection
    return _ratio(counts.intersection, union, empty)


def dice(counts: Overlap, empty: float = 1.0) -> Float[np.ndarray, "K structure"]:
    """Dice; ``empty`` where mask and truth both lack the structure."""
    return _ratio(2 * counts.intersection, counts.predicted + counts.true, empty)


def sensitivity(counts: Overlap) -> Float[np.ndarray, "K structure"]:
    """Share of the true structure that the mask has; NaN where the truth lacks the structure."""
    return _ratio(counts.intersection, counts.true, np.nan)


def precision(counts: Overlap) -> Float[np.ndarray, "K structure"]:
    """Share of the mask that is truly the structure; NaN where the mask lacks the structure."""
    return _ratio(counts.intersection, counts.predicted, np.nan)


def volume_difference(counts: Overlap) -> Float[np.ndarray, "K structure"]:
    """Relative volume difference, ``(predicted - true) / true``: 0.1 is a tenth too large.

    NaN where mask and truth both lack the structure, infinite where only the truth does.
    """
    added = _ratio(counts.predicted - counts.true, counts.true, np.inf)
    return np.where((counts.predicted == 0) & (counts.true == 0), np.nan, added)


def slate_iou(
    masks: UInt8[np.ndarray, "K field *space"],
    reference: UInt8[np.ndarray, "field *space"],
    label_space: LabelSpace,
    only: Sequence[int] | None = None,
    measure: Literal["iou", "dice"] = "iou",
    counted: Bool[np.ndarray, " structure"] | None = None,
) -> Float[np.ndarray, "K field"]:
    """Agreement of every candidate of a slate with a reference mask, per field (Sec. 3.2).

    Multi-label: the IoU of each field. Multi-class: the mean IoU over the foreground structures
    that the reference or *any* candidate holds, so that all candidates are scored on the same ones.
    Empty against empty is 1; a multi-class slate in which no mask holds anything scores 1 throughout.

    Args:
        masks: the slate.
        reference: what it is compared with.
        label_space: what the values mean.
        only: the candidates whose scores are wanted, in this order; the result has a row for each, and
            the same values as without. All where None.
        measure: IoU, or Dice.
        counted: which structures the reference says something of: the others take no part, and a field
            with no other is NaN. All where None.
    """
    wanted = masks if only is None else masks[list(only)]
    counts = overlap_counts(wanted, reference, label_space)
    scores = iou(counts) if measure == "iou" else dice(counts)
    if label_space.kind == "multi-label":
        return scores if counted is None else np.where(counted, scores, np.nan)
    held = (counts.true[0] > 0) | (counts.predicted > 0).any(axis=0)
    if only is not None and not held.all():
        others = overlap_counts(masks, reference, label_space)
        held |= (others.predicted > 0).any(axis=0)
    if counted is not None:
        held &= counted
        if not counted.any():
            return np.full((len(wanted), 1), np.nan)
    if not held.any():
        return np.ones((len(wanted), 1))
    return np.asarray(scores[:, held].mean(axis=1, keepdims=True))


def volume_scores(counts: Overlap, volumes: Sequence[str]) -> VolumeScores:
    """Scores for tables: counts are summed over the slices of a volume, then divided.

    A structure that is absent from truth and prediction of a whole volume is NaN: left out. Give
    the names of slices instead of volumes for scores per slice.

    Args:
        counts: one row per slice.
        volumes: the volume (patient and time point) that each row belongs to.

    Raises:
        SegprefError: not one volume per row.
    """
    if len(volumes) != len(counts.true):
        raise SegprefError(
            f"{len(counts.true)} slices need as many volume names, not {len(volumes)}; "
            "give one name per slice"
        )
    names = tuple(dict.fromkeys(volumes))
    place = {name: row for row, name in enumerate(names)}
    rows = np.array([place[name] for name in volumes], dtype=np.int64)
    summed = Overlap(*(_grouped(c, rows, len(names)) for c in _columns(counts)))
    return VolumeScores(names, iou(summed, empty=np.nan), dice(summed, empty=np.nan))


def _occupied(
    masks: UInt8[np.ndarray, "K field *space"], truth: UInt8[np.ndarray, "field *space"]
) -> tuple[slice, ...]:
    """The smallest box outside of which every mask is background."""
    held = (np.bitwise_or.reduce(masks, axis=0) | truth).any(axis=0)
    box = []
    for axis in range(held.ndim):
        along = held.any(axis=tuple(other for other in range(held.ndim) if other != axis))
        places = np.flatnonzero(along)
        box.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0))
    return tuple(box)


def _held(
    masks: UInt8[np.ndarray, "field n pixel"], label_space: LabelSpace, structure: int
) -> Bool[np.ndarray, "n pixel"]:
    if label_space.kind == "multi-label":
        return np.asarray(masks[structure] == 1)
    if label_space.regions:
        return np.isin(masks[0], label_space.regions[structure].values)
    return np.asarray(masks[0] == structure + 1)


def _pack(flat: Bool[np.ndarray, "n pixel"]) -> UInt8[np.ndarray, "n byte"]:
    packed = np.packbits(flat, axis=-1)
    # Words of 64 bits are counted several times faster than bytes.
    return packed.view(np.uint64) if packed.shape[-1] % 8 == 0 else packed


def _ones(packed: UInt8[np.ndarray, "n byte"]) -> Int64[np.ndarray, " n"]:
    return np.asarray(np.bitwise_count(packed).sum(axis=-1, dtype=np.int64))


def _ratio(
    part: Int64[np.ndarray, "K structure"], whole: Int64[np.ndarray, "K structure"], empty: float
) -> Float[np.ndarray, "K structure"]:
    return np.where(whole > 0, part / np.maximum(whole, 1), empty)


def _columns(counts: Overlap) -> tuple[Int64[np.ndarray, "K structure"], ...]:
    return counts.intersection, counts.predicted, counts.true


def _grouped(
    counts: Int64[np.ndarray, "K structure"], rows: Int64[np.ndarray, " K"], groups: int
) -> Int64[np.ndarray, "group structure"]:
    summed = np.zeros((groups, counts.shape[1]), dtype=np.int64)
    np.add.at(summed, rows, counts)
    return summed
