"""Filters of preference records, and how repeated ones are handled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from segpref.preferences.record import Choice, Preference, Question

__all__ = ["EVERYTHING", "Where", "distinct", "in_random_order", "latest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which preferences are asked for; whatever is None is no condition.

    Args:
        cases: ids of cases.
        sources: names of judges, or ``votes``.
        raters: who said it.
        since: said at this time or later, which a record without a time was not.
    """

    cases: Collection[str] | None = None
    sources: Collection[str] | None = None
    raters: Collection[str] | None = None
    since: datetime | None = None

    def __call__(self, record: Preference) -> bool:
        """Whether the record is asked for."""
        return (
            (self.cases is None or record.case in self.cases)
            and (self.sources is None or record.source in self.sources)
            and (self.raters is None or record.rater in self.raters)
            and (self.since is None or (record.time is not None and record.time >= self.since))
        )


EVERYTHING = Where()


def distinct(records: Iterable[Preference]) -> Iterator[Preference]:
    """The records without those that were there before, such as of steps that a run repeated."""
    seen = set[Preference]()
    for record in records:
        if record not in seen:
            seen.add(record)
            yield record


def latest(records: Iterable[Preference]) -> list[Preference]:
    """Of several answers of one rater to one question the last, in the order of the last ones."""
    found: dict[Question, Preference] = {}
    for record in records:
        found.pop(record.question, None)
        found[record.question] = record
    return list(found.values())


def in_random_order(records: Iterable[Preference], seed: int) -> list[Preference]:
    """The same questions with answers that say nothing: the control of what was said.

    Of two candidates the better one is drawn; of single masks as many are accepted as before, drawn at
    random. Ties and the like stay. Each answer is drawn once: a run learns the same ones in all epochs,
    as it does from answers that say something.

    Args:
        records: what was said.
        seed: of the draw.
    """
    rng, said = np.random.default_rng([seed, 0x766F7465]), list(records)
    single = [place for place, one in enumerate(said) if len(one.candidates) == 1]
    answers = [said[place].choice for place in single]
    for place, other in zip(single, rng.permutation(len(single)).tolist(), strict=True):
        said[place] = replace(said[place], choice=answers[other])
    turned = rng.random(len(said)) < 0.5
    other_way: dict[str, Choice] = {"first": "second", "second": "first"}
    return [
        replace(one, choice=other_way[one.choice]) if turn and one.choice in other_way else one
        for one, turn in zip(said, turned.tolist(), strict=True)
    ]
