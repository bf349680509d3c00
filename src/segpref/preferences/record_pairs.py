"""Converts mined pairs to preference records, and records to training pairs."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segpref.checking import checked
from segpref.preferences.candidates import content_id, content_ids
from segpref.preferences.exchange_folder import save_mask
from segpref.preferences.filters import distinct, latest
from segpref.preferences.miners import Mined
from segpref.preferences.record import Preference
from segpref.preferences.store import PreferenceStore
from segpref.types import LabelSpace, Objective, Pairs, SegprefError, Slate

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
    are 1 where nothing was said. A preference for one structure of an exclusive label map is about the
    pixels that one of the two masks counts to it and the other does not, and says nothing of others.

    Args:
        records: from any source, about any cases.
        cases: ids of the batch's cases.
        slates: one per case, such as those that the records were made of.
        label_space: what the masks mean.

    Returns:
        The pairs; of how many records about these cases (``fields``); and how many of these gave none,
        by reason: ``tie``, ``both-bad``, ``cant-tell``, ``single`` (accept or reject), ``structure``
        (the two masks do not differ in what was asked), or ``elsewhere`` (a candidate is not in the
        slate).

    Raises:
        SegprefError: a record names a field or a structure that the labels don't have.
    """
    return RecordedPairs.of(records, repeats=True)(cases, slates, label_space)


@dataclass(frozen=True)
class RecordedPairs:
    """Preferences of judges or people to learn from, in the place of a miner's.

    Args:
        by_case: the records about each case, by its id.
        flip_rates: how often each rater is wrong, from 0 to 1/2; None where that is not known.
        objective: what its records are for, which says by ``soft_targets`` whether ties are learned
            from, and by ``single_masks`` whether accepted and rejected masks are.
    """

    by_case: Mapping[str, Sequence[Preference]]
    flip_rates: Mapping[str, float] | None = None
    objective: Objective | None = None

    @classmethod
    def of(
        cls,
        records: Iterable[Preference],
        *,
        repeats: bool = False,
        flip_rates: Mapping[str, float] | None = None,
    ) -> RecordedPairs:
        """Records that were read from a store.

        Args:
            records: in the order in which they were said.
            repeats: whether what one rater said twice of two candidates counts twice; the last word
                counts otherwise.
            flip_rates: how often each rater is wrong; a rater who is not named is never.

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
        return cls(by_case, flip_rates)

    def digest(self) -> str:
        """Hash of the records, in the order in which they count, and of the raters' flip rates."""
        told: dict[str, Any] = {
            case: [one.to_json() for one in own] for case, own in self.by_case.items()
        }
        if self.flip_rates is not None:
            told = {"records": told, "flip_rates": dict(self.flip_rates)}
        return hashlib.blake2b(
            json.dumps(told, sort_keys=True).encode(), digest_size=16
        ).hexdigest()

    def says_nothing(self, record: Preference) -> str | None:
        """Why a record is no pair for this objective, whatever the slates; None where it can be one."""
        if record.choice in ("both-bad", "cant-tell"):
            return record.choice
        if record.choice == "tie" and not self._ties:
            return "tie"
        return "single" if len(record.candidates) == 1 and not self._singles else None

    @property
    def _singles(self) -> bool:
        return bool(getattr(self.objective, "single_masks", False))

    @property
    def _ties(self) -> bool:
        return bool(getattr(self.objective, "soft_targets", False)) and not self._singles

    @cached_property
    def _any_tie(self) -> bool:
        return any(one.choice == "tie" for own in self.by_case.values() for one in own)

    def __call__(
        self, cases: Sequence[str], slates: Sequence[Slate], label_space: LabelSpace
    ) -> Mined:
        """The pairs of a batch; see :func:`pairs_from`.

        A tie is a pair with the target 1/2, where the objective reads targets. For an objective of
        single masks an accepted or rejected mask is a pair with the anchor, and a choice between two
        masks is an accepted mask and a rejected one.

        Args:
            cases: ids of the batch's cases.
            slates: one per case.
            label_space: what the masks mean.
        """
        count, skipped = 0, Counter[str](dict.fromkeys(_REASONS, 0))
        rows: list[tuple[int, ...]] = []
        numbers: list[tuple[float, float, float, float]] = []
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
                pairs = self._rows(record, places)
                if isinstance(pairs, str):
                    skipped[pairs] += 1
                    continue
                made = [
                    (field, better, worse, structure, target, record)
                    for better, worse, target in pairs
                    for field, structure in _fields(record, slate, (better, worse), label_space)
                ]
                skipped["structure"] += not made
                found += made
            for field, *places_, target, record in sorted(found, key=lambda one: one[0]):
                rows.append((row, field, *places_))
                flip = (self.flip_rates or {}).get(record.rater or "", 0.0)
                numbers.append((record.strength or 1.0, record.confidence or 1.0, target, flip))
        return Mined(self._pairs(rows, numbers), fields=count, skipped=dict(skipped))

    def _pairs(
        self, rows: Sequence[tuple[int, ...]], numbers: Sequence[tuple[float, ...]]
    ) -> Pairs:
        """With the columns that these records need, the same ones in every batch and process."""
        image, number, winner, loser, structure = np.array(rows, np.int64).reshape(-1, 5).T.copy()
        gap, weight, target, flip = np.array(numbers, np.float64).reshape(-1, 4).T.copy()
        return Pairs(
            image,
            number,
            winner,
            loser,
            gap,
            weight=None if (weight == 1).all() else weight,
            target=target if self._singles or (self._ties and self._any_tie) else None,
            flip_rate=None if self.flip_rates is None else flip,
            structure=None if (structure < 0).all() else structure,
        )

    def _rows(
        self, record: Preference, places: Mapping[str, int]
    ) -> list[tuple[int, int, float]] | str:
        """Winner, loser and target of each pair that a record is, or why it is none."""
        ids, choice = record.candidates, record.choice
        if (reason := self.says_nothing(record)) is not None:
            return reason
        if not all(one in places for one in ids):
            return "elsewhere"
        if len(ids) == 1:
            return [(places[ids[0]], 0, float(choice == "accept"))]
        if choice == "tie":
            return [(places[ids[0]], places[ids[1]], 0.5)]
        assert record.winner is not None
        assert record.loser is not None
        better, worse = places[record.winner], places[record.loser]
        return [(better, 0, 1.0), (worse, 0, 0.0)] if self._singles else [(better, worse, 1.0)]


@checked()
@dataclass(frozen=True)
class KeepPairs:
    """Keeps what a miner finds as records.

    Args:
        store: where they go.
        source: name of the judge.
        masks: folder in which the masks that they are about are kept; None for none.
    """

    store: PreferenceStore
    source: str
    masks: Path | None = None

    def __call__(
        self,
        pairs: Pairs,
        cases: Sequence[str],
        slates: Sequence[Slate],
        label_space: LabelSpace,
    ) -> None:
        """Add the pairs of a batch; they are on the disk when this returns."""
        if self.masks is not None:
            for case, *both in zip(pairs.case, pairs.winner, pairs.loser, strict=True):
                for place in both:
                    mask = slates[case].masks[place]
                    save_mask(self.masks, mask, content_id(mask))
        self.store.append(preferences_of(pairs, cases, slates, label_space, self.source))


def _fields(
    record: Preference, slate: Slate, pair: tuple[int, int], space: LabelSpace
) -> list[tuple[int, int]]:
    """The fields in which a record's pair counts, each with the structure it is about or -1.

    Of the anchor, which is judged as a whole, all fields count that are asked about.
    """
    winner, loser = (slate.masks[place] for place in pair)
    asked, structure = range(space.fields), -1
    if record.field is not None:
        if record.field >= space.fields:
            raise _unknown(record, f"field {record.field}", f"{space.fields} fields")
        asked = range(record.field, record.field + 1)
    if record.structure is not None:
        if record.structure not in space.structures:
            names = ", ".join(space.structures)
            raise _unknown(record, f"the structure {record.structure!r}", names)
        place = space.structures.index(record.structure)
        if space.kind == "multi-label":
            asked = range(place, place + 1) if place in asked else range(0)
        elif not np.array_equal(
            *(space.structure_masks(one)[place] for one in (winner, loser))
        ) or (pair[0] == pair[1] and len(record.candidates) == 1):
            structure = place
        else:
            return []
    whole = len(record.candidates) == 1 and pair[0] == pair[1]
    return [(f, structure) for f in asked if whole or not np.array_equal(winner[f], loser[f])]


def _unknown(record: Preference, what: str, there: str) -> SegprefError:
    return SegprefError(
        f"a preference of {record.source} about case {record.case} names {what}, and the labels have "
        f"{there}: correct it, or give the dataset that it is about"
    )
