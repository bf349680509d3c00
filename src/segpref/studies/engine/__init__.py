"""The engine of all studies: jobs with needs and outputs, run here, in processes, or on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.studies.engine.executors import Executor, InProcess, Processes, RayCluster
    from segpref.studies.engine.job import Job, Portable
    from segpref.studies.engine.listing import list_jobs, named_jobs
    from segpref.studies.engine.progress import StudyProgress
    from segpref.studies.engine.running import raise_for_failures, run_jobs
    from segpref.studies.engine.time_left import Running, TimeLeft
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "executors": ("Executor", "InProcess", "Processes", "RayCluster"),
            "job": ("Job", "Portable"),
            "listing": ("list_jobs", "named_jobs"),
            "progress": ("StudyProgress",),
            "running": ("raise_for_failures", "run_jobs"),
            "time_left": ("Running", "TimeLeft"),
        },
    )

__all__ = [
    "Executor",
    "InProcess",
    "Job",
    "Portable",
    "Processes",
    "RayCluster",
    "Running",
    "StudyProgress",
    "TimeLeft",
    "list_jobs",
    "named_jobs",
    "raise_for_failures",
    "run_jobs",
]
