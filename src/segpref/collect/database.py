"""A vote database: connections and transactions, in a SQLite file or on a PostgreSQL server."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from segpref.collect.database_errors import is_full, told_errors
from segpref.collect.shared_commits import SharedCommits
from segpref.collect.tables import APPEND_ONLY, TABLES
from segpref.disk import cannot_write
from segpref.extras import needed
from segpref.types import SegprefError

__all__ = ["Database", "Lock"]

log = logging.getLogger(__name__)

Lock = tuple[Literal["rater", "draw"], int]
"""What a transaction needs for itself: everything of a rater, or the drawing of pairs (0)."""

DRAWING: Lock = ("draw", 0)

_STUDY, _RATER, _DRAW = 0x5E62EF01, 0x5E62EF02, 0x5E62EF03
_PATIENCE_S = 30
_RESTED_S = 5.0
_SETTINGS = (
    "journal_mode=WAL", "synchronous=FULL", "fullfsync=1", "foreign_keys=ON", "secure_delete=ON",
)  # fmt: skip
_FORMS = "give a file, or a URL such as postgresql://user@host/database"


class Database:
    """Connections to a vote database.

    What a transaction has written is on the disk when it ends: SQLite syncs its log at every commit
    (WAL, ``synchronous=FULL``), PostgreSQL waits for its own (``synchronous_commit``).

    Args:
        where: a file, or a URL that begins with ``postgresql://`` or ``sqlite:///``.
        read_only: of a file, whether it stays as it is.

    Raises:
        SegprefError: neither of them.
    """

    def __init__(self, where: str | Path, *, read_only: bool = False) -> None:
        self._url = _url(where)
        self._read_only = read_only
        self.kind: Literal["sqlite", "postgresql"] = (
            "sqlite" if self._url.get_backend_name() == "sqlite" else "postgresql"
        )
        self.path = Path(self._url.database or "") if self.kind == "sqlite" else None
        self.name = str(self.path or self._url.set(drivername="postgresql"))
        self._made: Engine | None = None
        self._making = threading.Lock()
        self._turns = SharedCommits()

    @property
    def engine(self) -> Engine:
        """Of SQLAlchemy, made when it is first used."""
        with self._making:
            if self._made is None:
                self._made = (
                    _postgresql(self._url)
                    if self.path is None
                    else _sqlite(self.path, self._read_only)
                )
            return self._made

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self._making:
            if self._made is not None:
                self._made.dispose()
                self._made = None

    def exists(self) -> bool:
        """Whether there is a file; always of a server's."""
        return self.path is None or self.path.exists()

    def has_tables(self, connection: Connection) -> bool:
        """Whether the tables of a study are there."""
        return inspect(connection).has_table("study")

    def make_tables(self, connection: Connection) -> None:
        """Make the tables in an empty database.

        Raises:
            SegprefError: it holds a study already, or other tables with such names.
        """
        if taken := set(inspect(connection).get_table_names()) & set(TABLES.tables):
            holds = "a study" if "vote" in taken else f"a table {min(taken)!r}"
            raise SegprefError(f"{self.name} holds {holds} already: choose an empty database")
        TABLES.create_all(connection)
        for statement in APPEND_ONLY[self.kind]:
            connection.exec_driver_sql(statement)

    def make_file(self) -> None:
        """An empty file that only its owner reads, if there is none.

        Raises:
            SegprefError: it can't be made.
        """
        if self.path is None or self.path.exists():
            return
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            if is_full(error):
                raise SegprefError(
                    f"{self.path} can't be made because its disk is full: free some space on that disk"
                ) from error
            raise cannot_write(self.path, error, "choose another --database") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees the database as it is at one time."""
        with told_errors(self.name), self.engine.connect() as connection:
            if self.kind == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self, *locks: Lock, alone: bool = False) -> Iterator[Connection]:
        """A transaction whose changes are on the disk when it ends; all of them, or none.

        Args:
            locks: what it needs for itself, a rater before the drawing of pairs.
            alone: whether it waits until no other one writes, and others wait for it.
        """
        if self.kind == "sqlite" and not alone:
            with told_errors(self.name), self._turns.part(self.engine) as connection:
                yield connection
            return
        with told_errors(self.name), self._turn(), self.engine.connect() as connection:
            connection = connection.execution_options(writing=True)
            with connection.begin():
                if self.kind == "postgresql":
                    study = f"pg_advisory_xact_lock{'' if alone else '_shared'}({_STUDY})"
                    connection.exec_driver_sql(f"SELECT {', '.join([study, *map(_locked, locks)])}")
                yield connection

    def lock(self, connection: Connection, lock: Lock) -> None:
        """Wait for something until this transaction has it for itself; it ends with it."""
        if self.kind == "postgresql":
            connection.exec_driver_sql(f"SELECT {_locked(lock)}")

    @contextmanager
    def outside_transactions(self) -> Iterator[Connection]:
        """A connection on which each statement stands for itself, such as VACUUM."""
        with told_errors(self.name), self._turn(), self.engine.connect() as connection:
            if self.kind == "postgresql":
                yield connection.execution_options(isolation_level="AUTOCOMMIT")
            else:
                yield connection.execution_options(plain=True)

    def _turn(self) -> AbstractContextManager[None]:
        """What a transaction of its own waits for in this process."""
        return self._turns.alone() if self.kind == "sqlite" else nullcontext()


def _locked(lock: Lock) -> str:
    kind, number = lock
    return f"pg_advisory_xact_lock({_RATER if kind == 'rater' else _DRAW}, {int(number)})"


def _url(where: str | Path) -> URL:
    told = str(where)
    if "://" not in told:
        if not told:
            raise SegprefError(f"the database has no name: {_FORMS}")
        return URL.create("sqlite", database=told)
    try:
        url = make_url(told)
    except (ArgumentError, ValueError) as error:
        raise SegprefError(f"the URL of the database can't be read: {_FORMS}") from error
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return URL.create("sqlite", database=url.database)
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    raise SegprefError(f"votes are not kept in {url.drivername!r}: {_FORMS}")


def _sqlite(path: Path, read_only: bool) -> Engine:
    place = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"

    def connect() -> sqlite3.Connection:
        # Transactions begin where SQLAlchemy says so.
        made = sqlite3.connect(
            place, uri=True, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
        )
        for setting in ("trusted_schema=OFF", *(() if read_only else _SETTINGS)):
            made.execute(f"PRAGMA {setting}")
        return made

    engine = create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=20, max_overflow=20,
        pool_timeout=2 * _PATIENCE_S,
    )  # fmt: skip

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("plain"):
            return
        immediate = " IMMEDIATE" if options.get("writing") else ""
        connection.exec_driver_sql(f"BEGIN{immediate}")

    return engine


def _postgresql(url: URL) -> Engine:
    needed("psycopg", "postgresql")
    engine = create_engine(
        url, connect_args={"connect_timeout": 10}, pool_size=20, max_overflow=20,
        pool_timeout=2 * _PATIENCE_S,
    )  # fmt: skip

    @event.listens_for(engine, "checkin")
    def _rests(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _still_there(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        # In use it shows by itself that the server is gone; a proxy may drop it while it rests.
        if time.monotonic() - record.info.get("used", math.inf) > _RESTED_S:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        connection.autocommit = True
        connection.execute(f"SET lock_timeout = '{_PATIENCE_S}s'")
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
        if connection.execute("SHOW fsync").fetchone() == ("off",):
            log.warning(
                "%s may lose votes in a power cut: set fsync = on on the server", url.database
            )
        connection.autocommit = False

    return engine
