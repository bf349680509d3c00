"""Run a study: tasks in the order of their needs, several at a time, with the time left."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from segpref.data.cache import write_atomically
from segpref.locking import alone_in
from segpref.memory import Setting, memory_told, ran_out
from segpref.studies.board import Board
from segpref.studies.lab import Lab
from segpref.studies.perform import perform
from segpref.studies.plan import Task, plan
from segpref.studies.results import Results, collect
from segpref.types import SegprefError

__all__ = ["Executor", "InProcess", "run_study"]

_PATIENCE_S = 60.0


class Executor(Protocol):
    """Does tasks, here or elsewhere."""

    slots: int
    """How many it does at a time."""

    def start(self, lab: Lab, task: Task) -> None:
        """Begin a task."""
        ...

    def wait(self) -> list[tuple[Task, str | None]]:
        """Tasks that have ended since, and why where they failed; blocks for a second at most."""
        ...

    def close(self) -> None:
        """Stop what is still running."""
        ...


@dataclass
class InProcess:
    """One task after the other in this process, so that its progress bars are seen."""

    slots: int = 1
    _ended: list[tuple[Task, str | None]] = field(default_factory=list)

    def start(self, lab: Lab, task: Task) -> None:
        """Do the task."""
        self._ended.append((task, attempt(lab, task)))

    def wait(self) -> list[tuple[Task, str | None]]:
        """What was done."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Nothing runs any more."""


def attempt(lab: Lab, task: Task) -> str | None:
    """Do a task; the reason in a sentence where it failed, with the whole story in its log."""
    try:
        # Of a study that was killed a task may still be on its way out, on another machine, say.
        with alone_in(task.folder(lab.out), patience_s=_PATIENCE_S):
            perform(lab, task)
    except SegprefError as error:
        return str(error)
    except Exception as error:
        if ran_out(error):
            workers = "fewer --workers at a time (a changed recipe needs another --out)"
            return memory_told(error, _settings(lab, task), workers)
        log = task.folder(lab.out) / "error.txt"
        write_atomically(log, traceback.format_exc().encode(errors="backslashreplace"))
        return f"{type(error).__name__}: {error} (see {log})"
    return None


def _settings(lab: Lab, task: Task) -> Mapping[str, Setting]:
    """What the memory of a task grows with, by its name in the recipe."""
    if task.kind == "base":
        return {f"bases: {task.base}: batch_size": lab.recipe.bases[task.base].batch_size}
    align = task.resolved(lab.recipe)[1] if task.kind == "run" else lab.recipe.align
    batch: Mapping[str, Setting] = {"align: batch_size": align.batch_size}
    return {**(batch if task.kind == "run" else {}), "align: candidates": align.candidates}


def run_study(
    lab: Lab,
    seeds: Sequence[int] | None = None,
    executor: Executor | None = None,
    only: Sequence[str] = (),
) -> Results:
    """Do every task of a recipe that is not finished yet.

    A task that fails takes only those with it that need it; the others go on. What was killed goes on
    where it was when the study is run again.

    Args:
        lab: the recipe, the data and the study's folder.
        seeds: instead of the recipe's.
        executor: where tasks run; one after the other in this process where None.
        only: words; just the parts of the grid with one of them in their title are run.

    Returns:
        What is finished, of the parts that were not run as well.

    Raises:
        SegprefError: the recipe or the data are wrong, or another process works in the folder.
    """
    tasks = plan(lab.recipe, seeds, only)
    executor = executor or InProcess()
    with alone_in(lab.out):
        try:
            lab.open()
            failed = _schedule(lab, tasks, executor)
        finally:
            executor.close()
    return collect(lab, seeds, failed)


def _schedule(lab: Lab, tasks: Sequence[Task], executor: Executor) -> dict[Task, str]:
    done = {task for task in tasks if task.finished(lab.out)}
    waiting = [task for task in tasks if task not in done]
    running: set[Task] = set()
    failed: dict[Task, str] = {}
    with Board(lab, len(tasks), len(done), executor.slots) as board:
        while waiting or running:
            for task in list(waiting):
                needs = task.needs(lab.recipe)
                if broken := [need for need in needs if need in failed]:
                    waiting.remove(task)
                    failed[task] = f"needs {broken[0].name}, which failed"
                    board.ended(task, failed[task])
                elif len(running) < executor.slots and all(need in done for need in needs):
                    waiting.remove(task)
                    running.add(task)
                    board.started(task, waiting)
                    executor.start(lab, task)
            for task, why in executor.wait():
                running.remove(task)
                if why is None:
                    done.add(task)
                else:
                    failed[task] = why
                board.ended(task, why)
            board.refresh()
    return failed
