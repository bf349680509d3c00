"""Votes as preference records: by hand, for each mode and answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.vote_studies import ballot, made_store, opened, small_contents, vote_all, welcome

from segpref.collect import CONFIDENCE, Contents, Mask, Mode, VoteStore, preferences_from_votes

SAID = {
    "left": ("first",), "right": ("second",), "tie": ("tie",), "both-bad": ("both-bad",),
    "cant-tell": ("cant-tell",),
}  # fmt: skip


def store_of(tmp_path: Path, contents: Contents) -> VoteStore:
    return made_store(str(tmp_path / "votes.sqlite"), contents)


@pytest.mark.parametrize("choice", SAID)
def test_a_pair_gives_one_record(tmp_path: Path, choice: str) -> None:
    with store_of(tmp_path, small_contents(1)) as store:
        anna = welcome(store)
        given = opened(store, anna)
        assert given is not None
        store.vote(anna, ballot(given, choice, confidence=2))
        (record,) = store.preferences()
        (row,) = store.votes()
    assert record.candidates == tuple(mask.prepared_id for mask in given.masks)
    assert (record.choice,) == SAID[choice]
    assert (record.case, record.structure, record.field) == ("patient-0-normal0-case", "LV", 0)
    assert (record.source, record.rater, record.confidence) == ("votes", "anna", 2 / 3)
    assert record.time == row.stored_at


def test_how_sure_somebody_was_is_a_number() -> None:
    assert CONFIDENCE == {1: 1 / 3, 2: 2 / 3, 3: 1.0}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("best-0", {((0, 1), "first"), ((0, 2), "first"), ((0, 3), "first")}),
        ("best-2", {((0, 2), "second"), ((1, 2), "second"), ((2, 3), "first")}),
        ("none-good", {((i, j), "both-bad") for i in range(4) for j in range(i + 1, 4)}),
        ("cant-tell", {((i, j), "cant-tell") for i in range(4) for j in range(i + 1, 4)}),
    ],
)
def test_the_best_of_four_is_better_than_each_of_the_others(
    tmp_path: Path, choice: str, expected: set[tuple[tuple[int, int], str]]
) -> None:
    with store_of(tmp_path, small_contents(1, mode="best-of-four")) as store:
        anna = welcome(store)
        given = opened(store, anna)
        assert given is not None
        store.vote(anna, ballot(given, choice))
        found = store.preferences()
    ids = [mask.prepared_id for mask in given.masks]
    assert {(tuple(map(ids.index, one.candidates)), one.choice) for one in found} == expected
    assert len(found) == len(expected)


def test_one_mask_is_accepted_or_rejected(tmp_path: Path) -> None:
    with store_of(tmp_path, small_contents(3, mode="accept-reject")) as store:
        answers = iter(["accept", "reject", "cant-tell"])
        vote_all(store, welcome(store), lambda _: next(answers))
        found = store.vote_preferences()
    assert [one.choice for one in found.records] == ["accept", "reject"]
    assert all(len(one.candidates) == 1 for one in found.records)
    assert found.skipped == {"can't tell whether one mask is good enough": 1}


def test_what_is_known_is_never_learned_from(tmp_path: Path) -> None:
    with store_of(tmp_path, small_contents(4, gold=4, practice=2)) as store:
        vote_all(store, welcome(store))
        found = store.vote_preferences()
        rows = list(store.votes())
    known = sum(row.pair.use != "normal" for row in rows)
    assert known >= 2
    assert len(found.records) == 4
    assert found.skipped == {"gold or practice": known}
    assert all("normal" in one.case for one in found.records)


def test_evaluating_votes_are_apart(tmp_path: Path) -> None:
    contents = small_contents(4)
    uses = ("train", "choose", "evaluate", "evaluate")
    items = tuple(replace(one, use=use) for one, use in zip(contents.items, uses, strict=True))  # type: ignore[arg-type]
    with store_of(tmp_path, replace(contents, items=items)) as store:
        vote_all(store, welcome(store))
        cases = {
            use: {one.case for one in store.preferences(use)}  # type: ignore[arg-type]
            for use in ("train", "choose", "evaluate")
        }
        assert len(store.preferences()) == 2
        assert store.vote_preferences().skipped == {"of images for another use (evaluate)": 2}
    assert {use: len(found) for use, found in cases.items()} == {
        "train": 1, "choose": 1, "evaluate": 2,
    }  # fmt: skip
    assert cases["evaluate"] == {one.case for one in items[2:]}


@pytest.mark.parametrize(("mode", "left"), [("pair", 0), ("best-of-four", 2)])
def test_masks_that_are_one_in_the_prepared_grid_say_nothing(
    tmp_path: Path, mode: Mode, left: int
) -> None:
    contents = small_contents(1, mode=mode)

    def same(one: Mask) -> Mask:
        return (
            replace(one, prepared_id=contents.masks[0].prepared_id) if one.candidate == 1 else one
        )

    with store_of(tmp_path, replace(contents, masks=tuple(map(same, contents.masks)))) as store:
        anna = welcome(store)
        given = opened(store, anna)
        assert given is not None
        best = "left" if mode == "pair" else f"best-{given.sides.index(0)}"
        store.vote(anna, ballot(given, best))
        found = store.vote_preferences()
    assert len(found.records) == left
    assert found.skipped == {"the masks are one and the same in the prepared grid": 1}


def test_only_the_last_word_counts(tmp_path: Path) -> None:
    with store_of(tmp_path, small_contents(1)) as store:
        anna = welcome(store)
        (given,) = vote_all(store, anna)
        store.undo(anna, store.last_vote(anna) or "")
        assert store.preferences() == []
        store.vote(anna, ballot(given, "right", confidence=None))
        (record,) = preferences_from_votes(store.votes()).records
        assert (record.choice, record.confidence) == ("second", None)
        assert store.vote_preferences().skipped == {"taken back or superseded": 2}
