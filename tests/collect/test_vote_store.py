"""The vote store: what raters are given, what is stored, and what is refused."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest

from segpref.collect import (
    Conflict,
    Contents,
    NotYours,
    Rules,
    VoteIn,
    VoteStore,
    contents_digest,
)
from segpref.types import SegprefError
from vote_studies import Clock, ballot, made_store, opened, small_contents, vote_all, welcome


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def votes(vote_database: str, clock: Clock) -> Iterator[VoteStore]:
    with made_store(vote_database, clock=clock, random=Random(0)) as store:
        yield store


def test_what_a_study_asks_is_read_back(vote_database: str) -> None:
    contents = small_contents(4, gold=2, practice=1, mode="best-of-four")
    with VoteStore(vote_database) as store:
        assert store.contents_digest is None
        store.create(contents, Rules(repeats=0.2, sitting=7))
        assert store.contents() == contents
        assert store.contents_digest == contents_digest(contents)
        assert store.rules == Rules(repeats=0.2, sitting=7)
    with VoteStore(vote_database) as again:
        assert again.contents_digest == contents_digest(contents)
        with pytest.raises(SegprefError, match="holds a study already: choose an empty database"):
            again.create(contents)


def test_the_digest_is_of_the_contents_not_of_their_order() -> None:
    one = small_contents(3)
    assert contents_digest(one) == contents_digest(
        Contents(items=one.items[::-1], masks=one.masks[::-1], pairs=one.pairs[::-1])
    )
    changed = replace(one, pairs=(replace(one.pairs[0], votes=2), *one.pairs[1:]))
    assert contents_digest(one) != contents_digest(changed)


def test_a_pair_is_answered_once_and_read_back(votes: VoteStore, clock: Clock) -> None:
    anna = welcome(votes)
    given = opened(votes, anna)
    assert given is not None
    assert [one.id for one in given.masks] == [given.pair.masks[i] for i in given.sides]
    assert votes.next_assignment(anna) == votes.assignment(anna, given.id)  # until it is answered
    told = ballot(
        given, "right", confidence=3, shown_ms=1234, slices_seen={"axial": [0, 2]}, window=(40, 80.5),
        voted_at=datetime(2026, 3, 1, 9, 0, 0, 123456, timezone(timedelta(hours=1))),
    )  # fmt: skip
    stored = votes.vote(anna, told)
    assert not stored.duplicate
    assert (stored.progress.done, stored.progress.total) == (1, 6)
    (row,) = votes.votes()
    assert (row.rater, row.choice, row.confidence, row.shown_ms) == ("anna", "right", 3, 1234)
    assert (row.pair, row.item, row.sides) == (given.pair, given.item, given.sides)
    assert row.masks[row.chosen or 0] == given.masks[1]
    assert (row.stored_at, row.counts, row.slices_seen) == (clock(), True, {"axial": [0, 2]})


def test_the_same_vote_counts_once(votes: VoteStore) -> None:
    anna, given = welcome(votes), None
    given = opened(votes, anna)
    assert given is not None
    told = ballot(given, window=(1, 2), voted_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert not votes.vote(anna, told).duplicate
    assert votes.vote(anna, told).duplicate
    assert votes.vote(anna, replace(told, window=(1.0, 2.0))).duplicate
    assert len(list(votes.votes())) == 1
    for change in ({"choice": "tie"}, {"confidence": None}, {"shown_ms": 1}, {"window": None}):
        with pytest.raises(Conflict, match="this uuid but another content"):
            votes.vote(anna, replace(told, **change))  # type: ignore[arg-type]
    ben = welcome(votes, "ben")
    with pytest.raises(Conflict, match="uuid"):
        votes.vote(ben, told)
    with pytest.raises(Conflict, match="has your vote already"):
        votes.vote(anna, replace(told, uuid=str(uuid.uuid4())))
    assert [(row.choice, row.counts) for row in votes.votes()] == [("left", True)]


def test_no_vote_before_image_and_masks_were_shown(votes: VoteStore) -> None:
    anna = welcome(votes)
    given = votes.next_assignment(anna)
    assert given is not None
    for what in ("image", "masks"):
        with pytest.raises(Conflict, match="were not shown yet"):
            votes.vote(anna, ballot(given))
        votes.mark_opened(anna, given.id, what)
        votes.mark_opened(anna, given.id, what)
    votes.vote(anna, ballot(given))


def test_what_is_anothers_is_refused(votes: VoteStore) -> None:
    anna, ben = welcome(votes), welcome(votes, "ben")
    given = opened(votes, anna)
    assert given is not None
    told = ballot(given)
    for refused in (
        lambda: votes.assignment(ben, given.id),
        lambda: votes.mark_opened(ben, given.id, "image"),
        lambda: votes.vote(ben, told),
        lambda: votes.assignment(anna, "nothing"),
        lambda: votes.undo(anna, told.uuid),
    ):
        with pytest.raises(NotYours):
            refused()
    votes.vote(anna, told)
    with pytest.raises(Conflict, match="another vote has this uuid"):
        votes.undo(ben, told.uuid)
    with pytest.raises(NotYours):
        votes.undo(ben, str(uuid.uuid4()))
    assert votes.progress(anna).done == 1


def test_undo_is_a_row_and_the_next_vote_supersedes_it(votes: VoteStore) -> None:
    anna = welcome(votes)
    first, second = opened(votes, anna), None
    assert first is not None
    one = ballot(first)
    votes.vote(anna, one)
    second = opened(votes, anna)
    assert second is not None
    two = ballot(second, "tie")
    votes.vote(anna, two)
    assert votes.last_vote(anna) == two.uuid
    with pytest.raises(Conflict, match="only your last vote"):
        votes.undo(anna, one.uuid)
    assert votes.undo(anna, two.uuid).id == second.id
    assert votes.undo(anna, two.uuid).id == second.id  # as when the answer was lost on its way
    assert votes.progress(anna).done == 1
    assert votes.last_vote(anna) == one.uuid
    assert votes.undo(anna, one.uuid).id == first.id
    assert votes.next_assignment(anna) == votes.assignment(anna, first.id)
    assert votes.preferences() == []
    votes.vote(anna, ballot(first, "right"))
    votes.vote(anna, ballot(second, "both-bad"))
    with pytest.raises(Conflict, match="only your last vote"):
        votes.undo(anna, two.uuid)
    rows = list(votes.votes())
    assert [row.choice for row in rows] == ["left", "tie", "undo", "undo", "right", "both-bad"]
    assert [row.counts for row in rows] == [False, False, False, False, True, True]
    assert [one.choice for one in votes.preferences()] == ["second", "both-bad"]


def test_an_undo_has_a_uuid_of_its_own(votes: VoteStore) -> None:
    anna = welcome(votes)
    (given,) = vote_all(votes, anna, most=1)
    own = str(uuid.uuid4())
    assert votes.undo(anna, own).id == given.id
    assert votes.undo(anna, own).id == given.id
    assert [(row.choice, row.supersedes) for row in votes.votes()] == [("left", None), ("undo", 1)]
    assert [row.uuid for row in votes.votes()][1] == own
    with pytest.raises(Conflict, match="this uuid but another content"):
        votes.vote(anna, ballot(given, uuid=own))
    votes.vote(anna, ballot(given))
    with pytest.raises(Conflict, match="only your last vote"):
        votes.undo(anna, own)
    with pytest.raises(SegprefError, match="uuid has the form"):
        votes.undo(anna, "1")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"uuid": "1"}, "uuid has the form"),
    ({"uuid": "123E4567-E89B-42D3-A456-426614174000"}, "uuid has the form"),
    ({"choice": "undo"}, "none that can be made"),
    ({"choice": "accept"}, "can't be answered here: left, tie, both-bad, cant-tell, right"),
    ({"confidence": 4}, "confidence is 1, 2 or 3"),
    ({"confidence": True}, "confidence is 1, 2 or 3"),
    ({"shown_ms": -1}, "milliseconds"),
    ({"shown_ms": 2**40}, "milliseconds"),
    ({"slices_seen": {"oblique": [1]}}, "slices_seen"),
    ({"slices_seen": {"axial": [-1]}}, "slices_seen"),
    ({"window": (1.0,)}, "window is a centre and a width"),
    ({"window": (float("nan"), 1.0)}, "window is a centre and a width"),
    ({"voted_at": datetime(2026, 1, 1)}, "needs a time zone"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_values_that_mean_nothing_are_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with made_store(str(tmp_path / "votes.sqlite")) as store:
        anna = welcome(store)
        given = opened(store, anna)
        assert given is not None
        with pytest.raises(SegprefError, match=says):
            store.vote(anna, replace(ballot(given), **change))
        assert list(store.votes()) == []


def test_votes_are_never_changed(votes: VoteStore) -> None:
    vote_all(votes, welcome(votes))
    for statement in (
        "UPDATE vote SET choice = 'right'",
        "DELETE FROM vote",
        "DELETE FROM vote WHERE id = 1",
        *(["TRUNCATE vote CASCADE"] if votes.database.kind == "postgresql" else []),
    ):
        with (
            pytest.raises(Exception, match="never changed or deleted"),
            votes.writing() as connection,
        ):
            connection.exec_driver_sql(statement)
    assert len(list(votes.votes())) == 6


def test_a_revoked_rater_is_out_and_others_get_the_pair(vote_database: str) -> None:
    with made_store(vote_database, small_contents(1)) as store:
        anna, ben = welcome(store), welcome(store, "ben")
        given = opened(store, anna)
        assert given is not None
        assert store.next_assignment(ben) is None
        store.revoke("anna")
        with pytest.raises(SegprefError, match="anna was revoked"):
            store.vote(anna, ballot(given))
        with pytest.raises(SegprefError, match="anna was revoked"):
            store.next_assignment(anna)
        assert len(vote_all(store, ben)) == 1


def test_a_database_of_a_later_version_is_refused(vote_database: str) -> None:
    with made_store(vote_database) as store, store.writing() as connection:
        connection.exec_driver_sql("UPDATE study SET schema_version = 9")
    with VoteStore(vote_database) as later:
        for used in (lambda: later.contents_digest, later.contents):
            with pytest.raises(
                SegprefError, match=r"later version of segpref \(schema 9, .*update"
            ):
                used()


def test_places_that_hold_no_study_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.sqlite"
    with pytest.raises(SegprefError, match="there is no database"):
        VoteStore(missing).contents()
    assert not missing.exists()
    other = tmp_path / "text.sqlite"
    other.write_text("no database at all, but some text that is long enough" * 20)
    with pytest.raises(SegprefError, match="no SQLite database"):
        VoteStore(other).contents()
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as made:
        made.execute("CREATE TABLE note (words TEXT)")
    made.close()
    with pytest.raises(SegprefError, match="holds no study"):
        VoteStore(foreign).contents()
    with pytest.raises(SegprefError, match="holds a table 'note' already"):
        VoteStore(foreign).create(small_contents())
    for url, says in (
        ("mysql://host/votes", "not kept in 'mysql'"),
        ("://", "can't be read"),
        ("", "no name"),
    ):
        with pytest.raises(SegprefError, match=says):
            VoteStore(url)


def test_a_server_out_of_reach_is_a_sentence_without_the_password(tmp_path: Path) -> None:
    store = VoteStore(f"postgresql://me:secret@/votes?host={tmp_path}")
    with pytest.raises(SegprefError, match="can't be reached: check --database") as refused:
        store.contents()
    assert "secret" not in str(refused.value)


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    with made_store(str(tmp_path / "votes.sqlite")) as store:
        vote_all(store, welcome(store), most=1)
        assert {path.stat().st_mode & 0o77 for path in tmp_path.iterdir()} == {0}


def test_what_is_stored_is_synced(tmp_path: Path) -> None:
    with made_store(str(tmp_path / "votes.sqlite")) as store, store.reading() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        ]
    assert found == ["wal", 2, 1, 1]


def test_the_log_keeps_what_is_noted(votes: VoteStore, clock: Clock) -> None:
    votes.note("the monitor was replaced")
    assert votes.notes() == [(clock(), "the monitor was replaced")]


def test_modes_have_their_own_answers(tmp_path: Path) -> None:
    for mode, good, bad in (
        ("best-of-four", "best-3", "left"),
        ("accept-reject", "reject", "tie"),
        ("base-or-tuned", "both-bad", "best-0"),
    ):
        contents = small_contents(1, mode=mode)  # type: ignore[arg-type]
        with made_store(str(tmp_path / f"{mode}.sqlite"), contents) as store:
            anna = welcome(store)
            given = opened(store, anna)
            assert given is not None
            with pytest.raises(SegprefError, match="can't be answered here"):
                store.vote(anna, ballot(given, bad))
            store.vote(anna, VoteIn(uuid=str(uuid.uuid4()), assignment=given.id, choice=good))  # type: ignore[arg-type]
