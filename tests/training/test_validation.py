"""A policy is measured as it says, and otherwise as the task does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from segpref.data import Dataset, Preparation
from segpref.policies import Segmenter
from segpref.training import validation_of
from segpref.types import LabelSpace, Predictor, SegprefError

SPACE = LabelSpace("multi-class", ("background", "disc"))
FORM = Preparation(size=(8, 8))


class Measured(Segmenter):
    """Its figures are given."""

    figures: Mapping[str, float] = {"val_iou": 0.5, "val_other": 2.0}
    seen: Predictor | None = None

    def validation(self, cases: Dataset, whole: Predictor) -> Mapping[str, float]:
        assert not self.network.training
        self.seen = whole
        return self.figures


def network() -> nn.Module:
    return nn.Conv2d(1, 2, 1).train()


def test_a_policy_without_one_is_measured_in_the_usual_way(hearts: Dataset) -> None:
    usual = validation_of(Segmenter(network(), SPACE), hearts, FORM, lambda: {"val_iou": 0.1})
    assert usual() == {"val_iou": 0.1}


def test_its_own_validation_sees_the_weights_as_they_are(hearts: Dataset) -> None:
    policy = Measured(network(), SPACE)
    validate = validation_of(policy, hearts, FORM, lambda: {"val_iou": 0.1})
    policy.network.train()
    assert validate() == Measured.figures
    image = torch.rand(1, 1, 8, 8)
    assert policy.seen is not None
    before = policy.seen.logits(image)
    with torch.no_grad():
        next(policy.network.parameters()).add_(1.0)
    assert not torch.equal(policy.seen.logits(image), before)


def test_figures_that_choose_no_checkpoint_are_refused(
    hearts: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Any = {"val_other": 1.0}
    monkeypatch.setattr(Measured, "figures", nothing)
    validate = validation_of(Measured(network(), SPACE), hearts, FORM, dict)
    with pytest.raises(SegprefError, match="validation of Measured gives no val_iou"):
        validate()
