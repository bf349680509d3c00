"""Backups: one SQLite file with everything, from and into either kind of database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, text

from segpref.collect.contents_rows import contents_digest, select_contents
from segpref.collect.database import Database
from segpref.collect.database_errors import told_errors
from segpref.collect.tables import SCHEMA_VERSION, TABLES, study
from segpref.disk import cannot_write
from segpref.targets import check_outputs
from segpref.types import SegprefError

__all__ = ["restore_backup", "write_backup"]

_AT_ONCE = 1000
_NUMBERED = {"rater": "id", "assignment": "number", "vote": "id", "note": "id"}


def write_backup(database: Database, path: Path) -> None:
    """Copy a database, as it is at one time, to a new SQLite file; voting may go on.

    Raises:
        SegprefError: there is something at that place, or it can't be written.
        StoreFull: its disk is full.
    """
    check_outputs([path])
    if path.exists():
        raise SegprefError(f"{path} is there already: choose another name for the backup")
    with _partial(path) as partial:
        if database.path is not None:
            _copy_file(database.path, partial)
        else:
            _export(database, partial)
        with told_errors(str(path)), closing(sqlite3.connect(partial)) as made:
            # All in one file, without a log beside it.
            made.execute("PRAGMA journal_mode=DELETE")
            _check_sound(made, partial)


def restore_backup(path: Path, database: Database) -> None:
    """Copy a backup into an empty database.

    Raises:
        SegprefError: it is no backup, or the database is not empty.
        StoreFull: the disk of the database is full; it is empty as before.
    """
    if not path.is_file():
        raise SegprefError(f"there is no file {path}: give one that segpref collect backup wrote")
    new = not database.exists()
    with told_errors(str(path)), closing(sqlite3.connect(_read_only(path), uri=True)) as given:
        _check_sound(given, path)
    source = Database(path, read_only=True)
    try:
        with source.reading() as old:
            _check_version(source, old)
            database.make_file()
            with database.writing(alone=True) as connection:
                database.make_tables(connection)
                _copy_rows(old, connection)
                _number_on(database, connection)
                _check_equal(path, old, connection)
    except BaseException:
        database.close()
        if new and database.path is not None:
            for end in ("", "-wal", "-shm"):
                Path(f"{database.path}{end}").unlink(missing_ok=True)
        raise
    finally:
        source.close()


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A file that has its name only when it is whole and on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield partial
        _sync(partial)
        os.link(partial, path)  # unlike a renaming, it never replaces a file
        _sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error, "choose another place") from error
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                Path(f"{partial}{end}").unlink(missing_ok=True)


def _copy_file(source: Path, target: Path) -> None:
    with told_errors(str(target)):
        reading = sqlite3.connect(_read_only(source), uri=True, timeout=30)
        with closing(reading), closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)


def _export(database: Database, target: Path) -> None:
    file = Database(target)
    try:
        with database.reading() as old, file.writing(alone=True) as new:
            file.make_tables(new)
            _copy_rows(old, new)
            _check_equal(target, old, new)
    finally:
        file.close()


def _copy_rows(old: Connection, new: Connection) -> None:
    for table in TABLES.sorted_tables:
        if table.name == "erasing":
            continue
        found = old.execute(select(table).order_by(*table.primary_key.columns))
        for rows in found.mappings().partitions(_AT_ONCE):
            new.execute(insert(table), [dict(row) for row in rows])


def _number_on(database: Database, connection: Connection) -> None:
    """Rows that are added later get numbers above those that were copied."""
    if database.kind == "postgresql":
        for table, column in _NUMBERED.items():
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), "
                    f"(SELECT coalesce(max({column}), 0) + 1 FROM {table}), false)"
                )
            )


def _check_equal(path: Path, old: Connection, new: Connection) -> None:
    for table in TABLES.sorted_tables:
        counts = [
            one.execute(select(func.count()).select_from(table)).scalar() for one in (old, new)
        ]
        if counts[0] != counts[1]:
            raise SegprefError(f"{path} was not copied whole ({table.name}): try again")
    digest = new.execute(select(study.c.digest)).scalar_one()
    if digest != contents_digest(select_contents(new)):
        raise SegprefError(f"{path} is damaged (what the study asks): use another backup")


def _check_version(database: Database, connection: Connection) -> None:
    if not database.has_tables(connection):
        raise SegprefError(f"{database.name} is no backup of votes: choose another file")
    version = connection.execute(select(study.c.schema_version)).scalar_one()
    if version != SCHEMA_VERSION:
        raise SegprefError(
            f"{database.name} was made by a later version of segpref (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): update segpref"
        )


def _check_sound(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
        raise SegprefError(f"{path} is damaged: use another backup")


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
