"""Errors of databases as sentences, and a full disk as what it is."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from segpref.collect.answers import StoreFull, Unavailable

__all__ = ["is_duplicate", "is_full", "told_errors"]

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITING_FAILED = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
}
_SQLITE = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked: stop that one, or try again",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked: stop that one, or try again",
    sqlite3.SQLITE_READONLY: "it is write-protected: allow this user to write it and its folder",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: allow this user to write it and its folder",
    sqlite3.SQLITE_PERM: "it can't be opened: allow this user to write it and its folder",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore a backup (segpref collect restore)",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: choose another file",
    sqlite3.SQLITE_IOERR: "its disk fails: check that disk",
    sqlite3.SQLITE_NOMEM: "memory ran out: free some",
}
_POSTGRESQL = {
    "55P03": "another process keeps it locked: stop that one, or try again",
    "40P01": "two processes waited for each other: try again",
    "42501": "this user lacks the right to do that: connect as the owner of the tables",
    "42P01": "it holds no study: choose another database, or make one with segpref collect serve",
    "42703": "its tables are not segpref's: choose another database or schema",
    "25006": "it is read-only: connect to the primary server",
    "28P01": "the password is wrong: correct it in --database",
    "28000": "this user may not connect: correct --database, or the server's pg_hba.conf",
    "3D000": "there is no such database: make it (createdb), or correct --database",
}
_OUT_OF_REACH = "it can't be reached: check --database, and that the server runs"


@contextmanager
def told_errors(name: str) -> Iterator[None]:
    """Turn what goes wrong with a database into one sentence.

    Args:
        name: of the database, without a password.

    Raises:
        StoreFull: its disk is full; nothing of what was to be stored is kept then.
        Unavailable: anything else that a user can do something about.
    """
    try:
        yield
    except DBAPIError as error:
        raise _sentence(name, error.orig, error) from error
    except sqlite3.Error as error:
        raise _sentence(name, error, error) from error
    except PoolTimeout as error:
        raise Unavailable(
            f"{name} is busy: all connections were in use for too long, so try again"
        ) from error


def _sentence(name: str, cause: Any, error: Exception) -> Exception:
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(name, cause, error)
    state = getattr(cause, "sqlstate", None)
    if state == "53100":
        return _full(name)
    if state in _POSTGRESQL:
        return Unavailable(f"{name} can't be used: {_POSTGRESQL[state]}")
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or state is None or state[:2] in ("08", "57", "53"):
        return Unavailable(f"{name} can't be used: {_OUT_OF_REACH} ({_first_line(cause)})")
    return error


def _of_sqlite(name: str, cause: sqlite3.Error, error: Exception) -> Exception:
    code = getattr(cause, "sqlite_errorcode", None)
    if code is None:
        return error
    if code == sqlite3.SQLITE_FULL or code in _WRITING_FAILED:
        return _full(name)
    if reason := _SQLITE.get(code & 0xFF):
        return Unavailable(f"{name} can't be used: {reason}")
    if code == sqlite3.SQLITE_ERROR and "no such" in str(cause):
        return Unavailable(
            f"{name} can't be used: its tables are not segpref's, so choose another file"
        )
    return error


def _full(name: str) -> StoreFull:
    return StoreFull(
        f"{name} can't store anything because its disk is full; every vote that was acknowledged is "
        "kept: free some space on that disk, and go on"
    )


def is_full(error: OSError) -> bool:
    """Whether the operating system says that a disk is full."""
    return error.errno in _FULL_DISK


def _first_line(cause: Any) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def is_duplicate(error: Exception) -> bool:
    """Whether a row was refused because another one has its name already."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.IntegrityError):
        return cause.sqlite_errorcode in (
            sqlite3.SQLITE_CONSTRAINT_UNIQUE,
            sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
        )
    return getattr(cause, "sqlstate", None) == "23505"
