"""Backups: taken while people vote, restored into either kind of database, equal row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.vote_studies import Clock, ballot, made_store, opened, small_contents, vote_all, welcome

from segpref.collect import TABLES, Rules, VoteStore
from segpref.types import SegprefError


def rows(store: VoteStore) -> dict[str, list[Any]]:
    """Everything that a database holds."""
    with store.reading() as connection:
        return {
            name: [
                tuple(row)
                for row in connection.execute(table.select().order_by(*table.primary_key))
            ]
            for name, table in TABLES.tables.items()
        }


def voted(where: str) -> VoteStore:
    """A study with all that may be in one."""
    clock = Clock()
    contents = small_contents(12, practice=1, gold=2, votes=2)
    rules = Rules(sitting=5, repeats=0.3)
    store = made_store(where, contents, clock=clock, rules=rules)
    anna, ben = welcome(store, "Åsa"), welcome(store, "ben")
    vote_all(store, anna)
    vote_all(store, ben, most=4)
    clock.pass_minutes(31)
    vote_all(store, anna)
    store.undo(anna, store.last_vote(anna) or "")
    given = opened(store, ben)
    assert given is not None
    told = ballot(given, "tie", window=(0.1, 1e-9), voted_at=clock(), slices_seen={"axial": [1]})
    store.vote(ben, told)
    store.note("a monitor was replaced")
    store.revoke("ben")
    store.add_rater("cleo")
    return store


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "restored.sqlite")
        return
    with request.getfixturevalue("postgresql").empty_database() as url:
        yield url


@pytest.mark.slow
def test_a_backup_restores_everything(vote_database: str, empty_place: str, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite"
    with voted(vote_database) as store:
        store.backup(backup)
        before = rows(store)
    assert sorted(path.name for path in tmp_path.glob("*backup*")) == ["backup.sqlite"]
    assert backup.stat().st_mode & 0o77 == 0
    content = backup.read_bytes()
    assert all(before[name] for name in before if name != "erasing")
    with VoteStore.restore(backup, empty_place) as restored:
        assert rows(restored) == before
        with pytest.raises(SegprefError, match="holds a study already: choose an empty database"):
            VoteStore.restore(backup, empty_place)
        # Voting goes on, with numbers above the old ones, and votes are kept there, too.
        vote_all(restored, welcome(restored, "dora"))
        assert max(row.id for row in restored.votes()) > max(row[0] for row in before["vote"])
        with pytest.raises(Exception, match="never changed"), restored.writing() as connection:
            connection.exec_driver_sql("DELETE FROM vote")
    assert backup.read_bytes() == content


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    place = tmp_path / "kept.sqlite"
    place.write_text("mine")
    with made_store(str(tmp_path / "votes.sqlite")) as store:
        with pytest.raises(SegprefError, match="is there already: choose another name"):
            store.backup(place)
        with pytest.raises(SegprefError, match="can't be written"):
            store.backup(tmp_path / "no" / "backup.sqlite")
    assert place.read_text() == "mine"
    assert not list(tmp_path.glob(".*partial*"))


def test_what_is_no_backup_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    text, other, cut = (tmp_path / f"{name}.sqlite" for name in ("text", "other", "cut"))
    text.write_text("no database" * 1000)
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE votes (words TEXT)")
    made.close()
    with made_store(str(tmp_path / "votes.sqlite"), small_contents(50)) as store:
        store.backup(cut)
    cut.write_bytes(cut.read_bytes()[:-40_000])
    target = tmp_path / "target.sqlite"
    for path, says in (
        (tmp_path / "none.sqlite", "there is no file"),
        (text, "no SQLite database"),
        (other, "is no backup of votes"),
        (cut, "damaged"),
    ):
        with pytest.raises(SegprefError, match=says):
            VoteStore.restore(path, target)
        assert not list(tmp_path.glob("target*"))


def test_a_backup_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with made_store(str(tmp_path / "votes.sqlite")) as store:
        store.backup(tmp_path / "backup.sqlite")
    with sqlite3.connect(tmp_path / "backup.sqlite") as made:
        made.execute("UPDATE study SET schema_version = 2")
    made.close()
    with pytest.raises(SegprefError, match="by a later version of segpref"):
        VoteStore.restore(tmp_path / "backup.sqlite", tmp_path / "target.sqlite")


def test_a_backup_is_of_one_time(tmp_path: Path) -> None:
    with made_store(str(tmp_path / "votes.sqlite"), small_contents(10)) as store:
        anna = welcome(store)
        for number in range(3):
            vote_all(store, anna, most=2)
            store.backup(tmp_path / f"{number}.sqlite")
        found = [list(VoteStore.of_file(tmp_path / f"{n}.sqlite").votes()) for n in range(3)]
        assert [len(one) for one in found] == [2, 4, 6]
        assert found[2] == list(store.votes())


def test_votes_are_imported_row_by_row(vote_database: str, tmp_path: Path) -> None:
    with voted(str(tmp_path / "old.sqlite")) as store:
        before, contents, rules = list(store.votes()), store.contents(), store.rules
    with made_store(vote_database, contents, rules=rules) as restored:
        assert restored.restore_votes(before) == len(before)
        assert list(restored.votes()) == before
        assert restored.preferences()
        with pytest.raises(SegprefError, match="has votes already"):
            restored.restore_votes(before)
        vote_all(restored, welcome(restored, "dora"))
        assert len(list(restored.votes())) > len(before)
    with made_store(str(tmp_path / "other.sqlite"), small_contents(1)) as other:
        with pytest.raises(SegprefError, match="about a pair that this study does not have"):
            other.restore_votes(before)
        assert list(other.votes()) == []
