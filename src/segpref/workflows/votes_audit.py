"""What people said of the masks of a study, ready to be compared with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.collect import VotesJudge
from segpref.data import Cache, Dataset
from segpref.types import SegprefError
from segpref.workflows.options import DataOptions, TrainedModel
from segpref.workflows.votes import open_vote_inputs

__all__ = ["open_voted"]


def open_voted(
    votes: Any,
    model: Any,
    data: Any,
    database: str | None,
    where: DataOptions,
    opening: TrainedModel,
    cache: Cache,
) -> tuple[VotesJudge, Dataset]:
    """The judge that people are, and the images that they saw.

    Args:
        votes: a :class:`~segpref.collect.VotesJudge`, or folders of studies.
        model: that made the masks; the copy that the study keeps where None.
        data: folder of the dataset, or its reader.
        database: where the votes are, if not in the study's folder.
        where: data, split and cache.
        opening: what may be opened.
        cache: of prepared images.

    Raises:
        SegprefError: another model or dataset than the study's, or a database beside a judge.
    """
    if isinstance(votes, VotesJudge):
        if database is not None:
            raise SegprefError("a judge of votes knows its database: leave database out")
        judge = votes
    else:
        paths = [votes] if isinstance(votes, Path | str) else list(votes)
        judge = VotesJudge([Path(one) for one in paths], database)
    given = None if model is None else Path(model)
    _, inputs = open_vote_inputs(judge.votes, given, data, where, opening, cache, None)
    return judge, inputs.dataset
