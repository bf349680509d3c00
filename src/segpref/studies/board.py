"""The live table of a study: what runs, how far it is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from types import TracebackType

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from segpref.data.csv_files import read_csv
from segpref.progress import console, headed
from segpref.studies.lab import Lab
from segpref.studies.plan import Task

__all__ = ["Board"]


class Board:
    """Shows a study while it runs; a line for every task that ends where there is no terminal.

    Args:
        lab: the study.
        total: number of its tasks.
        done: how many were finished before.
        slots: how many run at a time; with one, the task's own bars are shown instead of a table.
    """

    def __init__(self, lab: Lab, total: int, done: int, slots: int) -> None:
        self._lab, self._total, self._done, self._slots = lab, total, done, slots
        self._failed = 0
        self._since: dict[Task, float] = {}
        self._seconds: dict[str, list[float]] = {}
        self._waiting: Sequence[Task] = ()
        self._live = Live(console=console, refresh_per_second=1)
        self._shown = slots > 1 and console.is_terminal

    def __enter__(self) -> Board:
        if self._shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._shown:
            self._live.stop()

    def started(self, task: Task, waiting: Sequence[Task]) -> None:
        """A task begins; what else there is to do."""
        self._since[task] = time.monotonic()
        self._waiting = waiting

    def ended(self, task: Task, why: str | None) -> None:
        """A task is finished, or failed with a reason."""
        if task in self._since:
            taken = time.monotonic() - self._since.pop(task)
            if why is None:
                self._seconds.setdefault(task.kind, []).append(taken)
        self._done += why is None
        self._failed += why is not None
        line = console.render_str(f"{self._done + self._failed} of {self._total}: {task.name} ")
        line.append_text(
            console.render_str("done") if why is None else headed("failed", f": {why}", "red")
        )
        line.append_text(console.render_str(self._left_text()))
        console.print(line, soft_wrap=True)

    def refresh(self) -> None:
        """Draw the table anew."""
        if self._shown:
            self._live.update(self._table())

    def _table(self) -> Table:
        view = Table(
            title=f"{self._done} of {self._total} tasks done, {self._failed} failed{self._left_text()}",
            title_justify="left",
        )
        view.add_column("running")
        view.add_column("progress", width=24)
        view.add_column("minutes", justify="right")
        for task, since in self._since.items():
            share = self._share(task)
            bar = ProgressBar(total=1.0, completed=share, width=24, pulse=not share)
            view.add_row(task.name, bar, f"{(time.monotonic() - since) / 60:.1f}")
        return view

    def _share(self, task: Task) -> float:
        """Share of a training's epochs that are written."""
        epochs = self._epochs(task)
        path = task.folder(self._lab.out) / "metrics.csv"
        if not epochs or not path.exists():
            return 0.0
        written = len(read_csv(path)) - 1
        return min(max(written, 0) / epochs, 1.0)

    def _epochs(self, task: Task) -> int | None:
        """Epochs of a task; None where a recipe's judge alone knows how it is trained."""
        if task.kind == "base":
            return self._lab.recipe.bases[task.base].epochs
        return task.resolved(self._lab.recipe)[1].epochs if task.kind == "run" else None

    def _left_text(self) -> str:
        """Time left, from how long tasks of the same kind took."""
        known = [seconds for taken in self._seconds.values() for seconds in taken]
        if not known:
            return ""
        expected = {kind: median(taken) for kind, taken in self._seconds.items()}
        usual = median(known)
        ahead = sum(expected.get(task.kind, usual) for task in self._waiting)
        ahead += sum(
            max(expected.get(task.kind, usual) - (time.monotonic() - since), 0)
            for task, since in self._since.items()
        )
        minutes = ahead / self._slots / 60
        return f", about {minutes:.0f} min left" if minutes >= 1 else ", under a minute left"
