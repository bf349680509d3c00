"""A process of a pool: what it opens once, what it makes of an item, and what it has to say."""

from __future__ import annotations

import io
import logging
import os
import pickle
import socket
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from segpref.process_setup import configure_process
from segpref.progress import console
from segpref.trust import adopt_trust, granted_trust
from segpref.types import SegprefError

__all__ = ["PoolWorker", "received", "told"]


def told(make: Callable[..., Any], arguments: Sequence[Any]) -> bytes:
    """What a worker is told at its beginning."""
    # Within, for what it holds may be of a class that only the trust lets be imported.
    begun = pickle.dumps((make, tuple(arguments)))
    return pickle.dumps((begun, granted_trust(), os.getcwd()))  # noqa: PTH109


class PoolWorker:
    """What Ray Data calls in a process of its own: one row after the other."""

    def __init__(self, told: bytes, threads: int) -> None:
        configure_process(threads)
        console.file = self._printed = io.StringIO()
        self._warned = _Warnings()
        logging.getLogger("segpref").addHandler(self._warned)
        self._refused: Exception | None = None
        try:
            make, arguments = _begun(told)
            self._work = make(*arguments)
        except Exception as error:  # Ray would begin again and again
            self._refused = error

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The row of what was made of an item: ``made``, ``failed`` and what was printed on the way."""
        made, failed = None, self._refused
        if failed is None:
            try:
                made = self._work(pickle.loads(batch["item"][0]))
            except Exception as error:
                failed = error
        printed = self._printed.getvalue()
        self._printed.seek(0)
        self._printed.truncate()
        told, self._warned.records = self._warned.records, []
        content = _pickled(made, failed, printed, told)
        return {"number": [int(batch["number"][0])], "result": [zlib.compress(content, 1)]}


def _begun(told: bytes) -> tuple[Callable[..., Any], Sequence[Any]]:
    try:
        begun, trust, folder = pickle.loads(told)
        adopt_trust(trust)
        make, arguments = pickle.loads(begun)
    except (ImportError, AttributeError) as error:
        raise SegprefError(
            f"{socket.gethostname()} lacks a module of this process ({error}): install the same "
            "segpref and extras there, and put your own modules on its import path"
        ) from error
    with suppress(OSError):  # for paths that are relative
        os.chdir(folder)
    return make, arguments


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.name, record.levelno, record.getMessage()))


def _pickled(made: Any, failed: Exception | None, printed: str, told: list[Any]) -> bytes:
    try:
        return pickle.dumps((made, failed, printed, told))
    except Exception as error:  # an error that holds what can't be pickled
        text = f"{type(failed or error).__name__}: {failed or error}"
        return pickle.dumps((None, RuntimeError(text), printed, told))


def received(content: bytes) -> Any:
    """What a worker made of an item, after what it printed meanwhile; or its error, raised again."""
    made, failed, printed, told = pickle.loads(zlib.decompress(content))
    for line in printed.splitlines():
        console.print(line, highlight=False, soft_wrap=True)
    for name, level, text in told:
        logging.getLogger(name).log(level, "%s", text)
    if failed is not None:
        raise failed
    return made
