"""Scores of automatic judges for the masks of a study that people voted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segpref.collect import Contents, SlatesByCase, StudyFolder
from segpref.data import Cache, Dataset
from segpref.policies import ModelCard
from segpref.preferences import Scoring
from segpref.types import PreparedJudge, SegprefError
from segpref.workflows.loading import open_judge, open_trained, prepared_for
from segpref.workflows.options import DataOptions, TrainedModel

__all__ = ["scores_of_judges"]


def scores_of_judges(
    study: StudyFolder,
    contents: Contents,
    judges: Sequence[Any],
    data: Path | str,
    where: DataOptions,
    opening: TrainedModel,
) -> dict[str, Mapping[str, float]]:
    """What each judge gives the masks of a study's standing sets, by the masks' ids.

    Args:
        study: the folder.
        contents: what it asks.
        judges: named as for ``align``.
        data: folder of the dataset that the images are of.
        where: data and cache.
        opening: what may be opened.

    Raises:
        SegprefError: none of the images is in the dataset, or a judge does not fit.
    """
    opened, cache = open_trained(study.base, opening), Cache(where.cache)
    card, reader, dataset = prepared_for(opened, data, where, cache)
    places = {case.id: place for place, case in enumerate(dataset.without_labels())}
    found: dict[str, Mapping[str, float]] = {}
    for named in judges:
        judge, _ = open_judge(named, card, reader, cache, opening.trust, labelled=opening.labelled)
        scores: dict[str, float] = {}
        for folder, cases in (
            (study.slates, study.train_cases),
            (study.held_out, study.held_out_cases),
        ):
            if cases and all(case in places for case in cases):
                pool = dataset.take([places[case] for case in cases])
                if isinstance(judge, PreparedJudge):
                    judge.prepare(pool)
                scores |= _scores(folder, pool, Scoring(judge), contents, card)
        if not scores:
            raise SegprefError(
                f"{data} holds none of the images that {study.path} asks about: give --data the "
                "dataset that the study was made of"
            )
        found[_name(named)] = scores
    return found


def _scores(
    folder: Path, pool: Dataset, scoring: Scoring, contents: Contents, card: ModelCard
) -> dict[str, float]:
    kept = SlatesByCase.of_set(folder)
    items = {item.id: item.case for item in contents.items}
    fields = _fields(contents)
    masks: dict[str, list[tuple[str, int, int]]] = {}
    for mask in contents.masks:
        where = (mask.id, mask.candidate, fields.get(mask.id, 0))
        masks.setdefault(items[mask.item], []).append(where)
    found = {}
    seen = pool if scoring.judge.needs_label else pool.without_labels()
    for place in range(len(pool)):
        case = seen[place]
        (scored,) = scoring([case], [kept.slate(case.id)])
        for name, candidate, field in masks.get(case.id, ()):
            found[name] = float(scored.scores[candidate, field])
    return found


def _fields(contents: Contents) -> dict[str, int]:
    """Which field of a mask is asked about."""
    return {name: pair.field_index or 0 for pair in contents.pairs for name in pair.masks}


def _name(judge: Any) -> str:
    return Path(judge).name if isinstance(judge, str | Path) else type(judge).__name__
