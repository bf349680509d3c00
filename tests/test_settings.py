"""Settings are declared once and checked, whoever builds them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from segpref.objectives import IPO
from segpref.policies import NetworkSpec
from segpref.proposals import OtherMasks
from segpref.settings import described
from segpref.training import AlignConfig, Feedback, FitConfig
from segpref.training.semisupervised import FixMatch
from segpref.types import SegprefError


@pytest.mark.parametrize("kind", [AlignConfig, FitConfig])
def test_every_setting_says_what_it_is(kind: type) -> None:
    told = described(kind)
    assert list(told) == [one.name for one in fields(kind)]
    assert all(text.rstrip().endswith(".") for text in told.values())


def test_defaults_are_the_papers() -> None:
    align, fit = AlignConfig(), FitConfig()
    assert (align.epochs, align.candidates, align.reduction, align.optimizer) == (
        15, 32, "region", "adam",
    )  # fmt: skip
    assert (fit.epochs, fit.learning_rate, fit.schedule, fit.optimizer) == (
        100, 1e-3, "cosine", "adamw",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"batch_size": True}, "batch_size must be a number"),
        ({"learning_rate": float("nan")}, "learning_rate must be at least 0, not nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be at least 0, not inf"),
        ({"average": 1.0}, "average must be at least 0 and below 1"),
        ({"schedule": "square"}, "schedule is one of constant, cosine, halved, linear"),
        ({"reduction": "pixel"}, "reduction is one of image, region"),
        ({"candidates": 1}, "candidates must be at least 2"),
        ({"reference": "round"}, "give refresh"),
        ({"families": []}, "at least one proposal family"),
        ({"method": "calibrated", "objective": IPO()}, "brings its own objective"),
        ({"feedback": Feedback(), "supervised": 0.5}, "feedback brings its own method"),
        ({"feedback": Feedback(), "families": [print]}, "feedback brings its own candidates"),
    ],
)
def test_settings_that_can_t_be_are_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(SegprefError, match=reason):
        AlignConfig(**wrong)


def test_a_semi_supervised_method_has_no_dropout_of_the_warm_up() -> None:
    with pytest.raises(SegprefError, match="dropout is for supervised training, not for FixMatch"):
        FitConfig(method=FixMatch(), dropout=0.1)
    assert AlignConfig(reduction=("power", 0.5)).reduction == ("power", 0.5)


def test_what_does_the_same_may_stand_in_for_a_class() -> None:
    class Folder:
        """Does what a folder of masks does."""

    family = OtherMasks([Folder()])  # type: ignore[list-item]
    assert len(family.folders) == 1
    with pytest.raises(SegprefError, match="OtherMasks: folders must be a list"):
        OtherMasks(["masks"])  # type: ignore[list-item]
    assert NetworkSpec("a.B", {"channels": [4]}).arguments == {"channels": [4]}
    with pytest.raises(SegprefError, match="NetworkSpec: arguments must be a mapping"):
        NetworkSpec("a.B", [4])  # type: ignore[arg-type]
