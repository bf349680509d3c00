"""One job of a study, and how it is run."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from segpref.data.cache import write_atomically
from segpref.locking import alone_in
from segpref.memory import Setting, out_of_memory_reason, ran_out
from segpref.types import SegprefError

__all__ = ["Job", "Portable", "attempt"]

_PATIENCE_S = 60.0

Outputs = Sequence[Path] | Callable[[], Sequence[Path]]


@dataclass(frozen=True, eq=False)
class Job:
    """Something that a study does once.

    A job is finished when its outputs are there, so there is no second book that could disagree with
    them. Whatever it holds can be pickled where it is to run in another process.

    Args:
        name: unique, and the job's own folder inside the study's: its lock and log go there.
        outputs: files that say that it is finished; a function where it takes the data to know them.
        run: does it, or what is left of it.
        needs: names of jobs that are finished before.
        kind: such as ``fit``; jobs of a kind take about as long.
        title: what people read; the name where it is empty.
        check: refuses outputs that were made with other settings than the study has now.
        epochs: of a training that writes ``metrics.csv`` into the job's folder.
        memory: settings that memory grows with, by the names that the user knows.
        alone: whether it is timed, so that nothing may run beside it.
    """

    name: str
    outputs: Outputs = field(repr=False)
    run: Callable[[], None] = field(repr=False)
    needs: tuple[str, ...] = ()
    kind: str = ""
    title: str = ""
    check: Callable[[], None] | None = field(default=None, repr=False)
    epochs: int | None = None
    memory: Mapping[str, Setting] = field(default_factory=dict)
    alone: bool = False

    @property
    def shown(self) -> str:
        """Its title, or else its name."""
        return self.title or self.name

    def written(self) -> bool:
        """Whether all its outputs are there."""
        return not self.missing()

    def missing(self) -> list[Path]:
        """Outputs that are not there."""
        outputs = self.outputs() if callable(self.outputs) else self.outputs
        return [path for path in outputs if not path.exists()]

    def finished(self) -> bool:
        """Whether its outputs are there, made with today's settings.

        Raises:
            SegprefError: they were made with others.
        """
        if not self.written():
            return False
        if self.check is not None:
            self.check()
        return True


class Portable:
    """A dataclass that travels to another process with its fields, and without what it has opened."""

    def __getstate__(self) -> dict[str, Any]:
        """Its fields; cached properties are computed anew."""
        return {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """As it was before anything was cached; what its making allows is allowed here, too."""
        self.__dict__.update(state)
        if hasattr(self, "__post_init__"):
            self.__post_init__()


def attempt(out: Path, job: Job) -> str | None:
    """Do a job; the reason in a sentence where it failed, with the whole story in its ``error.txt``."""
    folder = out / job.name
    try:
        # Of a study that was killed a job may still be on its way out, on another machine, say.
        with alone_in(folder, patience_s=_PATIENCE_S):
            job.run()
        if missing := job.missing():
            return f"it ended without {missing[0]}: whatever runs it must write that file"
    except SegprefError as error:
        return str(error)
    except Exception as error:
        if ran_out(error):
            workers = "fewer --workers at a time (a changed recipe needs another --out)"
            return out_of_memory_reason(error, job.memory, workers)
        log = folder / "error.txt"
        write_atomically(log, traceback.format_exc().encode(errors="backslashreplace"))
        return f"{type(error).__name__}: {error} (see {log})"
    return None
