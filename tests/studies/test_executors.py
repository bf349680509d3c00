from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from segpref.policies import NetworkSpec
from segpref.studies.board import Board
from segpref.studies.executors import Processes
from segpref.studies.judging import ModelBased
from segpref.studies.plan import Task
from segpref.studies.recipe import Method, Recipe
from segpref.studies.stages import Stage1, Stage2


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
    monkeypatch.setattr("segpref.studies.executors.Launched", Started)
    monkeypatch.setattr("segpref.studies.executors.replace", lambda lab: lab)


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        (None, 2, ["0", "1", "0"]),
        ("3,5", 2, ["3", "5", "3"]),
        (None, 0, [None, None, None]),
    ],
)
def test_each_task_sees_the_gpu_with_the_fewest_tasks(
    visible: str | None,
    count: int,
    expected: list[str | None],
    processes: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    executor = Processes(3)
    lab: Any = SimpleNamespace(out=Path())
    for seed in range(3):
        executor.start(lab, Task(seed, "base", "weak"))
    assert Started.environments == expected
    executor.close()


def test_the_board_knows_how_far_every_kind_of_task_is(tmp_path: Path) -> None:
    recipe = Recipe(
        name="r",
        description="",
        split={},
        network=NetworkSpec("torch.nn.Conv2d", {}),
        bases={"weak": Stage1(epochs=4)},
        judges={"model": ModelBased()},
        methods={"RN": Method()},
        align=Stage2(epochs=2),
    )
    lab: Any = SimpleNamespace(out=tmp_path, recipe=recipe)
    tasks = {
        Task(0, "base", "weak"): 0.25,
        Task(0, "run", "weak", "model", "RN"): 0.5,
        Task(0, "judge", "", "model"): 0.0,  # only the judge knows how it is trained
        Task(0, "audit", "weak", "model"): 0.0,
    }
    board = Board(lab, len(tasks), 0, slots=2)
    for task in tasks:
        folder = task.folder(tmp_path)
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("epoch,val_iou\n0,0.1\n1,0.2\n")
        board.started(task, [])
    shown = board._table()
    assert [bar.completed for bar in shown.columns[1]._cells] == list(tasks.values())
