"""Threads that write to SQLite at once share a commit: each is told what became of its own part."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, text
from tests.vote_studies import ballot, made_store, opened, small_contents, welcome

from segpref.collect import StoreFull, VoteStore
from segpref.types import SegprefError
from waiting import FAILED_S, until


def in_one_commit(store: VoteStore, *parts: Callable[[], object]) -> list[Future[object]]:
    """Run them in threads, which all wait in line before the first one may write."""
    turns = store.database._turns
    free, begun = threading.Event(), threading.Event()

    def first() -> None:
        with store.writing():
            begun.set()
            assert free.wait(FAILED_S)

    with ThreadPoolExecutor(len(parts) + 1) as pool:
        holding = pool.submit(first)
        assert begun.wait(FAILED_S)
        found = []
        for number, part in enumerate(parts, start=1):
            found.append(pool.submit(part))
            until(lambda number=number: turns._waiting == number)  # type: ignore[misc]
        free.set()
        holding.exception()  # its part may be lost with theirs
    return found


@pytest.fixture
def store(tmp_path: Path) -> VoteStore:
    return made_store(str(tmp_path / "votes.sqlite"), small_contents(12))


def commits(store: VoteStore) -> list[int]:
    """Grows with every commit of a transaction that writes."""
    found: list[int] = []

    @event.listens_for(store.database.engine, "commit")
    def _commit(connection: object) -> None:
        if connection.get_execution_options().get("writing"):  # type: ignore[attr-defined]
            found.append(1)

    return found


def test_those_in_line_share_a_commit_and_are_told_after_it(store: VoteStore) -> None:
    people = [welcome(store, f"rater {number}") for number in range(5)]
    given = [opened(store, one) for one in people]
    made = commits(store)
    votes = [ballot(one) for one in given if one is not None]
    done = in_one_commit(
        store,
        *(
            lambda who=who, vote=vote: store.vote(who, vote)
            for who, vote in zip(people, votes, strict=True)
        ),  # type: ignore[misc]
    )
    assert [one.result().progress.done for one in done] == [1] * 5  # type: ignore[attr-defined]
    assert len(made) == 1
    assert {row.uuid for row in store.votes()} == {one.uuid for one in votes}


def test_who_is_refused_leaves_nothing_and_the_others_are_stored(store: VoteStore) -> None:
    def refused() -> None:
        with store.writing() as connection:
            connection.execute(text("INSERT INTO note (at, text) VALUES ('2026-01-01', 'lost')"))
            raise SegprefError("refused here")

    done = in_one_commit(store, lambda: store.note("before"), refused, lambda: store.note("after"))
    with pytest.raises(SegprefError, match="refused here"):
        done[1].result()
    assert [done[0].result(), done[2].result()] == [None, None]
    assert sorted(words for _, words in store.notes()) == ["after", "before"]


def test_a_full_disk_is_told_to_all_whose_parts_are_lost(tmp_path: Path) -> None:
    place = str(tmp_path / "votes.sqlite")
    made_store(place, small_contents(12)).close()
    with VoteStore(place) as store:
        room = 2

        @event.listens_for(store.database.engine, "connect")
        def _limit(connection: sqlite3.Connection, _: object) -> None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count={pages + room}")

        anna = welcome(store)
        given = opened(store, anna)
        assert given is not None
        told = ballot(given)
        # It is the second part that is too large, and SQLite ends the transaction of both.
        done = in_one_commit(
            store, lambda: store.vote(anna, told), lambda: store.note("x" * 100_000)
        )
        for lost in done:
            with pytest.raises(StoreFull, match="its disk is full"):
                lost.result()
        assert list(store.votes()) == []
        assert store.progress(anna).done == 0
        room = 10_000
        store.close()
        assert not store.vote(anna, told).duplicate


def test_a_transaction_of_its_own_waits_for_those_before_it(store: VoteStore) -> None:
    erase = lambda: store.erase("patient-1", "consent was withdrawn")  # noqa: E731
    done = in_one_commit(store, lambda: store.note("before"), erase, lambda: store.note("after"))
    for one in done:
        one.result()
    words = [words for _, words in store.notes()]
    assert len(words) == 3
    assert {"before", "after"} < set(words)
