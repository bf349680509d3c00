"""The outcome of a run in plain sentences, and what to check before its model is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpref.report.charts import History, column, hardly_there, volume_ratios
from segpref.report.comparison import FEWEST_PATIENTS, Comparison, Word
from segpref.training.folder import RunFolder
from segpref.trust import read_json
from segpref.types import SegprefError

__all__ = ["Control", "Verdict", "alignment_warnings", "doubt", "read_comparison", "verdict"]

VOLUME_TOLERANCE = 0.2
DRIFT_TOLERANCE = 0.02
FEW_PAIRS = 0.1
_LAST = 3
_VISIBLE = 0.0005
"""Half of the last digit that is shown: a gain below it is none."""


@dataclass(frozen=True, slots=True)
class Control:
    """A run of the same kind whose preferences were drawn by chance.

    Args:
        name: of its folder.
        comparison: with the base.
    """

    name: str
    comparison: Comparison


_WORDS: Mapping[Word, str] = {
    "better": "Better than the base on validation",
    "not shown": "Not shown to be better than the base on validation",
    "worse": "Worse than the base on validation",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a run.

    Args:
        good: whether the tuned model is shown to be better than its base.
        headline: the outcome in one sentence, with its interval and the number of patients.
        evidence: further sentences: the scores, and what the random-preference control gained.
    """

    good: bool
    headline: str
    evidence: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All sentences."""
        return " ".join((self.headline, *self.evidence))


def verdict(
    summary: Mapping[str, Any],
    comparison: Comparison | None = None,
    control: Control | None = None,
    is_control: bool = False,
) -> Verdict:
    """Whether the tuned model is better than its base on validation, and the sentences that say so.

    Args:
        summary: of the run.
        comparison: of model and base, patient by patient; without it nothing is shown.
        control: the random-preference control, where it was run.
        is_control: whether the run is itself one.
    """
    if "val_iou_base" not in summary:
        return _by_votes(summary, is_control)
    base, peak = float(summary["val_iou_base"]), float(summary["val_iou_peak"])
    word: Word = "not shown" if comparison is None else comparison.word
    headline = f"{_WORDS[word]}: "
    if comparison is None:
        headline += "the two were not compared patient by patient."
    else:
        headline += f"IoU {comparison.in_words}"
        few = comparison.patients < FEWEST_PATIENTS
        headline += (
            f"; with fewer than {FEWEST_PATIENTS} validation patients nothing is shown." * few
        )
        headline += "." * (not few)
    when = f"after epoch {summary['peak_epoch']} of {summary['epochs']}"
    scores = f"Mean IoU {peak:.3f} {when}, the base has {base:.3f} ({peak - base:+.3f})."
    return Verdict(
        word == "better", headline, (scores, _of_control(comparison, control, is_control))
    )


def _of_control(comparison: Comparison | None, control: Control | None, is_control: bool) -> str:
    if is_control:
        return "This is a random-preference control: nothing was learned from the judge."
    if control is None:
        return (
            "The random-preference control (--control) was not run, so how much of it is the judge's "
            "is not known."
        )
    told = f"The random-preference control ({control.name}): {control.comparison.in_words}"
    gained = math.nan if comparison is None else comparison.mean
    return (
        f"{told}, so the gain was not learned from the judge."
        if _as_much(control, gained)
        else f"{told}."
    )


def _as_much(control: Control, gained: float) -> bool:
    """Whether there is a gain, and the control has as much."""
    return gained > 0 and control.comparison.mean >= gained


def _by_votes(summary: Mapping[str, Any], is_control: bool) -> Verdict:
    """Where votes chose the checkpoint, for want of labels."""
    headline = (
        "Without validation labels it is not known whether the model is better than the base."
    )
    told = (
        f"It has moved towards {float(summary['val_votes_peak']):.0%} of the votes that it did not "
        f"learn from (half by chance) after epoch {summary['peak_epoch']} of {summary['epochs']}. Ask "
        "people which of the two is better (segpref collect init --mode base-or-tuned)."
    )
    control = ("This is a random-preference control: nothing was learned from the votes.",)
    return Verdict(False, headline, (told, *(control if is_control else ())))


def read_comparison(folder: RunFolder) -> Comparison | None:
    """How a run's model compares with its base; None where that was not measured.

    Raises:
        SegprefError: the file can't be read.
    """
    if not folder.verdict.exists():
        return None
    remedy = "delete it, and resume the run to have it measured again"
    plain = read_json(folder.verdict, remedy)
    try:
        return Comparison.of(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SegprefError(f"{folder.verdict} is no verdict: {remedy}") from error


def doubt(model: Path) -> str | None:
    """Why a model should not be used before its base, where the run that tuned it says so.

    Args:
        model: run folder, a model file in it, or what was written back into its ``tuned``.
    """
    parts = model.expanduser().absolute().parts
    files = [model / "verdict.json"]
    if model.name in ("best.safetensors", "last.safetensors"):
        files = [model.parent / "verdict.json"]
    elif "tuned" in parts:
        run = Path(*parts[: len(parts) - 1 - parts[::-1].index("tuned")])
        # Of several folds each has a run folder of its own.
        files += [run / "verdict.json", *sorted(run.glob("*/verdict.json"))]
    for file in files:
        found = read_comparison(RunFolder(file.parent))
        if found is not None and found.word != "better":
            what = "is worse than" if found.word == "worse" else "is not shown to be better than"
            few = f" (at least {FEWEST_PATIENTS} are needed)" * (found.patients < FEWEST_PATIENTS)
            return (
                f"The model of {file.parent} {what} its base on validation: {found.in_words}{few}. "
                "Use the base until more patients tell."
            )
    return None


def alignment_warnings(
    summary: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    comparison: Comparison | None = None,
) -> list[str]:
    """Sentences about what went wrong or may have; empty where all looks well."""
    if "val_iou_base" not in summary:
        return _volume_warnings(summary, history) + _pair_warnings(history)
    found = []
    better = float(summary["val_iou_peak"]) - float(summary["val_iou_base"]) >= _VISIBLE
    base, tail, drift = (float(summary[k]) for k in ("val_iou_base", "tail_avg", "drift"))
    if not better:
        found.append("Tuning did not help on the validation images: keep using the base.")
    elif comparison is not None and comparison.word == "not shown":
        found.append("The gain may be chance: keep using the base until more patients tell.")
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
    if new := hardly_there(history):
        found.append(
            f"The base hardly predicts {', '.join(new)}, the model does: look at the outlines before "
            "you trust volumes."
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
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else math.nan
