"""What a run came to, in plain sentences, and what to look at before its model is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segpref.report.charts import History, column, volume_ratios

__all__ = ["alignment_warnings", "verdict"]

VOLUME_TOLERANCE = 0.2
DRIFT_TOLERANCE = 0.02
FEW_PAIRS = 0.1
_LAST = 3
_VISIBLE = 0.0005
"""Half of the last digit that is shown: a gain below it is none."""


def verdict(summary: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the tuned model is better than its base on validation, and the sentence that says so."""
    base, peak = float(summary["val_iou_base"]), float(summary["val_iou_peak"])
    better = peak - base >= _VISIBLE
    when = f"after epoch {summary['peak_epoch']} of {summary['epochs']}"
    return better, (
        f"{'Better' if better else 'Not better'} than the base on validation: IoU {peak:.3f} {when}, "
        f"the base has {base:.3f} ({peak - base:+.3f})."
    )


def alignment_warnings(
    summary: Mapping[str, Any], history: Sequence[Mapping[str, float]]
) -> list[str]:
    """Sentences about what went wrong or may have; empty where all looks well."""
    found = []
    better, _ = verdict(summary)
    base, tail, drift = (float(summary[k]) for k in ("val_iou_base", "tail_avg", "drift"))
    if not better:
        found.append("Tuning did not help on the validation images: keep using the base.")
    if better and base - tail >= _VISIBLE:
        found.append(
            f"At the end of training the model was worse than the base (TailAvg {tail:.3f}, base "
            f"{base:.3f}): use best.safetensors, never last.safetensors."
        )
    if drift > DRIFT_TOLERANCE:
        found.append(
            f"Validation fell by {drift:.3f} after its best stretch: the judge's errors are being "
            "learned. Train for fewer epochs, with a smaller learning rate, or with a better judge."
        )
    return found + _volume_warnings(summary, history) + _pair_warnings(history)


def _volume_warnings(summary: Mapping[str, Any], history: History) -> list[str]:
    found = []
    peak = int(summary["peak_epoch"])
    for name, ratios in volume_ratios(history).items():
        said = []
        for number, file in ((peak, "best"), (len(ratios), "last")):
            ratio = float(ratios[number - 1])
            if abs(ratio - 1) > VOLUME_TOLERANCE and not (number == peak and file == "last"):
                change = f"{abs(ratio - 1):.0%} {'larger' if ratio > 1 else 'smaller'}"
                said.append(f"{change} at epoch {number} ({file}.safetensors)")
        if said:
            found.append(
                f"{name} is predicted {' and '.join(said)} than by the base: look at the outlines "
                "before you trust volumes."
            )
    return found


def _pair_warnings(history: History) -> list[str]:
    found = []
    accuracy, flips, pairs = (
        _late(history, name) for name in ("preference_accuracy", "pair_flip", "pairs_per_image")
    )
    if accuracy < 0.5:
        found.append(
            f"The model prefers the winner in only {accuracy:.0%} of the pairs of its last epochs: it "
            "does not learn what the judge says."
        )
    if flips > 0.5:
        found.append(
            f"By the true outlines the judge was wrong in {flips:.0%} of the pairs of the last epochs: "
            "find a better judge."
        )
    if pairs < FEW_PAIRS:
        found.append(
            f"Only {pairs:.2f} pairs per image were found in the last epochs: the judge can hardly "
            "tell the candidates apart."
        )
    return found


def _late(history: History, name: str) -> float:
    """Mean over the last epochs; NaN, which compares false to everything, where it was not kept."""
    values = column(history, name)[-_LAST:]
    told = values[~np.isnan(values)]
    return float(told.mean()) if len(told) else math.nan
