"""How long the rest of a study will take, by what it has done so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import NamedTuple

from segpref.studies.engine.job import Job

__all__ = ["Running", "TimeLeft"]


class Running(NamedTuple):
    """A job that runs.

    Args:
        seconds: since it began.
        first: share of its epochs that was written when it began.
        share: what is written now, 0 to 1.
    """

    seconds: float
    first: float
    share: float


class TimeLeft:
    """Learns what jobs take: trainings by the epoch, others as wholes.

    Kinds of jobs differ by orders of magnitude, so that nothing is said of a training before an epoch
    of some training has been timed. A kind of training that was not timed yet is expected to be as
    fast as the others; any other kind to take what others take, or no time where none was timed.
    """

    def __init__(self) -> None:
        self._per_epoch: dict[str, list[float]] = {}
        self._wholes: dict[str, list[float]] = {}

    def timed(self, job: Job, seconds: float, first: float) -> None:
        """A job is done; ``first`` as in :class:`Running`."""
        if not job.epochs:
            self._wholes.setdefault(job.kind, []).append(seconds)
        elif first < 1:
            per_epoch = seconds / (job.epochs * (1 - first))
            self._per_epoch.setdefault(job.kind, []).append(per_epoch)

    def seconds(
        self, waiting: Mapping[Job, float], running: Mapping[Job, Running], slots: int
    ) -> float | None:
        """Seconds until all is done; None where that can't be said yet.

        Args:
            waiting: jobs, with the share of their epochs that is written already.
            running: jobs.
            slots: how many run at a time.
        """
        rates = dict(self._per_epoch)
        for kind, rate in _rates_of(running):
            if kind not in self._per_epoch:
                rates[kind] = [*rates.get(kind, ()), rate]
        total = 0.0
        left = {job: (1 - share, 0.0) for job, share in waiting.items()}
        left |= {job: (1 - now.share, now.seconds) for job, now in running.items()}
        for job, (share, spent) in left.items():
            if not job.epochs:
                total += max(_usual(self._wholes, job.kind) - spent, 0.0)
            elif not rates:
                return None
            else:
                total += share * job.epochs * _usual(rates, job.kind)
        return total / slots


def _rates_of(running: Mapping[Job, Running]) -> Iterator[tuple[str, float]]:
    for job, now in running.items():
        if job.epochs and now.share > now.first:
            yield job.kind, now.seconds / (job.epochs * (now.share - now.first))


def _usual(known: Mapping[str, Iterable[float]], kind: str) -> float:
    """The median of a kind, or else of all kinds, or else 0."""
    values = known.get(kind) or [one for of_kind in known.values() for one in of_kind]
    return median(values) if values else 0.0
