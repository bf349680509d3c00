"""A study's database: its tables, what it asks, its log, and transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, insert, select

from segpref.collect.backup import restore_backup, write_backup
from segpref.collect.contents import Contents
from segpref.collect.contents_rows import contents_digest, insert_contents, select_contents
from segpref.collect.database import Database, Lock
from segpref.collect.erasing import Erased, erase_patient, scrub
from segpref.collect.rules import Rules
from segpref.collect.tables import SCHEMA_VERSION, note, study
from segpref.types import SegprefError

__all__ = ["StudyDatabase", "now_utc"]


def now_utc() -> datetime:
    """What time it is."""
    return datetime.now(UTC)


class StudyDatabase:
    """A database that holds one study.

    Args:
        where: a SQLite file, or a URL such as ``postgresql://user@host/database``.
        clock: says what time it is, with a time zone.
    """

    def __init__(self, where: str | Path, *, clock: Callable[[], datetime] = now_utc) -> None:
        self.database = Database(where)
        self._clock = clock
        self._rules: Rules | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Close all connections to the database."""
        self.database.close()

    def create(self, contents: Contents, rules: Rules | None = None) -> None:
        """Make the tables in an empty database, and write what the study asks.

        Raises:
            SegprefError: the database holds a study already.
        """
        self.database.make_file()
        with self.database.writing(alone=True) as connection:
            self.database.make_tables(connection)
            insert_contents(connection, contents)
            connection.execute(
                insert(study).values(
                    id=1, schema_version=SCHEMA_VERSION, digest=contents_digest(contents),
                    rules=asdict(rules or Rules()), made_at=self._clock(),
                )
            )  # fmt: skip

    @property
    def contents_digest(self) -> str | None:
        """Checksum of what the study asks (:func:`contents_digest`); None of an empty database."""
        if not self.database.exists():
            return None
        with self.database.reading() as connection:
            if not self.database.has_tables(connection):
                return None
            return str(self._study(connection).digest)

    @property
    def rules(self) -> Rules:
        """By which pairs are given to raters; they never change."""
        if self._rules is None:
            with self.reading():
                pass
        assert self._rules is not None
        return self._rules

    def contents(self) -> Contents:
        """Everything that the study asks."""
        with self.reading() as connection:
            return select_contents(connection)

    def note(self, text: str) -> None:
        """Write a dated line into the study's log."""
        with self.writing() as connection:
            connection.execute(insert(note).values(at=self._clock(), text=text))

    def notes(self) -> list[tuple[datetime, str]]:
        """The study's log."""
        with self.reading() as connection:
            found = connection.execute(select(note.c.at, note.c.text).order_by(note.c.id))
            return [(at, text) for at, text in found]

    def erase(self, patient: str, reason: str) -> Erased:
        """Remove a patient's images, masks, questions and votes; a dated note without the name stays.

        Backups that were made before are not touched.

        Returns:
            What was removed, and which display files nothing refers to any more.

        Raises:
            SegprefError: there is no such patient, or the reason, which is kept, names the patient.
        """
        with self.writing(alone=True) as connection:
            found = erase_patient(connection, patient, reason, self._clock())
        self.scrub()
        return found

    def scrub(self) -> None:
        """Rewrite the database's files without what was erased.

        Raises:
            SegprefError: another process keeps reading from them.
        """
        with self.reading():
            pass
        scrub(self.database)

    def backup(self, path: Path | str) -> None:
        """Copy everything, as it is now, to a new SQLite file; voting may go on.

        Raises:
            SegprefError: there is something at that place, or it can't be written.
        """
        with self.reading():
            pass
        write_backup(self.database, Path(path))

    @classmethod
    def of_file(cls, path: Path | str) -> Self:
        """A backup, opened so that it stays as it is."""
        made = cls(path)
        made.database = Database(path, read_only=True)
        return made

    @classmethod
    def restore(cls, path: Path | str, where: Path | str) -> Self:
        """Copy a backup into an empty database of either kind.

        Raises:
            SegprefError: it is no backup, or the database is not empty.
        """
        made = cls(where)
        restore_backup(Path(path), made.database)
        return made

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees the study as it is at one time."""
        self._check_exists()
        with self.database.reading() as connection:
            self._check_study(connection)
            yield connection

    @contextmanager
    def writing(self, *locks: Lock, alone: bool = False) -> Iterator[Connection]:
        """A transaction that changes the study: all of it, or nothing."""
        self._check_exists()
        with self.database.writing(*locks, alone=alone) as connection:
            self._check_study(connection)
            yield connection

    def _check_exists(self) -> None:
        if not self.database.exists():
            raise SegprefError(
                f"there is no database {self.database.name}: correct --database, or make it with "
                "segpref collect serve"
            )

    def _check_study(self, connection: Connection) -> None:
        if self._rules is not None:
            return
        if not self.database.has_tables(connection):
            raise SegprefError(
                f"{self.database.name} holds no study: choose another database, or make one with "
                "segpref collect serve"
            )
        self._rules = Rules(**self._study(connection).rules)

    def _study(self, connection: Connection) -> Any:
        found = connection.execute(select(study)).one()
        if found.schema_version != SCHEMA_VERSION:
            raise SegprefError(
                f"{self.database.name} was made by a later version of segpref (schema "
                f"{found.schema_version}, this one knows {SCHEMA_VERSION}): update segpref"
            )
        return found
