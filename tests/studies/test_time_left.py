"""The time that is left of a study: worked by hand."""

from __future__ import annotations

import pytest

from segpref.studies.engine import Job, Running, TimeLeft


def job(kind: str, epochs: int | None = None, name: str = "") -> Job:
    return Job(name or kind, outputs=(), run=lambda: None, kind=kind, epochs=epochs)


def test_quick_jobs_say_nothing_of_trainings() -> None:
    """Judges that need no training and audits were done in seconds: 15 runs are not."""
    left = TimeLeft()
    left.timed(job("judge"), 1.0, 0.0)
    left.timed(job("audit"), 4.0, 0.0)
    assert left.seconds({job("run", 15): 0.0}, {}, slots=1) is None
    assert left.seconds({job("judge"): 0.0, job("audit"): 0.0}, {}, slots=2) == pytest.approx(2.5)


def test_trainings_are_timed_by_the_epoch() -> None:
    left = TimeLeft()
    left.timed(job("run", 15), 150.0, 0.0)
    assert left.seconds({job("run", 100): 0.0}, {}, slots=2) == pytest.approx(500.0)
    # One that was stopped after 40 of its 100 epochs, and one that was timed for its last half.
    left.timed(job("base", 40), 40.0, 0.5)
    waiting = {job("run", 100): 0.4, job("base", 10): 0.0}
    assert left.seconds(waiting, {}, slots=1) == pytest.approx(60 * 10.0 + 10 * 2.0)


def test_an_unknown_kind_of_training_is_as_fast_as_the_others() -> None:
    left = TimeLeft()
    left.timed(job("run", 10), 30.0, 0.0)
    left.timed(job("base", 10), 10.0, 0.0)
    assert left.seconds({job("judge", 10): 0.0}, {}, slots=1) == pytest.approx(20.0)


def test_the_first_training_is_timed_while_it_runs() -> None:
    left = TimeLeft()
    first = job("run", 20)
    assert left.seconds({}, {first: Running(3.0, 0.0, 0.0)}, slots=1) is None
    running = {first: Running(30.0, 0.25, 0.5)}
    assert left.seconds({}, running, slots=1) == pytest.approx(60.0)
    assert left.seconds({job("run", 20, "other"): 0.0}, running, slots=1) == pytest.approx(180.0)


def test_a_job_that_takes_longer_than_usual_is_not_negative() -> None:
    left = TimeLeft()
    left.timed(job("audit"), 5.0, 0.0)
    assert left.seconds({}, {job("audit"): Running(60.0, 0.0, 0.0)}, slots=1) == 0.0
    assert TimeLeft().seconds({job("audit"): 0.0}, {}, slots=1) == 0.0
