"""The inputs of an alignment or an audit: model, dataset, judge and split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segpref.cluster import RayPool
from segpref.data import ANY_SERIES, Cache, Dataset, Reader, SeriesRule, Split, images_for
from segpref.data.splits import split_beside
from segpref.judges import NamedJudge
from segpref.policies import ModelCard
from segpref.policies.model_formats import OpenModel
from segpref.proposals import Families
from segpref.types import Judge
from segpref.workflows.loading import (
    families_with,
    open_judge,
    open_split,
    open_trained,
    prepared_for,
    refuse_itself,
    refuse_own_weights,
)
from segpref.workflows.options import DataOptions, TrainedModel

__all__ = ["Inputs", "open_inputs"]


@dataclass(frozen=True)
class Inputs:
    """The inputs of an alignment or an audit; made by :func:`open_inputs`.

    Args:
        model: whose candidates are scored; its card names the dataset's patients that trained it.
        reader: the dataset.
        dataset: its cases, prepared for the model.
        judge: scores candidates.
        judged: patients whose labels the judge was trained with.
        split: patients for training, judge, validation and test.
        pool: images besides the dataset's.
    """

    model: OpenModel
    reader: Reader
    dataset: Dataset
    judge: Judge
    judged: tuple[str, ...]
    split: Split
    pool: Reader | None = None

    @property
    def card(self) -> ModelCard:
        """The model's."""
        return self.model.card

    @property
    def seen(self) -> set[str]:
        """Patients whose labels the model or the judge has learned from."""
        return {*self.card.labelled, *self.judged}

    def families(
        self, families: Families, others: Sequence[Path] | None, candidates: int, cache: Cache
    ) -> Families:
        """Families of candidates, with the masks of these folders; see :func:`families_with`."""
        readers = [self.reader] if self.pool is None else [self.reader, self.pool]
        return families_with(families, others, candidates, self.card, readers, cache)


def open_inputs(
    model: Path,
    data: Reader | Path | str,
    judge: Judge | NamedJudge | Sequence[Any] | os.PathLike[str] | str,
    where: DataOptions,
    opening: TrainedModel,
    cache: Cache,
    pool: Path | str | None = None,
    workers: RayPool | None = None,
    series: SeriesRule = ANY_SERIES,
) -> Inputs:
    """Open a model, a dataset for it, which workers may prepare, a judge and a split.

    Of a pool of DICOM exports those series are images that the rule takes.

    Raises:
        SegprefError: what does not fit together.
    """
    refuse_itself(judge, model)
    opened = open_trained(model, opening)
    card, reader, dataset = prepared_for(opened, data, where, cache, workers)
    more = None if pool is None else images_for(pool, card.channels, series)
    scorer, judged = open_judge(judge, card, reader, cache, opening.trust, more, opening.labelled)
    refuse_own_weights(scorer, opened)
    seen = {*card.labelled, *judged}
    split = open_split(reader, where.split or split_beside(model), seen=seen)
    return Inputs(replace(opened, card=card), reader, dataset, scorer, judged, split, more)
