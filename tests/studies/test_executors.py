from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from segpref.studies.engine import Job, Processes, StudyProgress


class Started:
    """Stands in for a process: notes which GPUs it would see."""

    environments: ClassVar[list[str | None]] = []

    def __init__(self, *given: Any) -> None:
        Started.environments.append(given[3].get("CUDA_VISIBLE_DEVICES"))

    def terminate(self) -> None: ...

    def join(self) -> None: ...


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    Started.environments = []
    monkeypatch.setattr("segpref.studies.engine.executors.Launched", Started)


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        (None, 2, ["0", "1", "0"]),
        ("3,5", 2, ["3", "5", "3"]),
        (None, 0, [None, None, None]),
    ],
)
def test_each_job_sees_the_gpu_with_the_fewest_jobs(
    visible: str | None,
    count: int,
    expected: list[str | None],
    processes: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segpref.studies.engine.executors.gpus", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    executor = Processes(3)
    for number in range(3):
        executor.start(Path(), Job(str(number), [], print))
    assert Started.environments == expected
    executor.close()


def test_progress_knows_how_far_every_training_is(tmp_path: Path) -> None:
    jobs = {
        Job("base", [], print, epochs=4): 0.25,
        Job("run", [], print, epochs=2): 0.5,
        Job("judge", [], print): 0.0,  # only the judge knows how it is trained
    }
    progress = StudyProgress(tmp_path, len(jobs), 0, slots=2)
    for job in jobs:
        folder = tmp_path / job.name
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("epoch,val_iou\n0,0.1\n1,0.2\n")
        progress.started(job, [])
    shown = progress._table()
    assert [bar.completed for bar in shown.columns[1]._cells] == list(jobs.values())
