"""Figures and sentences of a report: the verdict, the warnings, and what the charts say."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_reports import BETTER, FLAT, history

from segpref.report import (
    Comparison,
    Control,
    alignment_warnings,
    column,
    lines_chart,
    relative_to_start,
    validation_chart,
    verdict,
    volume_ratios,
)
from segpref.training import curve_summary

SURE = Comparison(0.12, 0.1, 0.14, 0.008, 8)


def test_verdict_gives_the_numbers() -> None:
    found = verdict(curve_summary(history(BETTER)), SURE)
    assert found.good
    assert found.headline == (
        "Better than the base on validation: IoU +0.120 per patient (95 % interval +0.100 to +0.140, "
        "sign-flip test p = 0.008, 8 patients)."
    )
    assert found.evidence == (
        "Mean IoU 0.620 after epoch 3 of 5, the base has 0.500 (+0.120).",
        "The random-preference control (--control) was not run, so how much of it is the judge's is "
        "not known.",
    )
    assert found.text == " ".join((found.headline, *found.evidence))


def test_the_control_stands_beside_the_verdict() -> None:
    rows = history(BETTER)
    control = Control("coin", replace(SURE, mean=0.13))
    found = verdict(curve_summary(rows), SURE, control)
    assert found.good
    assert "The random-preference control (coin): +0.130 per patient" in found.text
    assert "was not run" not in found.text
    assert found.text.endswith("so the gain was not learned from the judge.")
    less = Control("coin", replace(SURE, mean=0.01))
    assert "the gain was not" not in verdict(curve_summary(rows), SURE, less).text
    lost = replace(SURE, mean=-0.2)
    assert "the gain was not" not in verdict(curve_summary(rows), lost, control).text
    assert alignment_warnings(curve_summary(rows), rows, SURE) == []
    itself = verdict(curve_summary(rows), SURE, is_control=True)
    assert "nothing was learned from the judge" in itself.text


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"patients": 5}, "Not shown to be better"),
        ({"patients": 2}, "fewer than 6 validation patients nothing is shown"),
        ({"low": -0.01}, "Not shown to be better"),
        ({"p_value": 0.06}, "Not shown to be better"),
        ({"mean": -0.1, "low": -0.2, "high": -0.01}, "Worse than the base"),
        ({"mean": -0.1, "low": -0.2, "high": -0.01, "patients": 5}, "Not shown to be better"),
    ],
)
def test_nothing_else_is_better(changed: dict[str, Any], word: str) -> None:
    found = verdict(curve_summary(history(BETTER)), replace(SURE, **changed))
    assert not found.good
    assert word in found.headline
    assert not verdict(curve_summary(history(BETTER))).good, "not compared at all"


def warned(curve: Sequence[float] = BETTER, **columns: Sequence[float]) -> str:
    rows = history(curve, **{**FLAT, **columns})
    return " ".join(alignment_warnings(curve_summary(rows), rows))


def test_a_good_run_has_no_warning() -> None:
    assert warned() == ""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"curve": [0.5, 0.49, 0.49, 0.49, 0.49, 0.49]}, "keep using the base"),
        ({"curve": [0.5, 0.6, 0.4, 0.4, 0.4, 0.4]}, r"TailAvg 0.422, base 0.500.*never last"),
        ({"curve": [0.5, 0.7, 0.7, 0.7, 0.55, 0.55]}, "Validation fell by 0.050"),
        (
            {"volume_ratio_ring": [1, 1, 1.3, 1, 1]},
            r"ring is predicted 30% larger at epoch 3 \(best",
        ),
        ({"volume_ratio_ring": [1, 1, 1, 1, 0.7]}, r"30% smaller at epoch 5 \(last"),
        ({"preference_accuracy": [0.9, 0.9, 0.4, 0.4, 0.4]}, "only 40% of the pairs"),
        ({"pair_flip": [0.0, 0.0, 0.6, 0.6, 0.6]}, "wrong in 60% of the pairs"),
        ({"pairs_per_image": [0.05] * 5}, "Only 0.05 pairs per image"),
    ],
)
def test_what_went_wrong_is_said(changed: dict[str, Any], message: str) -> None:
    assert re.search(message, warned(**changed))


def test_a_volume_ratio_within_a_fifth_or_not_known_is_no_warning() -> None:
    assert warned(volume_ratio_ring=[1, 1, 1.19, 1, 0.81]) == ""
    assert warned(volume_ratio_ring=[math.nan] * 5) == ""


def test_harm_is_relative_to_its_first_three_epochs() -> None:
    assert relative_to_start(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [0.5, 1.0, 1.5, 2.0]
    found = relative_to_start(np.array([math.nan, 2.0, 4.0, 6.0]))
    assert found[1:] == pytest.approx([2 / 3, 4 / 3, 2])
    assert np.isnan(relative_to_start(np.zeros(4))).all()
    assert np.isnan(relative_to_start(np.full(2, math.nan))).all()


def test_columns_leave_out_the_start_and_keep_gaps() -> None:
    rows = history([0.1, 0.2, 0.3])
    rows[2]["volume_ratio_left lung"] = 1.5
    assert column(rows, "val_iou").tolist() == [0.2, 0.3]
    ratios = volume_ratios(rows)["left lung"]
    assert math.isnan(ratios[0])
    assert ratios[1] == 1.5


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_charts_count_whole_epochs(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def shown(figure: Any, axes: Any, legend: bool = True) -> bytes:
        low, high = axes.get_xlim()
        seen.extend(tick for tick in axes.get_xticks() if low <= tick <= high)
        return b""

    monkeypatch.setattr("segpref.report.charts._png", shown)
    lines_chart("Margin", "mean margin", {"margin": np.arange(epochs) / 10})
    assert seen == list(range(1, epochs + 1))


def test_the_validation_chart_says_what_it_shows() -> None:
    picture = validation_chart(np.array([0.6, 0.7, 0.65]), 0.5, 2, 0.65)
    assert picture.alt == (
        "Validation IoU over 3 epochs; the base has 0.500; the highest value is 0.700 after epoch 2; "
        "the average of the last epochs is 0.650."
    )
