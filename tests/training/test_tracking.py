"""Curves while a training runs: live, each epoch once, whatever happened in between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import tracking
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import nn

from segpref.cli import command_parser
from segpref.cli.main import main
from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec
from segpref.runtime import Runtime
from segpref.training import FitConfig, RunFolder, StepResult, run_loop, tracked
from segpref.types import LabelSpace, SegprefError

SPEC = NetworkSpec("torch.nn.Linear", {"in_features": 1, "out_features": 1})
CARD = ModelCard(SPEC, LabelSpace("multi-label", ("a",)), Preparation())


class Stopped(Exception):
    """Somebody ends the program."""


def shown(folder: Path) -> list[tuple[str, int]]:
    """(name, epoch) of all that TensorBoard would show of a run."""
    found = []
    for file in (folder / "tensorboard").iterdir():
        for event in EventFileLoader(str(file)).Load():
            found += [(value.tag, event.step) for value in event.summary.value]
    return sorted(found)


def train(folder: Path, stop_in: int | None = None, trackers: Any = ("tensorboard",)) -> list[int]:
    """Four epochs; how many values were shown at the beginning of each."""
    network = nn.Linear(1, 1)
    before: list[int] = []

    def step(indices: list[int], epoch: int, number: int) -> StepResult:
        if epoch == stop_in:
            raise Stopped
        before.append(len(shown(folder)) if "tensorboard" in trackers else 0)
        return StepResult(network(torch.ones(1, 1)).sum(), 1, {"loss": (1.0, 1.0)})

    run_loop(
        folder=RunFolder(folder), network=network, card=CARD,
        optimizer=torch.optim.Adam(network.parameters()), learning_rate=lambda progress: 0.1,
        epochs=4, batches=lambda epoch: [[0]], step=step, runtime=Runtime(), description="test",
        validate=lambda: {"val_iou": 0.5, "val_dice": float("nan")}, trackers=trackers,
    )  # fmt: skip
    return before


WHOLE = [("loss", n) for n in range(1, 5)] + [("val_iou", n) for n in range(5)]


def test_tensorboard_shows_every_epoch_as_it_ends(tmp_path: Path) -> None:
    # The start has one figure, an epoch two; what is not finite is not shown.
    assert train(tmp_path) == [1, 3, 5, 7]
    assert shown(tmp_path) == WHOLE


def test_a_run_that_goes_on_has_every_epoch_once(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, stop_in=2)
    (old,) = (tmp_path / "tensorboard").iterdir()
    train(tmp_path)
    assert not old.exists()
    assert shown(tmp_path) == WHOLE


class Elsewhere:
    """A tracker outside the run folder, as Accelerate has them."""

    requires_logging_directory = False
    runs: list[Elsewhere]

    def __init__(self, project: str) -> None:
        self.project = project
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.finished = False
        self.runs.append(self)

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: Mapping[str, object]) -> None:
        self.values = values

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished = True


def test_other_trackers_see_a_new_run_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Elsewhere] = []
    monkeypatch.setattr(Elsewhere, "runs", runs, raising=False)
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Elsewhere)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["tensorboard", "wandb"])
    with pytest.raises(Stopped):
        train(tmp_path, stop_in=2, trackers=("tensorboard", "wandb"))
    train(tmp_path, trackers=("wandb",))
    first, second = runs
    assert [epoch for epoch, _ in first.rows] == [0, 1, 2]
    assert [epoch for epoch, _ in second.rows] == [0, 1, 2, 3, 4]
    assert second.rows[:3] == first.rows
    assert first.finished
    assert second.finished
    assert second.project == "segpref"
    assert second.values == {"folder": str(tmp_path.resolve())}


def test_a_tracker_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["tensorboard"])
    with (
        pytest.raises(SegprefError, match="wandb is not installed"),
        tracked(RunFolder(tmp_path), ("tensorboard", "wandb")),
    ):
        pass
    assert not (tmp_path / "tensorboard").exists()


def test_processes_that_do_not_write_track_nothing(tmp_path: Path) -> None:
    with tracked(RunFolder(tmp_path), ()) as track:
        track({"epoch": 0.0, "val_iou": 0.5})
    assert not list(tmp_path.iterdir())


def test_tensorboard_is_the_default() -> None:
    assert FitConfig().trackers == ("tensorboard",)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("mlflow", ("mlflow",)),
        ("[mlflow, wandb]", ("mlflow", "wandb")),
        ("[]", ()),
        ("[tensorboard]", ("tensorboard",)),
    ],
)
def test_one_or_several_by_name(given: str, meant: tuple[str, ...]) -> None:
    parser, _ = command_parser("fit")
    options = parser.parse_args(["--data", "x", "--out", "y", "--log_with", given])
    named = options.log_with
    assert FitConfig(log_with=named if isinstance(named, str) else tuple(named)).trackers == meant


@pytest.mark.parametrize("given", ["paper", "[tensorboard, paper]"])
def test_a_tracker_that_nobody_knows(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--data", "x", "--out", "y", "--log_with", given]) == 2
    assert "log_with" in capsys.readouterr().err
