"""Scores of a model, or of any masks, on prepared cases: per volume and structure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from segpref.data.dataset import Dataset, Volume
from segpref.data.source import Source
from segpref.inference.case_masks import CaseMasks
from segpref.metrics import (
    dice,
    iou,
    overlap_counts,
    precision,
    sensitivity,
    surface_scores,
    volume_difference,
)
from segpref.progress import track
from segpref.runtime import runtime
from segpref.types import Case, LabelSpace, Predictor, SegprefError, whole_spacing

__all__ = [
    "MeanLoss",
    "VolumeMasks",
    "mean_iou",
    "mean_of",
    "predict_masks",
    "score_files",
    "score_masks",
    "score_model",
]

VolumeMasks = tuple[Volume, list[int], np.ndarray]
"""A volume, the items of it that were predicted, and their masks ``[item, field, *space]``."""

Row = dict[str, str | float]


@dataclass(slots=True)
class MeanLoss:
    """Mean over images of a loss of logits and labels, gathered while masks are predicted.

    Args:
        loss: mean of a batch.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    batches: list[tuple[float, int]] = field(default_factory=list)
    """Mean loss of each batch, and its images."""

    def __call__(self, volume: Volume, items: Sequence[int], logits: Tensor) -> None:
        """Take a batch in; one without labels counts for nothing."""
        if volume.labels is None:
            return
        labels = torch.from_numpy(np.asarray(volume.labels[list(items)])).to(logits.device)
        self.batches.append((float(self.loss(logits, labels)), len(items)))

    @property
    def mean(self) -> float:
        """NaN before any image."""
        total, images = 0.0, 0
        for loss, count in self.batches:
            total, images = total + loss * count, images + count
        return total / images if images else math.nan


def predict_masks(
    model: Predictor,
    dataset: Dataset,
    batch_size: int = 16,
    seen: Callable[[Volume, Sequence[int], Tensor], None] | None = None,
) -> Iterator[VolumeMasks]:
    """Masks of every case, volume by volume; ``seen`` is shown the logits of every batch."""
    for volume, items in dataset.by_volume():
        yield volume, items, _predicted(model, volume, items, batch_size, seen)


def score_masks(
    predictions: Iterable[VolumeMasks],
    label_space: LabelSpace,
    *,
    surface: bool = False,
    slices: bool = False,
) -> list[Row]:
    """One row per volume and structure, with the slices of a volume stacked.

    What is predicted where the truth is :data:`~segpref.types.IGNORE` is not looked at; of structures
    that the labels say nothing of (:attr:`LabelSpace.unlabelled`) there is no row.

    Columns: ``volume``, ``patient``, ``structure``, ``iou``, ``dice`` (NaN where truth and prediction
    both lack the structure), ``sensitivity`` (NaN where the truth lacks it), ``precision`` (NaN where
    the prediction lacks it), ``volume_difference`` relative to the truth; with ``slices`` also
    ``slice_iou``, the mean over the volume's slices; with ``surface`` the measures of
    :func:`segpref.metrics.surface_scores`, with their unit in the column's name. Between the slices of
    a 2D dataset the distance is not known, so there surface measures are means over the slices in
    which both have the structure.
    """
    rows: list[Row] = []
    for volume, items, masks in predictions:
        if volume.labels is None:
            raise SegprefError(
                f"{volume.source.id} has no label: only labelled cases can be scored"
            )
        truth = np.asarray(volume.labels[items])
        counts = overlap_counts(masks.swapaxes(0, 1)[None], truth.swapaxes(0, 1), label_space)
        columns = {"iou": iou(counts, math.nan)[0], "dice": dice(counts, math.nan)[0]}
        for measure in (sensitivity, precision, volume_difference):
            columns[measure.__name__] = measure(counts)[0]
        if slices:
            columns["slice_iou"] = _slice_iou(masks, truth, label_space)
        if surface:
            columns |= _surface(masks, truth, label_space, volume.spacing_mm)
        for number, structure in enumerate(label_space.structures):
            if structure in label_space.unlabelled:
                continue
            rows.append(
                {
                    "volume": volume.source.id,
                    "patient": volume.source.patient,
                    "structure": structure,
                    **{name: float(values[number]) for name, values in columns.items()},
                }
            )
    return rows


def score_model(
    model: Predictor,
    dataset: Dataset,
    *,
    surface: bool = False,
    slices: bool = False,
    loss: MeanLoss | None = None,
) -> list[Row]:
    """Rows of :func:`score_masks` for a model's predictions, of which ``loss`` is taken, too.

    Within a training of several processes each of them scores its part of the volumes.
    """

    def scored(one: tuple[Volume, list[int]]) -> tuple[list[Row], list[tuple[float, int]]]:
        own = None if loss is None else MeanLoss(loss.loss)
        masks = _predicted(model, *one, seen=own)
        rows = score_masks([(*one, masks)], dataset.label_space, surface=surface, slices=slices)
        return rows, [] if own is None else own.batches

    rows: list[Row] = []
    for some, batches in runtime().each(list(dataset.by_volume()), scored):
        rows += some
        if loss is not None:
            loss.batches += batches
    return rows


def score_files(masks: CaseMasks, read: Callable[[Source], Case], dataset: Dataset) -> list[Row]:
    """Rows of :func:`score_masks` for the very masks that would be written, on the voxels of the files.

    Where the preparation has a crop, ``outside_crop`` is the share of the label's voxels beyond it, all
    of which the mask misses; NaN without the structure. In 2D, surface measures are means over slices.

    Args:
        masks: of the model.
        read: the reader of the dataset's images.
        dataset: which of them are scored.
    """
    preparation, space, rows = masks.card.preparation, dataset.label_space, list[Row]()
    volumes = [volume for volume, _ in dataset.by_volume()]
    for volume in track(volumes, "predicting masks", len(volumes)):
        case = read(volume.source)
        if case.label is None:
            raise SegprefError(f"{case.id} has no label: only labelled cases can be scored")
        sliced = preparation.dims == 2 and case.image.ndim == 4

        def items(array: np.ndarray, sliced: bool = sliced) -> np.ndarray:
            return np.moveaxis(array, -1, 0) if sliced else array[None]

        # Surface distances are in voxels where an axis has no size.
        spacing = whole_spacing(case.spacing_mm, preparation.dims)
        label = case.label
        own = replace(volume, images=items(case.image), labels=items(label), spacing_mm=spacing)
        mask = items(masks(case, volume.source.images[0]))
        scored = score_masks(
            [(own, list(range(len(mask))), mask)],
            space,
            surface=True,
            slices=preparation.dims == 2,
        )
        if preparation.crop is not None:
            seen = masks.seen(case)
            parts = dict(zip(space.structures, space.structure_masks(label), strict=True))
            for row in scored:
                structure = parts[str(row["structure"])]
                size = int(structure.sum())
                missed = int((structure & ~seen).sum())
                row["outside_crop"] = missed / size if size else math.nan
        rows += scored
    return rows


def mean_of(rows: Sequence[Mapping[str, str | float]], column: str) -> dict[str, float]:
    """Mean of a column per structure over volumes; infinite and missing values are left out."""
    gathered: dict[str, list[float]] = {}
    for row in rows:
        value = float(row.get(column, math.nan))
        values = gathered.setdefault(str(row["structure"]), [])
        if math.isfinite(value):
            values.append(value)
    return {
        name: float(np.mean(values)) if values else math.nan for name, values in gathered.items()
    }


def mean_iou(rows: Sequence[Mapping[str, str | float]]) -> float:
    """The tables' IoU: per volume and structure, mean over volumes, then over structures."""
    return float(np.nanmean(list(mean_of(rows, "iou").values())))


def _predicted(
    model: Predictor,
    volume: Volume,
    items: Sequence[int],
    batch_size: int = 16,
    seen: Callable[[Volume, Sequence[int], Tensor], None] | None = None,
) -> np.ndarray:
    """Masks ``[item, field, *space]`` of some items of a volume."""
    parts = []
    for start in range(0, len(items), batch_size):
        some = items[start : start + batch_size]
        logits = model.logits(torch.from_numpy(np.asarray(volume.images[some])))
        if seen is not None:
            seen(volume, some, logits)
        parts.append(model.label_space.decode(logits).cpu().numpy())
    return np.concatenate(parts)


def _slice_iou(masks: np.ndarray, truth: np.ndarray, label_space: LabelSpace) -> np.ndarray:
    each = np.concatenate(
        [
            iou(overlap_counts(mask[None], label, label_space), math.nan)
            for mask, label in zip(masks, truth, strict=True)
        ]
    )
    return _mean_over_items(each)


def _surface(
    masks: np.ndarray,
    truth: np.ndarray,
    label_space: LabelSpace,
    spacing_mm: tuple[float, ...] | None,
) -> dict[str, np.ndarray]:
    each = [
        surface_scores(mask, label, label_space, spacing_mm)
        for mask, label in zip(masks, truth, strict=True)
    ]
    if len(each) == 1:
        return each[0]
    return {
        name: _mean_over_items(
            np.stack([np.where(np.isfinite(scores[name]), scores[name], np.nan) for scores in each])
        )
        for name in each[0]
    }


def _mean_over_items(values: np.ndarray) -> np.ndarray:
    valid = ~np.isnan(values)
    total = np.where(valid, values, 0).sum(axis=0)
    return np.where(valid.any(axis=0), total / np.maximum(valid.sum(axis=0), 1), np.nan)
