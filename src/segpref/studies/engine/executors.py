"""Where the jobs of a study run: in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any, NamedTuple, Protocol

from segpref.checking import checked
from segpref.cluster import joined, slots
from segpref.process_setup import configure_process
from segpref.runtime import gpus
from segpref.studies.engine.job import Job, attempt
from segpref.studies.engine.launching import Launched
from segpref.targets import file_target
from segpref.types import SegprefError

__all__ = ["Executor", "InProcess", "Processes", "RayCluster"]

Ended = list[tuple[str, str | None]]
"""Names of jobs that have ended, and why where they failed."""


class Executor(Protocol):
    """Does jobs, here or elsewhere."""

    slots: int
    """How many it does at a time."""

    def start(self, out: Path, job: Job) -> None:
        """Begin a job of the study in this folder."""
        ...

    def wait(self) -> Ended:
        """Jobs that have ended since; blocks for a second at most."""
        ...

    def close(self) -> None:
        """Stop what is still running."""
        ...


@checked(slots={"least": 1})
@dataclass
class InProcess:
    """One job after the other in this process, so that its progress bars are seen."""

    slots: int = 1
    _ended: Ended = field(default_factory=list)

    def start(self, out: Path, job: Job) -> None:
        """Do the job."""
        self._ended.append((job.name, attempt(out, job)))

    def wait(self) -> Ended:
        """What was done."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Nothing runs any more."""


@checked(slots={"least": 1}, threads={"least": 1})
class Processes:
    """Every job in a process of its own, so that none can take another with it.

    What a job prints goes to ``log.txt`` in its folder. When this process dies, however it does, its
    jobs stop too, and can be continued.

    Where there are GPUs, each job sees one alone: the one with the fewest jobs.

    Args:
        slots: how many jobs run at a time.
        threads: CPU threads of each.
    """

    def __init__(self, slots: int, threads: int = 1) -> None:
        self.slots = slots
        self._threads = threads
        self._gpus = _visible_gpus()
        self._running: dict[str, _Running] = {}
        self._ended: Queue[tuple[str, str | None]] = Queue()

    def start(self, out: Path, job: Job) -> None:
        """Begin a job in a new process."""
        settings = {"OMP_NUM_THREADS": str(self._threads)}
        gpu = self._idlest_gpu()
        if gpu is not None:
            settings["CUDA_VISIBLE_DEVICES"] = gpu

        def ended(why: str | None, status: int) -> None:
            killed = f"its process was killed (exit status {status})"
            self._ended.put((job.name, killed if status else why))

        process = Launched(job.name, _work, (out, job, self._threads), settings, ended)
        self._running[job.name] = _Running(process, gpu)

    def wait(self) -> Ended:
        """Jobs that have ended."""
        try:
            name, why = self._ended.get(timeout=1.0)
        except Empty:
            return []
        del self._running[name]
        return [(name, why)]

    def close(self) -> None:
        """Stop what is still running."""
        for one in self._running.values():
            one.process.terminate()
        for one in self._running.values():
            one.process.join()
        self._running.clear()

    def _idlest_gpu(self) -> str | None:
        jobs = dict.fromkeys(self._gpus, 0)
        for one in self._running.values():
            if one.gpu is not None:
                jobs[one.gpu] += 1
        return min(jobs, key=jobs.__getitem__, default=None)


class _Running(NamedTuple):
    process: Launched
    gpu: str | None


@checked(cpus={"above": 0}, gpus={"least": 0})
class RayCluster:
    """Every job on a Ray cluster that sees the same files.

    Args:
        address: of the cluster, such as ``auto`` or ``ray://host:10001``; ``local`` starts one here.
        cpus: cores that each job asks for.
        gpus: GPUs, or a share of one, that each job asks for.

    Raises:
        SegprefError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, cpus: float = 1, gpus: float = 0) -> None:
        self._left = ExitStack()
        self._ray: Any = self._left.enter_context(joined(address))
        try:
            self.slots = slots(self._ray, address, cpus, gpus)
        except SegprefError:
            self._left.close()
            raise
        self._remote = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_on_cluster)
        self._threads = max(1, int(cpus))
        self._running: dict[Any, str] = {}

    def start(self, out: Path, job: Job) -> None:
        """Hand a job to the cluster."""
        self._running[self._remote.remote(out, job, self._threads)] = job.name

    def wait(self) -> Ended:
        """Jobs that have ended."""
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=1.0)
        ended: Ended = []
        for reference in ready:
            name = self._running.pop(reference)
            try:
                ended.append((name, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0]
                ended.append((name, f"its process on the cluster died: {reason}"))
        return ended

    def close(self) -> None:
        """Stop what is still running and leave the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._left.close()


def _work(out: Path, job: Job, threads: int) -> str | None:
    """What the process of a job does."""
    # Where a study is stopped, what is half-written is removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    folder = out / job.name
    folder.mkdir(parents=True, exist_ok=True)
    with file_target(folder / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    configure_process(threads)
    return attempt(out, job)


def _on_cluster(out: Path, job: Job, threads: int) -> str | None:
    configure_process(threads)
    return attempt(out, job)


def _visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES writes them."""
    count = gpus()
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(count)] if told is None else told.split(",")[:count]
