"""The model and the images that votes are about, opened and checked for the commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.collect import StudyVotes
from segpref.data import ANY_SERIES, Cache, Dataset, SeriesRule, Split, images_for, prepare
from segpref.data.splits import split_beside
from segpref.preferences import AbstainingJudge
from segpref.types import SegprefError
from segpref.workflows.collect_inputs import refuse_drawing
from segpref.workflows.inputs import Inputs, open_inputs
from segpref.workflows.loading import open_trained
from segpref.workflows.options import DataOptions, TrainedModel
from segpref.workflows.readers import refuse_labels_of_nothing

__all__ = ["open_vote_inputs", "voted_images"]


def open_vote_inputs(
    votes: StudyVotes,
    model: Path | None,
    data: Any,
    where: DataOptions,
    opening: TrainedModel,
    cache: Cache,
    pool: Path | str | None,
    series: SeriesRule = ANY_SERIES,
) -> tuple[Path, Inputs]:
    """Open the model that made the masks, and the images that were voted on.

    Args:
        votes: of some studies.
        model: as given; the copy that the first study keeps where None.
        data: folder of the dataset; None where the study was made of a pool alone.
        where: data, split and cache.
        opening: what may be opened.
        cache: of prepared images.
        pool: folder of images without labels.
        series: which DICOM series of the pool are images.

    Raises:
        SegprefError: another model than the one that made the masks; or what does not fit together.
    """
    refuse_labels_of_nothing(where, data)
    base = votes.model if model is None else model
    if where.split is None and split_beside(base) is None and split_beside(votes.model) is not None:
        where = replace(where, split=split_beside(votes.model))
    if data is None:
        inputs = _without_data(base, opening, cache, pool, series)
    else:
        inputs = open_inputs(
            base, data, AbstainingJudge(), where, opening, cache, pool, series=series
        )
    refuse_drawing(inputs.card, base)
    digest = "+".join(one.digest() for one in inputs.model.policies())
    if digest != votes.model_digest:
        raise SegprefError(
            f"{base} is not the model that made the masks that were voted on: leave --model out to "
            f"take {votes.model}, or give the model of the study"
        )
    return base, inputs


def voted_images(inputs: Inputs, cache: Cache) -> Sequence[Dataset]:
    """Where the images that were voted on may be: the dataset, and the pool where there is one."""
    if inputs.pool is None:
        return [inputs.dataset]
    card = inputs.card
    more = prepare(
        inputs.pool, card.preparation, cache, card.label_space, orientation=card.orientation
    )
    return [inputs.dataset, more]


def _without_data(
    base: Path, opening: TrainedModel, cache: Cache, pool: Path | str | None, series: SeriesRule
) -> Inputs:
    if pool is None:
        raise SegprefError("the images that were voted on are needed: give --data, or --pool")
    opened = open_trained(base, opening)
    card = opened.card
    images = images_for(pool, card.channels, series)
    dataset = prepare(
        images, card.preparation, cache, card.label_space, orientation=card.orientation
    )
    split = Split(train=dataset.patients, judge=(), validation=(), test=())
    return Inputs(opened, images, dataset, AbstainingJudge(), (), split, None)
