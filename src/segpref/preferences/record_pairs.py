"""Converts mined pairs to preference records, and records to training pairs."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from jaxtyping import UInt8

from segpref.preferences.candidates import content_id, content_ids
from segpref.preferences.filters import distinct, latest
from segpref.preferences.miners import Mined
from segpref.preferences.record import Preference
from segpref.preferences.store import PreferenceStore
from segpref.types import LabelSpace, Pairs, SegprefError, Slate

__all__ = ["KeepPairs", "RecordedPairs", "pairs_from", "preferences_of"]

_REASONS = ("tie", "both-bad", "cant-tell", "single", "structure", "elsewhere")


def preferences_of(
    pairs: Pairs,
    cases: Sequence[str],
    slates: Sequence[Slate],
    label_space: LabelSpace,
    source: str,
    *,
    rater: str | None = None,
    time: datetime | None = None,
) -> list[Preference]:
    """Mined pairs as records, each with its gap as strength.

    Weights and groups of pairs are the miner's, not the judge's: they are left out.
    So is a pair of two equal masks, which says nothing.

    Args:
        pairs: of a batch.
        cases: ids of the batch's cases.
        slates: one per case.
        label_space: names the structure that a field is.
        source: name of the judge.
        rater: which of several judges.
        time: when.
    """
    ids: dict[tuple[int, int], str] = {}

    def named(case: int, candidate: int) -> str:
        if (case, candidate) not in ids:
            ids[case, candidate] = content_id(slates[case].masks[candidate])
        return ids[case, candidate]

    found = []
    columns = (pairs.case, pairs.field, pairs.winner, pairs.loser, pairs.gap)
    for case, field, winner, loser, gap in zip(*(one.tolist() for one in columns), strict=True):
        shown = named(case, winner), named(case, loser)
        if shown[0] != shown[1]:
            several = label_space.kind == "multi-label"
            record = Preference(
                case=cases[case],
                candidates=shown,
                choice="first",
                source=source,
                field=field,
                structure=label_space.names[field] if several else None,
                strength=gap,
                rater=rater,
                time=time,
            )
            found.append(record)
    return found


def pairs_from(
    records: Iterable[Preference],
    cases: Sequence[str],
    slates: Sequence[Slate],
    label_space: LabelSpace,
) -> Mined:
    """Records about the candidates of some slates as pairs, in the order of cases, fields, records.

    A choice of the first or the second candidate is a pair in every field that it is about and in which
    the two masks differ. Its gap is the record's strength and its weight the record's confidence; both
    are 1 where nothing was said. A preference for one structure of an exclusive label map is a pair
    only where the two masks differ in no other structure: the others would be learned with it.

    Args:
        records: from any source, about any cases.
        cases: ids of the batch's cases.
        slates: one per case, such as those that the records were made of.
        label_space: what the masks mean.

    Returns:
        The pairs; of how many records about these cases (``fields``); and how many of these gave none,
        by reason: ``tie``, ``both-bad``, ``cant-tell``, ``single`` (accept or reject), ``structure``
        (the two masks differ in others, or not in what was asked), or ``elsewhere`` (a candidate is not
        in the slate).

    Raises:
        SegprefError: a record names a field or a structure that the labels don't have.
    """
    return RecordedPairs.of(records, repeats=True)(cases, slates, label_space)


@dataclass(frozen=True)
class RecordedPairs:
    """Preferences of judges or people to learn from, in the place of a miner's.

    Args:
        by_case: the records about each case, by its id.
    """

    by_case: Mapping[str, Sequence[Preference]]

    @classmethod
    def of(cls, records: Iterable[Preference], *, repeats: bool = False) -> RecordedPairs:
        """Records that were read from a store.

        Args:
            records: in the order in which they were said.
            repeats: whether what one rater said twice of two candidates counts twice; the last word
                counts otherwise.

        Raises:
            SegprefError: there are none.
        """
        kept = list(records) if repeats else latest(distinct(records))
        if not kept and not repeats:
            raise SegprefError(
                "there are no preferences to learn from: check the file, and what is asked of it"
            )
        by_case: dict[str, list[Preference]] = {}
        for record in kept:
            by_case.setdefault(record.case, []).append(record)
        return cls(by_case)

    def digest(self) -> str:
        """Hash of the records, in the order in which they count."""
        told = {case: [one.to_json() for one in own] for case, own in self.by_case.items()}
        return hashlib.blake2b(
            json.dumps(told, sort_keys=True).encode(), digest_size=16
        ).hexdigest()

    def __call__(
        self, cases: Sequence[str], slates: Sequence[Slate], label_space: LabelSpace
    ) -> Mined:
        """The pairs of a batch; see :func:`pairs_from`."""
        count, skipped = 0, Counter[str](dict.fromkeys(_REASONS, 0))
        rows: list[tuple[int, int, int, int]] = []
        numbers: list[tuple[float, float]] = []
        for row, (case, slate) in enumerate(zip(cases, slates, strict=True)):
            own = self.by_case.get(case, ())
            if not own:
                continue
            count += len(own)
            places: dict[str, int] = {}
            for place, one in enumerate(content_ids(slate)):
                places.setdefault(one, place)
            found = []
            for record in own:
                pair = _pair(record, places)
                fields = (
                    pair if isinstance(pair, str) else _fields(record, slate, pair, label_space)
                )
                if isinstance(fields, str):
                    skipped[fields] += 1
                    continue
                found += [(field, *pair, record) for field in fields]
            for field, better, worse, record in sorted(found, key=lambda one: one[0]):
                rows.append((row, field, better, worse))
                numbers.append((record.strength or 1.0, record.confidence or 1.0))
        table = np.array(rows, np.int64).reshape(-1, 4)
        gap, weight = np.array(numbers, np.float64).reshape(-1, 2).T.copy()
        image, number, winner, loser = table.T.copy()
        pairs = Pairs(image, number, winner, loser, gap, None if (weight == 1).all() else weight)
        return Mined(pairs, fields=count, skipped=dict(skipped))


@dataclass(frozen=True)
class KeepPairs:
    """Keeps what a miner finds as records.

    Args:
        store: where they go.
        source: name of the judge.
    """

    store: PreferenceStore
    source: str

    def __call__(
        self,
        pairs: Pairs,
        cases: Sequence[str],
        slates: Sequence[Slate],
        label_space: LabelSpace,
    ) -> None:
        """Add the pairs of a batch; they are on the disk when this returns."""
        self.store.append(preferences_of(pairs, cases, slates, label_space, self.source))


def _pair(record: Preference, places: Mapping[str, int]) -> tuple[int, int] | str:
    """Winner and loser in the slate, or why there are none."""
    if record.winner is None or record.loser is None:
        return "single" if len(record.candidates) == 1 else record.choice
    if record.winner not in places or record.loser not in places:
        return "elsewhere"
    return places[record.winner], places[record.loser]


def _fields(
    record: Preference, slate: Slate, pair: tuple[int, int], space: LabelSpace
) -> list[int] | str:
    """The fields in which a record's pair counts, or why it counts in none."""
    winner, loser = (slate.masks[place] for place in pair)
    asked = range(space.fields)
    if record.field is not None:
        if record.field >= space.fields:
            raise _unknown(record, f"field {record.field}", f"{space.fields} fields")
        asked = range(record.field, record.field + 1)
    if record.structure is not None:
        if record.structure not in space.structures:
            names = ", ".join(space.structures)
            raise _unknown(record, f"the structure {record.structure!r}", names)
        if space.kind == "multi-label":
            place = space.names.index(record.structure)
            asked = range(place, place + 1) if place in asked else range(0)
        elif set(_differing(winner, loser, space)) != {record.structure}:
            return "structure"
    return [f for f in asked if not np.array_equal(winner[f], loser[f])] or "structure"


def _differing(
    winner: UInt8[np.ndarray, "field *space"],
    loser: UInt8[np.ndarray, "field *space"],
    space: LabelSpace,
) -> Iterator[str]:
    masks = zip(
        space.structures, space.structure_masks(winner), space.structure_masks(loser), strict=True
    )
    return (name for name, one, other in masks if not np.array_equal(one, other))


def _unknown(record: Preference, what: str, there: str) -> SegprefError:
    return SegprefError(
        f"a preference of {record.source} about case {record.case} names {what}, and the labels have "
        f"{there}: correct it, or give the dataset that it is about"
    )
