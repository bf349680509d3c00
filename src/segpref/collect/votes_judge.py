"""A judge that says what people said of the masks of a study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from segpref.collect.kept_sets import SlatesByCase, cases_named, joined
from segpref.collect.study_votes import read_studies
from segpref.data.dataset import Dataset
from segpref.preferences import (
    Compared,
    Preference,
    ScoredSlate,
    bradley_terry,
    content_ids,
    distinct,
    latest,
)
from segpref.types import Case, LabelSpace, SegprefError, Slate

__all__ = ["VotesJudge"]


class VotesJudge:
    """Scores the masks that people voted on by what they said of them, and no others.

    Of the masks that were compared with each other about one structure, directly or through others,
    the score is ``1 / (1 + exp(-l))``, with ``l`` the log-strength by Davidson's Bradley-Terry model
    (:func:`~segpref.preferences.bradley_terry`; mean 0, so that 1/2 is as good as the others on
    average). Ties count, of several answers of one rater to one question the last; "both bad" and
    "can't tell" say nothing. Of masks that were accepted or rejected it is the share of raters who
    accepted.

    Scores of masks that were never compared with each other can't be set side by side. Where a slate
    holds several such groups, the largest has scores, and the judge abstains (NaN) on the others. So
    it does on images and structures that nobody voted on.

    The masks stand still: what a model proposes anew was never voted on. ``audit`` therefore measures
    this judge on the masks of the study (:meth:`asked`).

    Args:
        study: folder of a study, or of exported preferences; several of one model.
        database: where the votes are, if not in the study's folder.

    Raises:
        SegprefError: no study, or one without votes.
    """

    needs_label = False

    def __init__(self, study: Path | list[Path], database: str | None = None) -> None:
        self.paths = [Path(one) for one in (study if isinstance(study, list) else [study])]
        self.votes = read_studies(self.paths, database)
        self._groups = _groups([*self.votes.learned, *self.votes.held_out])

    def unvoted(self, space: LabelSpace) -> tuple[str, ...]:
        """Names of the structures that nobody voted on."""
        multi = space.kind == "multi-label"

        def about(group: _Group, number: int, name: str) -> bool:
            if group.structure is not None:
                return group.structure == name
            return group.field is None or not multi or group.field == number

        groups = [one for own in self._groups.values() for one in own]
        return tuple(
            name
            for number, name in enumerate(space.structures)
            if not any(about(one, number, name) for one in groups)
        )

    def prepare(self, dataset: Dataset) -> None:
        """Check that people voted on some of the images.

        Raises:
            SegprefError: on none of them.
        """
        if not any(dataset[place].id in self._groups for place in range(len(dataset))):
            raise SegprefError(
                f"nobody voted on any of these {len(dataset)} images: the votes of {self._named} "
                "are about images of its own, on which segpref audit --votes measures them"
            )

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Scores of the candidates that were voted on.

        Raises:
            SegprefError: people voted on this image, but not on any two of these masks.
        """
        scores = np.full(slate.masks.shape[:2], np.nan)
        if (groups := self._groups.get(case.id)) is None:
            return scores
        places = _places(slate)
        for field in range(len(slate.masks[0])):
            own = [one.within(places) for one in groups if one.field in (field, None)]
            best = max((one for one in own if one), key=len, default=None)
            for place, score in (best or {}).items():
                scores[place, field] = score
        if np.isnan(scores).all():
            raise SegprefError(
                f"none of these {len(slate)} masks of {case.id} was compared with another: votes are "
                f"about the masks of {self._named}, which segpref align --votes and segpref audit "
                "--votes take"
            )
        return scores

    def measurable(self, dataset: Dataset) -> Dataset:
        """The images that were voted on and have a label.

        Raises:
            SegprefError: the dataset lacks some of the images that were voted on.
        """
        pool = cases_named([dataset], self._slates.cases).labelled()
        return pool.take([place for place in range(len(pool)) if pool[place].id in self._groups])

    def asked(self, dataset: Dataset) -> Iterator[ScoredSlate]:
        """What was asked about labelled images: the model's own mask, and masks that were compared.

        One slate for each group of masks that were compared about one structure; the anchor has no
        score unless it is one of them.

        Args:
            dataset: holds the images that were voted on; those without a label are passed over.

        Raises:
            SegprefError: nobody said which mask is better; it lacks some of them, or has a label of
                none; or a folder does not say which masks are the model's own.
        """
        votes = self.votes
        for one in votes.folders:
            if any(record.case not in one.about["anchors"] for record in one.records):
                raise SegprefError(
                    f"{one.path} does not say which masks are the model's own, so what votes gain "
                    "over them is unknown: give the study, or a folder of segpref collect export"
                )
        asked = self.measurable(dataset)
        if not self._groups:
            raise SegprefError(
                f"none of {len(votes.learned) + len(votes.held_out)} votes in {self._named} says which "
                "mask is better, so there is nothing to measure: collect more (segpref collect report "
                "says what was answered)"
            )
        if not len(asked):
            raise SegprefError(
                f"none of the images that people voted on in {self._named} has a label, so what they "
                "said can't be compared with the truth: segpref collect report says how raters agree"
            )
        slates = self._slates
        for place in range(len(asked)):
            case = asked[place]
            slate = slates.slate(case.id)
            places = _places(slate)
            for group in self._groups[case.id]:
                if not (said := group.within(places)):
                    continue
                rows = [0, *(n for n in sorted(said) if n)]
                scores = np.full((len(rows), slate.masks.shape[1]), np.nan)
                columns = slice(None) if group.field is None else group.field
                for row, number in enumerate(rows):
                    scores[row, columns] = said.get(number, np.nan)
                part = Slate(slate.masks[rows], tuple(slate.candidates[n] for n in rows))
                yield ScoredSlate(case, part, scores, structure=group.structure)

    @cached_property
    def _slates(self) -> SlatesByCase:
        """The masks of all studies and folders."""
        votes = self.votes
        sets = [place for one in votes.studies for place in (one.slates, one.held_out)]
        return joined(
            [*map(SlatesByCase.of_set, sets), *map(SlatesByCase.of_folder, votes.folders)]
        )

    @property
    def _named(self) -> str:
        return " and ".join(map(str, self.paths))


@dataclass(frozen=True, slots=True)
class _Group:
    """Masks of one image that were compared about one structure.

    Args:
        field: of the masks; all where None.
        structure: name; all where None.
        scores: by content id.
        single: whether each was accepted or rejected by itself.
    """

    field: int | None
    structure: str | None
    scores: Mapping[str, float]
    single: bool

    def within(self, places: Mapping[str, int]) -> dict[int, float]:
        """Scores by place in a slate; none of one mask of several that were compared."""
        found = {places[name]: score for name, score in self.scores.items() if name in places}
        return found if len(found) > 1 or self.single else {}


def _places(slate: Slate) -> dict[str, int]:
    """The first place of every mask of a slate."""
    return {name: len(slate) - 1 - n for n, name in enumerate(reversed(content_ids(slate)))}


def _groups(records: Iterable[Preference]) -> dict[str, list[_Group]]:
    """What was said of each case, by groups that were compared."""
    asked: dict[tuple[str, int | None, str | None, bool], list[Preference]] = {}
    for one in latest(distinct(records)):
        if one.choice in ("first", "second", "tie", "accept", "reject"):
            key = (one.case, one.field, one.structure, len(one.candidates) == 1)
            asked.setdefault(key, []).append(one)
    found: dict[str, list[_Group]] = {}
    for (case, field, structure, single), own in asked.items():
        told = [_accepted(own)] if single else [_strengths(part) for part in _connected(own)]
        found.setdefault(case, []).extend(
            _Group(field, structure, scores, single) for scores in told
        )
    return found


def _accepted(records: Sequence[Preference]) -> dict[str, float]:
    said: dict[str, list[bool]] = {}
    for one in records:
        said.setdefault(one.candidates[0], []).append(one.choice == "accept")
    return {name: float(np.mean(own)) for name, own in said.items()}


def _connected(records: Sequence[Preference]) -> Iterator[list[Preference]]:
    """The records, split where no comparison links their masks; the largest part first."""
    parts: list[tuple[set[str], list[Preference]]] = []
    for one in records:
        names, own, apart = set(one.candidates), [one], []
        for part in parts:
            if part[0] & names:
                names |= part[0]
                own = [*part[1], *own]
            else:
                apart.append(part)
        parts = [*apart, (names, own)]
    yield from (own for _, own in sorted(parts, key=lambda part: -len(part[1])))


def _strengths(records: Sequence[Preference]) -> dict[str, float]:
    told = []
    for one in records:
        assert one.choice in ("first", "second", "tie")
        first, second = one.candidates
        told.append(Compared(first, second, one.choice, one.case, sided=False))
    fitted = bradley_terry(told, resamples=0).strength
    return {name: 1 / (1 + math.exp(-one.value)) for name, one in fitted.items()}
