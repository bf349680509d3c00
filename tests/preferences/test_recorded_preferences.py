"""From pairs to records and back, and what gives no pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_records import said

from segpref.objectives import DPO, KTO, BestOnly
from segpref.preferences import (
    NestedPairs,
    Preference,
    RandomPair,
    RecordedPairs,
    content_id,
    mine,
    pairs_from,
    preferences_of,
)
from segpref.types import Candidate, LabelSpace, Pairs, Region, SegprefError, Slate

HEART = LabelSpace("multi-class", ("background", "RV", "LV"))
CHEST = LabelSpace("multi-label", ("lungs", "heart"))


def slate(*masks: list[list[int]]) -> Slate:
    made = np.array(masks, np.uint8)[:, :, None, :]
    return Slate(made, tuple(Candidate(str(n)) for n in range(len(made))))


# One row of three pixels; [K, field, 1, 3].
HEARTS = slate([[0, 1, 2]], [[0, 1, 1]], [[1, 1, 2]], [[0, 1, 2]])
CHESTS = slate([[0, 1, 1], [0, 0, 1]], [[1, 1, 1], [0, 0, 1]], [[1, 1, 1], [1, 0, 1]])


def ids(of: Slate, *places: int) -> tuple[str, ...]:
    return tuple(content_id(of.masks[place]) for place in places)


def rows(pairs: Pairs) -> list[tuple[int, ...]]:
    columns = (pairs.case, pairs.field, pairs.winner, pairs.loser)
    return list(zip(*(one.tolist() for one in columns), strict=True))


@pytest.mark.parametrize("space", [HEART, CHEST], ids=lambda space: space.kind)
def test_mined_pairs_come_back_from_their_records(space: LabelSpace) -> None:
    rng = np.random.default_rng(0)
    fields = space.fields
    slates, scores = [], []
    for _ in range(20):
        masks = rng.integers(0, 2, (6, fields, 3, 3)).astype(np.uint8)
        slates.append(Slate(masks, (Candidate("made"),) * 6))
        scores.append(rng.random((6, fields)))
    cases = [f"p{n}" for n in range(20)]
    rngs = [np.random.default_rng(n) for n in range(20)]
    mined = mine(RandomPair(3), scores, rngs).pairs
    records = preferences_of(mined, cases, slates, space, "oracle")
    # Where masks agree in the field, nothing can be learned of them.
    differ = [
        n for n, (c, f, w, o) in enumerate(rows(mined))
        if not np.array_equal(slates[c].masks[w, f], slates[c].masks[o, f])
    ]  # fmt: skip
    found = pairs_from(records, cases, slates, space).pairs
    assert rows(found) == [rows(mined)[n] for n in differ]
    np.testing.assert_array_equal(found.gap, mined.gap[differ])
    assert found.weight is None
    assert {r.structure for r in records} <= ({None} if space is HEART else set(space.names))
    shuffled = list(reversed(records))
    again = pairs_from(shuffled, cases[::-1], slates[::-1], space).pairs
    assert sorted(rows(again)) == sorted((19 - c, *rest) for c, *rest in rows(found))


def test_a_miners_weights_are_no_part_of_what_was_said() -> None:
    mined = mine(NestedPairs(), [np.array([[3.0], [2.0], [1.0], [0.5]])], [np.random.default_rng()])
    assert mined.pairs.group is not None
    records = preferences_of(mined.pairs, ["p"], [HEARTS], HEART, "oracle")
    # The first and the last mask are the same: of these two, nothing was said.
    assert [r.candidates for r in records] == [ids(HEARTS, 1, 2)]
    assert records[0].strength == 1.0
    assert records[0].confidence is None


def test_strength_is_the_gap_and_confidence_the_weight() -> None:
    records = [
        said("second", ids(HEARTS, 1, 0), case="p"),
        said("first", ids(HEARTS, 1, 2), case="p", confidence=0.5, strength=0.25),
        said("first", ids(HEARTS, 1, 2), case="q"),
    ]
    mined = pairs_from(records, ["o", "p"], [CHESTS, HEARTS], HEART)
    # The second mask is there once, the first one twice: its first place counts.
    assert rows(mined.pairs) == [(1, 0, 0, 1), (1, 0, 1, 2)]
    assert mined.pairs.gap.tolist() == [1.0, 0.25]
    assert mined.pairs.weight is not None
    assert mined.pairs.weight.tolist() == [1.0, 0.5]
    assert mined.fields == 2


def test_what_gives_no_pair_is_counted() -> None:
    two, one = ids(HEARTS, 0, 1), ids(HEARTS, 0)
    records = [
        said("tie", two), said("both-bad", two), said("cant-tell", two), said("cant-tell", two),
        said("accept", one), said("reject", one), said("first", ("0" * 32, two[0])),
        said("first", ids(HEARTS, 0, 2), structure="LV"),
    ]  # fmt: skip
    mined = pairs_from(records, ["p1/s000"], [HEARTS], HEART)
    assert len(mined.pairs) == 0
    assert mined.pairs.case.dtype == np.int64
    assert mined.fields == 8
    assert mined.skipped == {
        "tie": 1, "both-bad": 1, "cant-tell": 2, "single": 2, "elsewhere": 1, "structure": 1,
    }  # fmt: skip
    nothing = pairs_from([], ["p1/s000"], [HEARTS], HEART)
    assert (len(nothing.pairs), nothing.fields) == (0, 0)


@pytest.mark.parametrize(
    ("space", "of", "places", "about", "fields"),
    [
        (CHEST, CHESTS, (0, 2), {}, [0, 1]),
        (CHEST, CHESTS, (0, 1), {}, [0]),
        (CHEST, CHESTS, (0, 2), {"structure": "heart"}, [1]),
        (CHEST, CHESTS, (0, 2), {"field": 0}, [0]),
        (CHEST, CHESTS, (0, 2), {"field": 1, "structure": "heart"}, [1]),
        (CHEST, CHESTS, (0, 2), {"field": 0, "structure": "heart"}, []),
        (CHEST, CHESTS, (0, 1), {"structure": "heart"}, []),
        # The masks differ in RV alone, in RV and LV.
        (HEART, HEARTS, (0, 2), {"structure": "RV"}, [0]),
        (HEART, HEARTS, (0, 2), {"structure": "LV"}, []),
        (HEART, HEARTS, (0, 1), {"structure": "LV"}, [0]),
        (HEART, HEARTS, (1, 2), {"structure": "LV"}, [0]),
        (HEART, HEARTS, (0, 1), {}, [0]),
    ],
)
def test_a_preference_counts_in_the_fields_that_it_is_about(
    space: LabelSpace,
    of: Slate,
    places: tuple[int, int],
    about: dict[str, object],
    fields: list[int],
) -> None:
    record = said("first", ids(of, *places), case="p", **about)
    mined = pairs_from([record], ["p"], [of], space)
    assert rows(mined.pairs) == [(0, field, *places) for field in fields]
    assert mined.skipped["structure"] == (not fields)


def test_a_region_is_a_structure_too() -> None:
    space = replace(HEART, regions=(Region("whole", (1, 2)), Region("LV", (2,))))
    record = said("first", ids(HEARTS, 0, 1), case="p", structure="LV")
    assert len(pairs_from([record], ["p"], [HEARTS], space).pairs) == 1
    with pytest.raises(SegprefError, match="the labels have whole, LV: correct it"):
        pairs_from([replace(record, structure="RV")], ["p"], [HEARTS], space)


@pytest.mark.parametrize("about", [{"structure": "spleen"}, {"field": 1}])
def test_what_the_labels_have_not_is_refused(about: dict[str, object]) -> None:
    record = said("first", ids(HEARTS, 0, 1), case="p", **about)
    with pytest.raises(SegprefError, match=r"about case p names .*, and the labels have"):
        pairs_from([record], ["p"], [HEARTS], HEART)


def test_the_last_word_counts() -> None:
    a, b = ids(HEARTS, 0, 1)

    def learned(*records: Preference) -> list[tuple[int, ...]]:
        return rows(RecordedPairs.of(records)(["p"], [HEARTS], HEART).pairs)

    first = said("first", (a, b), case="p", rater="x")
    assert learned(first, first) == [(0, 0, 0, 1)]
    assert learned(first, said("first", (b, a), case="p", rater="x")) == [(0, 0, 1, 0)]
    assert learned(first, said("cant-tell", (b, a), case="p", rater="x")) == []
    assert learned(first, said("second", (a, b), case="p", rater="y")) == [
        (0, 0, 0, 1), (0, 0, 1, 0),
    ]  # fmt: skip
    with pytest.raises(SegprefError, match="no preferences to learn from"):
        RecordedPairs.of([])


def test_a_tie_is_half_a_preference_to_an_objective_that_takes_it_so() -> None:
    records = [said("tie", ids(HEARTS, 1, 0), case="p"), said("first", ids(HEARTS, 1, 2), case="p")]
    of = RecordedPairs.of(records)
    mined = replace(of, objective=DPO())(["p"], [HEARTS], HEART)
    assert rows(mined.pairs) == [(0, 0, 1, 0), (0, 0, 1, 2)]
    assert mined.pairs.target is not None
    assert mined.pairs.target.tolist() == [0.5, 1.0]
    assert mined.skipped["tie"] == 0
    likelihood = replace(of, objective=BestOnly())(["p"], [HEARTS], HEART)
    assert (rows(likelihood.pairs), likelihood.skipped["tie"]) == ([(0, 0, 1, 2)], 1)
    # The columns are those of all records, so that every process has the same ones.
    elsewhere = replace(of, objective=DPO())(["q"], [HEARTS], HEART)
    assert elsewhere.pairs.target is not None
    assert RecordedPairs.of(records[1:])(["p"], [HEARTS], HEART).pairs.target is None


def test_single_masks_stand_against_the_anchor() -> None:
    records = [
        said("accept", ids(HEARTS, 2), case="p"), said("reject", ids(HEARTS, 0), case="p"),
        said("second", ids(HEARTS, 2, 1), case="p"), said("tie", ids(HEARTS, 1, 0), case="p"),
        said("accept", ids(HEARTS, 2), case="p", structure="LV"),
        said("accept", ids(HEARTS, 0), case="p", structure="LV"),
    ]  # fmt: skip
    mined = replace(RecordedPairs.of(records), objective=KTO())(["p"], [HEARTS], HEART)
    assert rows(mined.pairs) == [
        (0, 0, 2, 0),
        (0, 0, 0, 0),
        (0, 0, 1, 0),
        (0, 0, 2, 0),
        (0, 0, 0, 0),
    ]
    assert mined.pairs.target is not None
    assert mined.pairs.target.tolist() == [1, 0, 1, 0, 1]
    assert mined.pairs.structure is not None
    assert mined.pairs.structure.tolist() == [-1, -1, -1, -1, 1]
    # A mask whose LV is the anchor's is no other LV than it.
    assert (mined.skipped["tie"], mined.skipped["structure"]) == (1, 1)


def test_a_raters_flip_rate_is_that_of_the_pair() -> None:
    records = [
        said("first", ids(HEARTS, 1, 0), case="p", rater="A"),
        said("first", ids(HEARTS, 1, 0), case="p", rater="B"),
    ]
    pairs = RecordedPairs.of(records, flip_rates={"B": 0.3})(["p"], [HEARTS], HEART).pairs
    assert pairs.flip_rate is not None
    assert pairs.flip_rate.tolist() == [0.0, 0.3]
    assert RecordedPairs.of(records)(["p"], [HEARTS], HEART).pairs.flip_rate is None
