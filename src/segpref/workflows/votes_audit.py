"""What people said of the masks of a study, ready to be compared with the truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segpref.collect import VotesJudge
from segpref.data import Cache
from segpref.preferences import ScoredSlate
from segpref.types import LabelSpace, SegprefError
from segpref.workflows.options import DataOptions, TrainedModel
from segpref.workflows.votes import open_vote_inputs

__all__ = ["AskedSlates", "asked_slates"]


class AskedSlates(NamedTuple):
    """What was asked about labelled images.

    Args:
        slates: with what people said of them.
        label_space: what the masks mean.
        abstains_on: structures that nobody voted on.
    """

    slates: Iterable[ScoredSlate]
    label_space: LabelSpace
    abstains_on: Sequence[str]


def asked_slates(
    votes: Any,
    model: Any,
    data: Any,
    database: str | None,
    where: DataOptions,
    opening: TrainedModel,
    cache: Cache,
) -> AskedSlates:
    """The masks that people voted on, with their scores.

    Args:
        votes: a :class:`~segpref.collect.VotesJudge`, or folders of studies.
        model: that made the masks; the copy that the study keeps where None.
        data: folder of the dataset, or its reader.
        database: where the votes are, if not in the study's folder.
        where: data, split and cache.
        opening: what may be opened.
        cache: of prepared images.

    Raises:
        SegprefError: another model or dataset than the study's, or no label of any image.
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
    space = inputs.card.label_space
    return AskedSlates(judge.asked(inputs.dataset), space, judge.unvoted(space))
