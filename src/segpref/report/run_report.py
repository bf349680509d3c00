"""The report of one training: a single HTML file that a clinician can read and that works offline."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segpref.report.charts import (
    FROM_ZERO,
    LEAST_RATIO,
    SHARE,
    Curve,
    History,
    column,
    lines_chart,
    relative_to_start,
    validation_chart,
    volume_ratios,
)
from segpref.report.model_card import write_model_card
from segpref.report.page import Details, Page, Picture, Section, Table, write_page
from segpref.report.picture_sections import overlay_section, slate_section, variance_section
from segpref.report.pictures import Overlay, SlatePicture
from segpref.report.structures import judge_section, read_figures, score_sections
from segpref.report.verdicts import Control, alignment_warnings, read_comparison, verdict
from segpref.report.volume_scores import read_volume_scores
from segpref.training.curves import curve_summary
from segpref.training.folder import RunFolder
from segpref.trust import read_json
from segpref.types import SegprefError

__all__ = ["write_report"]

_NAMES = {
    "val_iou_base": "Base",
    "val_iou_peak": "Peak",
    "val_iou": "Peak",
    "peak_epoch": "Epoch of the peak",
    "best_epoch": "Epoch of the peak",
    "tail_avg": "TailAvg",
    "drift": "Drift",
    "val_iou_last": "After the last epoch",
    "epochs": "Epochs",
    "pool_cases": "Unlabelled images",
    "labelled_cases": "Labelled images",
    "labelled_patients": "Labelled patients",
    "seed": "Seed",
    "judge_abstains_on": "The judge abstains on",
    "val_votes_base": "Agreement with held-out votes, base",
    "val_votes_peak": "Agreement with held-out votes, peak",
    "val_votes_last": "Agreement with held-out votes, after the last epoch",
}
_SKIPPED = {
    "skipped_abstained": "the judge abstained",
    "skipped_zero": "all scores were 0",
    "skipped_tied": "all scores were equal",
    "skipped_undecided": "no two candidates were far enough apart",
    "skipped_tie": "a tie, from which this objective does not learn",
    "skipped_both-bad": "both masks are bad",
    "skipped_cant-tell": "the rater can't tell",
    "skipped_single": "accepted or rejected, from which this objective does not learn",
    "skipped_structure": "the masks do not differ in the structure",
    "skipped_elsewhere": "a mask is not in the set",
}
_ALIGNED = (
    "IoU",
    "Base",
    "Peak",
    "TailAvg",
    "Drift",
    "Judge",
    "Slate",
    "Pair",
    "Margin",
    "Preference accuracy",
    "PairFlip",
    "Harmful mass",
    "Volume ratio",
)
_OPTIMISM = (
    "The peak is the best of many epochs on these very images, so expect a little less on new ones."
)


def write_report(
    folder: RunFolder,
    *,
    overlays: Sequence[Overlay] = (),
    slate: SlatePicture | None = None,
    sections: Sequence[Section] = (),
    control: Control | None = None,
    audited: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``report.html`` and ``model-card.md`` of a run of stage 1 or 2 from what its folder holds.

    Args:
        folder: the run folder; an unfinished run gets a report that says so.
        overlays: the worst images with the outlines before and after.
        slate: candidates of one image with their scores.
        sections: more tables and pictures for method developers, put after the curves.
        control: the random-preference control of a run of stage 2, where it was run.
        audited: figures of an audit of its judge; those that the folder keeps where None.

    Returns:
        Path of the report.

    Raises:
        SegprefError: no epoch is finished yet.
    """
    history = folder.read_metrics() if folder.metrics.exists() else []
    if len(history) < 2:
        raise SegprefError(
            f"{folder.path} has no finished epoch in metrics.csv: report on a run that has trained"
        )
    about = _read_about(folder)
    summary = folder.read_summary() if folder.finished else _unfinished(about, history)
    warnings = []
    if not folder.finished:
        warnings.append(
            f"The run is not finished: this is what its first {len(history) - 1} epochs show."
        )
    pictures = [slate_section(slate), variance_section(slate)] if slate is not None else []
    details = _details(folder, about)
    if summary.get("kind") in ("fit", "fit-promptable", "semisupervised"):
        how = summary.get("method", "supervised training")
        peak, epoch = float(summary["val_iou"]), int(summary["best_epoch"])
        page = Page(
            title="A segmenter from a few labelled images",
            lead=f"Stage 1 ({how}) in {folder.path.name}",
            verdict=f"The model reaches a validation IoU of {peak:.3f} after epoch {epoch} of "
            f"{len(history) - 1}.",
            warnings=warnings,
            sections=[*_fit_sections(summary, history), *sections, *_outlines(overlays), *pictures],
            details=details,
            terms=("IoU", "Peak"),
        )
    else:
        comparison = read_comparison(folder)
        is_control = bool(about.get("settings", {}).get("control"))
        outcome = verdict(summary, comparison, control, is_control)
        page = Page(
            title="Tuning a segmenter with preferences",
            lead=f"Preference training (stage 2) in {folder.path.name}",
            verdict=outcome.headline,
            evidence=outcome.evidence,
            good=outcome.good,
            warnings=[*warnings, *alignment_warnings(summary, history, comparison)],
            sections=[
                *score_sections(folder, read_volume_scores(folder.validation)),
                *_outlines(overlays, "Worst cases"),
            ],
            developer=[
                *judge_section(read_figures(folder.audit) if audited is None else audited),
                *_alignment_sections(summary, history),
                *sections,
                *pictures,
            ],
            details=details,
            terms=_ALIGNED,
        )
    write_model_card(folder, about, summary, page.verdict, page.evidence, page.warnings)
    return write_page(folder.path / "report.html", page)


def _outlines(overlays: Sequence[Overlay], title: str = "Before and after") -> list[Section]:
    return [overlay_section(overlays, title)] if overlays else []


def _fit_sections(summary: Mapping[str, Any], history: History) -> list[Section]:
    chart = validation_chart(column(history, "val_iou"), None, int(summary["best_epoch"]), None)
    pictures = [chart]
    if not np.isnan(loss := column(history, "train_loss")).all():
        pictures.append(lines_chart("Training loss", "loss", {"loss": loss}))
    return [
        Section("Figures", table=_figures(summary)),
        Section(
            "Validation", "Overlap with the true outlines after every epoch.",
            pictures=tuple(pictures), note=_OPTIMISM,
        ),
    ]  # fmt: skip


def _alignment_sections(summary: Mapping[str, Any], history: History) -> list[Section]:
    sections = [Section("Figures", table=_figures(summary))]
    if isinstance(votes := summary.get("votes"), Mapping):
        rows = tuple((name.capitalize(), _value(told)) for name, told in _flat(votes))
        told = "Preferences that people stated: how many were learned from, and what was left out."
        sections.append(Section("Votes", told, Table(("", "Count"), rows)))
    if "val_iou_base" in summary:
        chart = validation_chart(
            column(history, "val_iou"),
            float(summary["val_iou_base"]),
            int(summary["peak_epoch"]),
            float(summary["tail_avg"]),
        )
        told = "Overlap with the true outlines after every epoch."
        sections.append(Section("Validation", told, pictures=(chart,), note=_OPTIMISM))
    if not np.isnan(agreed := column(history, "val_votes")).all():
        held_out = lines_chart(
            "Held-out votes", "share agreed with", {"votes": agreed}, 0.5, limits=SHARE
        )
        told = "Share of the votes that were not learned from that the model has moved towards."
        sections.append(Section("Held-out votes", told, pictures=(held_out,)))
    if charts := _learning_charts(history):
        sections.append(
            Section(
                "Learning",
                "What the pairs of every epoch show. PairFlip and harmful mass need true outlines; "
                "these are never used in training.",
                pictures=charts,
            )
        )
    if skipped := _skipped(history):
        sections.append(
            Section(
                "Left out",
                "Share of images (or structures) that gave no pair.",
                table=skipped,
            )
        )
    return sections


def _learning_charts(history: History) -> tuple[Picture, ...]:
    def known(**names: str) -> dict[str, Curve]:
        found = {name: column(history, key) for key, name in names.items()}
        return {name: curve for name, curve in found.items() if not np.isnan(curve).all()}

    charts = []
    if margin := known(margin="margin"):
        charts.append(lines_chart("Margin", "mean margin", margin, 0))
    if accuracy := known(preference_accuracy="preference accuracy", pair_flip="PairFlip"):
        charts.append(
            lines_chart("Preference accuracy", "share of pairs", accuracy, 0.5, limits=SHARE)
        )
    if pairs := known(pairs_per_image="pairs"):
        charts.append(lines_chart("Pairs per image", "pairs", pairs, limits=FROM_ZERO))
    harm = known(harmful_mass="as in Eq. 13", harmful_mass_fraction="weighted by disagreement")
    harm = {name: relative_to_start(curve) for name, curve in harm.items()}
    if any(not np.isnan(curve).all() for curve in harm.values()):
        charts.append(
            lines_chart("Harmful mass", "relative to epochs 1 to 3", harm, 1, limits=FROM_ZERO)
        )
    if ratios := volume_ratios(history):
        charts.append(lines_chart("Volume ratio", "relative to the base", ratios, 1, LEAST_RATIO))
    if loss := known(val_loss="Dice + cross-entropy"):
        charts.append(lines_chart("Validation loss", "loss", loss))
    if loss := known(loss="loss"):
        charts.append(lines_chart("Training loss", "loss", loss))
    return tuple(charts)


def _skipped(history: History) -> Table | None:
    rows = []
    for name in dict.fromkeys(key for row in history for key in row if key.startswith("skipped_")):
        values = column(history, name)
        valid = values[~np.isnan(values)]
        if len(valid):
            ends = (valid[0], valid.mean(), valid[-1])
            reason = _SKIPPED.get(name, name.removeprefix("skipped_"))
            rows.append((reason, *(f"{value:.2f}" for value in ends)))
    header = ("Reason", "First epoch", "Mean of all epochs", "Last epoch")
    return Table(header, tuple(rows)) if rows else None


def _figures(summary: Mapping[str, Any]) -> Table:
    # Known figures come first, in the order of reading; whatever else is there follows.
    names = [name for name in _NAMES if name in summary]
    names += [name for name in summary if name not in _NAMES and name not in ("kind", "votes")]
    rows = []
    for name in names:
        if text := _value(summary[name]):
            rows.append((_NAMES.get(name, name), text))
    return Table(("Figure", "Value"), tuple(rows))


def _flat(figures: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Figures, and those within them under both names."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}: {part}", one) for part, one in value.items())
        else:
            yield name, value


def _value(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    if isinstance(value, list | tuple):
        shown = ", ".join(_value(one) for one in value[:12])
        return shown + (f" and {len(value) - 12} more" if len(value) > 12 else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return "–" if value is None else str(value)


def _unfinished(about: Mapping[str, Any], history: History) -> dict[str, Any]:
    curve = column(history, "val_iou")
    if not np.isnan(column(history, "train_loss")).all():
        return {"kind": "fit", "best_epoch": int(curve.argmax()) + 1, "val_iou": float(curve.max())}
    chosen_by = "val_votes" if np.isnan(curve).all() else "val_iou"
    return {"kind": "align", **curve_summary(history, chosen_by)}


def _read_about(folder: RunFolder) -> dict[str, Any]:
    path = folder.path / "run.json"
    about = (
        read_json(path, "restore it, or delete it to report without it") if path.exists() else {}
    )
    return about if isinstance(about, dict) else {}


def _details(folder: RunFolder, about: Mapping[str, Any]) -> list[Details]:
    details = []
    if folder.config.exists():
        details.append(Details("Settings", folder.config.read_text().strip()))
    elif about.get("settings"):
        details.append(Details("Settings", json.dumps(about["settings"], indent=2)))
    lines = [f"{name} {version}" for name, version in about.get("versions", {}).items()]
    lines += [
        f"{name} {about[name]}" for name in ("python", "platform", "threads") if name in about
    ]
    if command := about.get("command"):
        lines.append("command " + shlex.join(map(str, command)))
    return [*details, Details("Versions and command", "\n".join(lines))] if lines else details
