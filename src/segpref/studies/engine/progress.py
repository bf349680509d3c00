"""The progress of a study: what runs, how far it is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from segpref.data.csv_files import read_csv
from segpref.progress import console, headed
from segpref.studies.engine.job import Job
from segpref.studies.engine.time_left import Running, TimeLeft

__all__ = ["StudyProgress"]


class StudyProgress:
    """Shows a study while it runs; a line for every job where there is no terminal.

    Args:
        out: the study's folder.
        total: number of its jobs.
        done: how many were finished before.
        slots: how many run at a time; with one, the job's own bars are shown instead of a table.
    """

    def __init__(self, out: Path, total: int, done: int, slots: int) -> None:
        self._out, self._total, self._done, self._slots = out, total, done, slots
        self._failed = 0
        self._running: dict[Job, tuple[float, float]] = {}
        self._time_left = TimeLeft()
        self._waiting: Sequence[Job] = ()
        self._live = Live(console=console, refresh_per_second=1)
        self._shown = slots > 1 and console.is_terminal

    def __enter__(self) -> StudyProgress:
        if self._shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._shown:
            self._live.stop()

    def started(self, job: Job, waiting: Sequence[Job]) -> None:
        """A job begins; what else there is to do."""
        self._running[job] = (time.monotonic(), self._share(job))
        self._waiting = waiting
        if self._slots == 1:
            self._print(job, self._done + self._failed + 1, None)

    def ended(self, job: Job, why: str | None) -> None:
        """A job is finished, or failed with a reason."""
        if job in self._running:
            since, first = self._running.pop(job)
            if why is None:
                self._time_left.timed(job, time.monotonic() - since, first)
        self._done += why is None
        self._failed += why is not None
        if why is not None or self._slots > 1:
            self._print(job, self._done + self._failed, why or "done")

    def refused(self, job: Job, why: str) -> None:
        """A job that seemed finished was done with other settings."""
        self._done -= 1
        self.ended(job, why)

    def refresh(self) -> None:
        """Draw the table anew."""
        if self._shown:
            self._live.update(self._table())

    def _print(self, job: Job, number: int, outcome: str | None) -> None:
        line = console.render_str(f"{number} of {self._total}: {job.shown}")
        if outcome == "done":
            line.append_text(console.render_str(" done"))
        elif outcome is not None:
            line.append_text(console.render_str(" "))
            line.append_text(headed("failed", f": {outcome}", "red"))
        line.append_text(console.render_str(self._left_text()))
        console.print(line, soft_wrap=True)

    def _table(self) -> Table:
        view = Table(
            title=f"{self._done} of {self._total} jobs done, {self._failed} failed{self._left_text()}",
            title_justify="left",
        )
        view.add_column("running")
        view.add_column("progress", width=24)
        view.add_column("minutes", justify="right")
        for job, (since, _) in self._running.items():
            share = self._share(job)
            bar = ProgressBar(total=1.0, completed=share, width=24, pulse=not share)
            view.add_row(job.shown, bar, f"{(time.monotonic() - since) / 60:.1f}")
        return view

    def _share(self, job: Job) -> float:
        """Share of a training's epochs that are written."""
        path = self._out / job.name / "metrics.csv"
        if not job.epochs or not path.exists():
            return 0.0
        written = len(read_csv(path)) - 1
        return min(max(written, 0) / job.epochs, 1.0)

    def _left_text(self) -> str:
        """Time left; nothing where it can't be said."""
        now = time.monotonic()
        seconds = self._time_left.seconds(
            {job: self._share(job) for job in self._waiting if not job.written()},
            {
                job: Running(now - since, first, self._share(job))
                for job, (since, first) in self._running.items()
            },
            self._slots,
        )
        if seconds is None or not (self._waiting or self._running):
            return ""
        minutes = seconds / 60
        return f", about {minutes:.0f} min left" if minutes >= 1 else ", under a minute left"
