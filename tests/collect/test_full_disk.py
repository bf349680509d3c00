"""A full disk stops voting with a sentence; no acknowledged vote is lost, none half-stored."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from tests.postgresql_cluster import PostgresqlCluster
from tests.vote_studies import ballot, made_store, opened, small_contents, welcome

from segpref.collect import StoreFull, VoteStore


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A disk of that size; the test is skipped where none can be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def vote_until_full(store: VoteStore) -> set[str]:
    """The uuids of the votes that were acknowledged until the disk was full."""
    anna, acknowledged = welcome(store), set[str]()

    def vote() -> None:
        while given := opened(store, anna):
            # Many slices, so that it does not take long.
            told = ballot(given, slices_seen={"axial": list(range(6000))})
            store.vote(anna, told)
            acknowledged.add(told.uuid)

    with pytest.raises(StoreFull, match="its disk is full; every vote that was acknowledged is"):
        vote()
    assert acknowledged
    return acknowledged


def check_nothing_is_half_stored(store: VoteStore, acknowledged: set[str]) -> None:
    rows = list(store.votes())
    assert {row.uuid for row in rows} == acknowledged
    assert store.progress(store.raters()[0]).done == len(rows)


def test_a_database_that_may_not_grow(tmp_path: Path) -> None:
    place = str(tmp_path / "votes.sqlite")
    made_store(place, small_contents(200)).close()
    with VoteStore(place) as store:
        limit = 120

        @event.listens_for(store.database.engine, "connect")
        def _limit(connection: object, _: object) -> None:
            connection.execute(f"PRAGMA max_page_count={limit}")  # type: ignore[attr-defined]

        acknowledged = vote_until_full(store)
        check_nothing_is_half_stored(store, acknowledged)
        # With space again, voting goes on.
        limit = 100_000
        store.close()
        anna = store.raters()[0]
        given = opened(store, anna)
        assert given is not None
        store.vote(anna, ballot(given))


@pytest.mark.slow
def test_a_disk_that_is_full_under_sqlite(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        with made_store(str(disk / "votes.sqlite"), small_contents(400)) as store:
            acknowledged = vote_until_full(store)
            check_nothing_is_half_stored(store, acknowledged)
            with pytest.raises(StoreFull):
                store.backup(disk / "backup.sqlite")
            assert [path.name for path in disk.iterdir() if "backup" in path.name] == []
        with VoteStore(disk / "votes.sqlite") as again:
            check_nothing_is_half_stored(again, acknowledged)


@pytest.mark.slow
def test_a_disk_that_is_full_under_postgresql(
    tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresqlCluster
) -> None:
    with small_disk(postgresql.folder / "small", 10) as disk:
        space = disk / "space"
        space.mkdir()
        if os.geteuid() == 0:
            shutil.chown(space, "postgres", "postgres")
        postgresql.run(f"CREATE TABLESPACE small LOCATION '{space}'")
        postgresql.run("CREATE DATABASE small TABLESPACE small")
        try:
            with made_store(postgresql.url("small"), small_contents(400)) as store:
                check_nothing_is_half_stored(store, vote_until_full(store))
        finally:
            postgresql.run("DROP DATABASE small WITH (FORCE)")
            postgresql.run("DROP TABLESPACE small")
