"""SQLite's one writer at a time: threads wait in line, and those in line share a commit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

__all__ = ["SharedCommits"]

_MOST = 64
"""Parts of one transaction: other processes get their turn after it."""
_GIVEN_UP_S = 1.0


class _Group:
    """A transaction whose parts are of several threads, one after the other."""

    def __init__(self, engine: Engine) -> None:
        self.connection = engine.connect().execution_options(writing=True)
        try:
            self.transaction = self.connection.begin()
        except BaseException:
            self.connection.close()
            raise
        self.parts = 0
        self.error: BaseException | None = None
        self.ended = threading.Event()

    @contextmanager
    def part(self) -> Iterator[Connection]:
        """Changes of one thread: all of them, or none."""
        self.parts += 1
        self.connection.exec_driver_sql("SAVEPOINT part")
        try:
            yield self.connection
        except BaseException as error:
            if self.is_running:
                self.connection.exec_driver_sql("ROLLBACK TO part")
            else:
                self.error = error  # a full disk ends the whole transaction
            raise
        finally:
            if self.is_running:
                self.connection.exec_driver_sql("RELEASE part")

    @property
    def is_running(self) -> bool:
        """Whether SQLite has not ended the transaction by itself."""
        driver = self.connection.connection.dbapi_connection
        return driver is not None and bool(driver.in_transaction)

    def end(self) -> None:
        """Commit, and let everybody know what came of it."""
        try:
            if self.error is None:
                self.transaction.commit()
        except BaseException as error:
            self.error = error
        finally:
            try:
                self.connection.close()
            finally:
                self.ended.set()


class SharedCommits:
    """Turns to write, for the threads of one process.

    A commit waits for the disk, and the next thread would wait for that commit. So whoever has written
    leaves the transaction to the next thread in line, the last one commits for all, and nobody goes on
    before: what any of them is told is on the disk, or none of it is.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._open: _Group | None = None

    @contextmanager
    def part(self, engine: Engine) -> Iterator[Connection]:
        """A part of a transaction; it is on the disk when the block ends."""
        problem: BaseException | None = None
        with self._next():
            group = self._open = self._open or _Group(engine)
            try:
                with group.part() as connection:
                    yield connection
            except BaseException as error:
                problem = error
            if not self._waiting or group.parts >= _MOST or group.error is not None:
                self._end()
        # Whoever comes next ends it; should that thread have given up, this one does.
        while not group.ended.wait(_GIVEN_UP_S):
            if self._turn.acquire(blocking=False):
                try:
                    self._end()
                finally:
                    self._turn.release()
        # What a part has read, and an error that came of it, holds only if all is stored.
        if group.error is not None:
            raise group.error
        if problem is not None:
            raise problem

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A turn in which no thread of this process has a transaction that writes."""
        with self._next():
            self._end()
            yield

    @contextmanager
    def _next(self) -> Iterator[None]:
        with self._counting:
            self._waiting += 1
        try:
            self._turn.acquire()
        finally:
            with self._counting:
                self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _end(self) -> None:
        group, self._open = self._open, None
        if group is not None:
            group.end()
