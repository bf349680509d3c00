"""Lists and selects the jobs of a study."""

from __future__ import annotations

from collections.abc import Sequence

from segpref.progress import stdout
from segpref.studies.engine.job import Job
from segpref.types import SegprefError

__all__ = ["list_jobs", "named_jobs"]


def named_jobs(jobs: Sequence[Job], words: Sequence[str]) -> list[Job]:
    """Those with one of the words in their title, whatever the case, and those that they need.

    All where there is no word. The order stays.

    Raises:
        SegprefError: there is none.
    """
    if not words:
        return list(jobs)
    by_name = {job.name: job for job in jobs}
    lowered = [word.lower() for word in words]
    ahead = [job for job in jobs if any(word in job.shown.lower() for word in lowered)]
    if not ahead:
        raise SegprefError(
            f"no job of the study has {' or '.join(words)} in its title: --list_only lists all"
        )
    wanted: set[str] = set()
    while ahead:
        job = ahead.pop()
        if job.name not in wanted:
            wanted.add(job.name)
            ahead += [by_name[need] for need in job.needs]
    return [job for job in jobs if job.name in wanted]


def list_jobs(jobs: Sequence[Job]) -> None:
    """Print them, and whether they are finished.

    Raises:
        SegprefError: one was done with other settings than the study has now.
    """
    for job in jobs:
        stdout.print("finished" if job.finished() else "to do   ", job.shown, soft_wrap=True)
