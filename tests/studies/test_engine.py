"""Jobs of a study: their order, what a failure takes with it, and what is done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pytest

from segpref.studies.engine import (
    InProcess,
    Job,
    Portable,
    Processes,
    list_jobs,
    named_jobs,
    raise_for_failures,
    run_jobs,
)
from segpref.types import SegprefError


def write(path: Path) -> None:
    """What a job does; importable in other processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)


def fail(error: Exception) -> None:
    raise error


def job(
    out: Path, name: str, *needs: str, run: Callable[[], None] | None = None, **more: object
) -> Job:
    file = out / name / "done.txt"
    return Job(name, [file], run or partial(write, file), needs, **more)  # type: ignore[arg-type]


class Noted(InProcess):
    """Notes what is started, several at a time."""

    def __init__(self, slots: int = 1) -> None:
        super().__init__(slots)
        self.started: list[str] = []
        self.beside: dict[str, int] = {}
        self.closed = False

    def start(self, out: Path, job: Job) -> None:
        self.beside[job.name] = len(self._ended)
        self.started.append(job.name)
        super().start(out, job)

    def close(self) -> None:
        self.closed = True


def test_needs_come_first_and_what_is_finished_is_left(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "c", "b"), job(tmp_path, "b", "a"), job(tmp_path, "a")]
    executor = Noted()
    assert run_jobs(tmp_path, jobs, executor) == {}
    assert executor.started == ["a", "b", "c"]
    assert executor.closed
    (tmp_path / "b" / "done.txt").unlink()
    again = Noted()
    assert run_jobs(tmp_path, jobs, again) == {}
    assert again.started == ["b"]


def test_a_failure_takes_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "bad", run=partial(fail, ValueError("out of order"))),
        job(tmp_path, "odd", run=partial(fail, SegprefError("a sentence"))),
        job(tmp_path, "after", "bad"),
        job(tmp_path, "later", "after"),
        job(tmp_path, "silent", run=print),
        job(tmp_path, "good"),
    ]
    failed = run_jobs(tmp_path, jobs)
    assert failed.keys() == {"bad", "odd", "after", "later", "silent"}
    assert failed["bad"].startswith("ValueError: out of order (see ")
    assert "out of order" in (tmp_path / "bad" / "error.txt").read_text()
    assert failed["odd"] == "a sentence"
    assert failed["after"] == "needs bad, which failed"
    assert failed["later"] == "needs after, which failed"
    assert "it ended without" in failed["silent"]
    with pytest.raises(SegprefError, match="5 of 6 jobs failed"):
        raise_for_failures(failed, len(jobs))
    raise_for_failures({}, 6)


def test_what_was_done_with_other_settings_is_refused(tmp_path: Path) -> None:
    refuse = partial(fail, SegprefError("other settings"))
    jobs = [job(tmp_path, "a", check=refuse), job(tmp_path, "b", "a"), job(tmp_path, "c")]
    assert run_jobs(tmp_path, jobs[:1]) == {}
    assert run_jobs(tmp_path, jobs) == {"a": "other settings", "b": "needs a, which failed"}
    assert (tmp_path / "c" / "done.txt").exists()
    with pytest.raises(SegprefError, match="other settings"):
        list_jobs(jobs)


def test_what_is_timed_runs_alone(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "a"),
        job(tmp_path, "timed", alone=True),
        job(tmp_path, "b"),
        job(tmp_path, "c"),
    ]
    executor = Noted(slots=2)
    assert run_jobs(tmp_path, jobs, executor) == {}
    assert executor.started == ["a", "b", "timed", "c"]
    assert executor.beside["timed"] == 0
    assert executor.beside["c"] == 0


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([("a",), ("a",)], "two jobs of the study are called a"),
        ([("a", "b")], "a needs b, which is not a job"),
        ([("a", "b"), ("b", "a")], "need each other"),
    ],
)
def test_jobs_that_can_not_be_run(names: list[tuple[str, ...]], said: str, tmp_path: Path) -> None:
    executor = Noted()
    with pytest.raises(SegprefError, match=said):
        run_jobs(tmp_path, [job(tmp_path, *one) for one in names], executor)
    assert executor.closed
    assert not executor.started


def test_a_job_holds_its_folder(tmp_path: Path) -> None:
    def look() -> None:
        assert (tmp_path / "a" / ".lock").exists()
        write(tmp_path / "a" / "done.txt")

    assert run_jobs(tmp_path, [job(tmp_path, "a", run=look)]) == {}
    assert not (tmp_path / "a" / ".lock").exists()


def test_words_choose_jobs_and_what_they_need(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "fit"),
        job(tmp_path, "a", "fit", title="Align Region"),
        job(tmp_path, "b", "fit"),
        job(tmp_path, "draw", "a", title="Draw"),
    ]
    assert [one.name for one in named_jobs(jobs, [])] == ["fit", "a", "b", "draw"]
    assert [one.name for one in named_jobs(jobs, ["region"])] == ["fit", "a"]
    assert [one.name for one in named_jobs(jobs, ["draw", "B"])] == ["fit", "a", "b", "draw"]
    with pytest.raises(SegprefError, match="no job of the study has x or y in its title"):
        named_jobs(jobs, ["x", "y"])


def test_jobs_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(tmp_path, "a"), job(tmp_path, "b", title="The second")]
    run_jobs(tmp_path, jobs[:1])
    list_jobs(jobs)
    assert capsys.readouterr().out.splitlines()[-2:] == ["finished a", "to do    The second"]


@dataclass(frozen=True)
class Place(Portable):
    """A study that other processes take part in."""

    out: Path

    @cached_property
    def unpicklable(self) -> object:
        """Opened here, and not sent along."""
        return lambda: None

    def work(self, name: str) -> None:
        assert "unpicklable" not in self.__dict__
        write(self.out / name / "done.txt")


@pytest.mark.long
def test_other_processes_do_the_same(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.unpicklable
    jobs = [job(tmp_path, name, run=partial(place.work, name)) for name in "ab"]
    jobs += [
        job(tmp_path, "c", "a", "b", run=partial(place.work, "c")),
        job(tmp_path, "bad", run=partial(fail, ValueError("out of order"))),
    ]
    failed = run_jobs(tmp_path, jobs, Processes(2))
    assert failed.keys() == {"bad"}
    assert "out of order" in failed["bad"]
    assert all((tmp_path / name / "done.txt").exists() for name in "abc")
