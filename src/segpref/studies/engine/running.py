"""Runs jobs in the order of their needs, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from segpref.locking import alone_in
from segpref.studies.engine.executors import Executor, InProcess
from segpref.studies.engine.job import Job
from segpref.studies.engine.progress import StudyProgress
from segpref.types import SegprefError

__all__ = ["raise_for_failures", "run_jobs"]


def run_jobs(
    out: Path,
    jobs: Sequence[Job],
    executor: Executor | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Do every job that is not finished yet.

    A job that fails stops only those that need it; the others continue. What was killed continues
    where it was when the study is run again.

    Args:
        out: the study's folder; one process at a time runs a study there.
        jobs: with all that they need among them.
        executor: where they run; one after the other in this process where None. It is closed.
        prepare: done first, in this process: images that all jobs read, say.

    Returns:
        Why jobs failed, by their names.

    Raises:
        SegprefError: two jobs share a name, one needs what is not there or itself, or another process
            runs in the folder.
    """
    executor = executor or InProcess()
    try:
        _check(jobs)
        with alone_in(out):
            prepare()
            return _schedule(out, jobs, executor)
    finally:
        executor.close()


def raise_for_failures(failed: Mapping[str, str], total: int) -> None:
    """Raise where a job failed.

    Raises:
        SegprefError: one did.
    """
    if failed:
        raise SegprefError(
            f"{len(failed)} of {total} jobs failed (see above): fix the cause and give the same "
            "command again, it does only what is missing"
        )


def _check(jobs: Sequence[Job]) -> None:
    names = [job.name for job in jobs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SegprefError(f"two jobs of the study are called {twice[0]}: rename one in the recipe")
    for job in jobs:
        if absent := [need for need in job.needs if need not in names]:
            raise SegprefError(f"{job.name} needs {absent[0]}, which is not a job of the study")
    try:
        TopologicalSorter({job.name: job.needs for job in jobs}).prepare()
    except CycleError as error:
        raise SegprefError(
            f"jobs of the study need each other: {', '.join(error.args[1])}"
        ) from None


def _schedule(out: Path, jobs: Sequence[Job], executor: Executor) -> dict[str, str]:
    waiting = list(jobs)
    running: dict[str, Job] = {}
    done: set[str] = set()
    failed: dict[str, str] = {}
    written = sum(job.written() for job in jobs)
    with StudyProgress(out, len(jobs), written, executor.slots) as progress:
        while waiting or running:
            for job in list(waiting):
                if not {*job.needs} <= done | {*failed}:
                    continue
                if job.written():
                    waiting.remove(job)
                    if (why := _refused(job)) is None:
                        done.add(job.name)
                    else:
                        failed[job.name] = why
                        progress.refused(job, why)
                elif broken := [need for need in job.needs if need in failed]:
                    waiting.remove(job)
                    failed[job.name] = f"needs {broken[0]}, which failed"
                    progress.ended(job, failed[job.name])
                elif _room(job, running, executor):
                    waiting.remove(job)
                    running[job.name] = job
                    progress.started(job, waiting)
                    executor.start(out, job)
            for name, why in executor.wait() if running else ():
                job = running.pop(name)
                if why is None:
                    done.add(name)
                else:
                    failed[name] = why
                progress.ended(job, why)
            progress.refresh()
    return failed


def _refused(job: Job) -> str | None:
    """Why what a job wrote is not what the study asks for now."""
    try:
        job.finished()
    except SegprefError as error:
        return str(error)
    return None


def _room(job: Job, running: Mapping[str, Job], executor: Executor) -> bool:
    if job.alone or any(other.alone for other in running.values()):
        return not running
    return len(running) < executor.slots
