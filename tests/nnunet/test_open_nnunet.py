"""What the commands learn of an nnU-Net folder, without nnU-Net itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from segpref.data import Preparation
from segpref.policies import (
    ModelCard,
    NetworkSpec,
    Segmenter,
    open_model,
    read_card,
    save_model,
)
from segpref.policies import (
    model_formats as opening,
)
from segpref.policies.nnunet import checkpoint_of, folds_of
from segpref.types import LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "core"))
FINAL, BEST = "checkpoint_final.pth", "checkpoint_best.pth"


@dataclass(frozen=True)
class MadeFolder:
    """As much of a trained folder as opening one asks for."""

    path: Path
    folds: tuple[str, ...]
    checkpoint: str
    mirroring: tuple[int, ...] = (0, 1)
    labelled: tuple[str, ...] = ("case1",)

    def card(self) -> ModelCard:
        settings = {"in_channels": 1, "out_channels": 2, "kernel_size": 1}
        spec = NetworkSpec("torch.nn.Conv2d", settings)
        return ModelCard(spec, SPACE, Preparation(size=(8, 8)))

    def policy(self, fold: str) -> Segmenter:
        return Segmenter(self.card().network.build(), SPACE)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(path: Path, *, folds: Collection[str] | None, checkpoint: str, trust: bool) -> Any:
        return MadeFolder(path, folds_of(path, folds, checkpoint), checkpoint)

    monkeypatch.setattr(opening, "read_nnunet", made)


def trained(root: Path, **folds: str) -> Path:
    """A folder whose folds have these checkpoints."""
    path = root / "nnUNetTrainer__nnUNetPlans__2d"
    for fold, names in folds.items():
        (path / fold).mkdir(parents=True)
        for name in names.split():
            (path / fold / name).touch()
    return path


@pytest.mark.usefixtures("read")
def test_what_is_made_of_a_folder_mirrors_as_the_folder_does(tmp_path: Path) -> None:
    opened = open_model(trained(tmp_path, fold_0=FINAL) / "fold_0", trust=True)
    assert opened.mirroring == opened.card.mirroring == (0, 1)
    file = tmp_path / "best.safetensors"
    save_model(file, opened.policies()[0].network, opened.card)
    assert open_model(file).mirroring == (0, 1)
    assert read_card(file) == opened.card


def test_cards_without_mirroring_stay_as_they_were(tmp_path: Path) -> None:
    card = MadeFolder(tmp_path, ("0",), FINAL).card()
    assert not {"mirroring", "code"} & set(json.loads(card.to_json()))
    assert ModelCard.from_json(card.to_json()) == card
    assert card.mirroring == ()


def test_the_last_checkpoint_or_else_the_best(tmp_path: Path) -> None:
    path = trained(tmp_path, fold_0=f"{FINAL} {BEST}", fold_1=BEST, fold_2="")
    assert checkpoint_of(path, None) == FINAL
    assert checkpoint_of(path, ["0"]) == checkpoint_of(path, [0, 1]) == FINAL
    assert checkpoint_of(path, ["1"]) == BEST
    assert checkpoint_of(path, ["2"]) == FINAL  # which is then said to be missing


@pytest.mark.usefixtures("read")
def test_an_unfinished_training_is_opened_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = trained(tmp_path, fold_0=BEST, fold_1=BEST)
    with caplog.at_level(logging.WARNING):
        opened = open_model(path, trust=True)
    assert list(opened.members) == ["fold_0", "fold_1"]
    assert "has no checkpoint_final.pth, so checkpoint_best.pth is taken" in caplog.text
    assert "nnUNetv2_predict -chk checkpoint_best.pth" in caplog.text
    caplog.clear()
    open_model(trained(tmp_path / "whole", fold_0=f"{FINAL} {BEST}"), trust=True)
    assert not caplog.text


@pytest.mark.usefixtures("read")
def test_no_command_is_told_of_an_option_that_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(
        SegprefError, match=r"has no fold with checkpoint_final\.pth: finish"
    ) as told:
        open_model(trained(tmp_path, fold_0="checkpoint_latest.pth"), trust=True)
    assert "name another checkpoint" not in str(told.value)
