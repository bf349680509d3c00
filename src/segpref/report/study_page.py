"""The page of a study: several methods, each with several seeds, in one table or more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from segpref.report.charts import (
    FROM_ZERO,
    LEAST_IOU,
    LEAST_RATIO,
    SHARE,
    Curve,
    History,
    bands_chart,
    column,
    relative_to_start,
    volume_ratios,
)
from segpref.report.differences import Difference
from segpref.report.page import Cell, Details, Page, Picture, Section, Table
from segpref.report.picture_sections import overlay_section
from segpref.report.pictures import Overlay
from segpref.report.runs import LOW_IS_GOOD, MEASURE_NAMES, Measure
from segpref.report.study_structures import method_sections
from segpref.report.tables import TableRow, best_of, spread_text

__all__ = ["Part", "study_report"]

_TERMS = ("IoU", "Dice", "Base", "TailAvg", "Drift", "Judge", "Preference accuracy", "Harmful mass")


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a study with its curves.

    Args:
        title: its heading; empty where there is only one part.
        rows: the table; the first row is the base.
        histories: rows of ``metrics.csv``, one history per seed, of every trained method.
        differences: claims of better.
        columns: of the table; all figures of the first row where None.
        reports: address of each run's own report, by its name.
        structures: the same rows structure by structure, by measure.
        controls: rows that are random-preference controls; None where nothing is learned from
            preferences, so that there is nothing to control.
    """

    title: str
    rows: Sequence[TableRow]
    histories: Mapping[str, Sequence[History]] = field(default_factory=dict)
    differences: Sequence[Difference] = ()
    columns: Sequence[str] | None = None
    reports: Mapping[str, str] = field(default_factory=dict)
    structures: Mapping[Measure, Sequence[TableRow]] = field(default_factory=dict)
    controls: Sequence[str] | None = None


def study_report(
    parts: Sequence[Part],
    *,
    title: str = "Comparison of methods",
    lead: str = "",
    overlays: Sequence[Overlay] = (),
    sections: Sequence[Section] = (),
    details: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Page:
    """A page with tables of methods, their curves and their outlines.

    Args:
        parts: tables with their curves; the first claim of the first one is the verdict.
        title: of the page.
        lead: what was compared, in a line.
        overlays: images with the outlines of the methods.
        sections: more tables and pictures for method developers, put after the curves.
        details: folded texts by title, such as the recipe.
        warnings: what is missing or failed.
    """
    good, sentence, evidence = _verdict(parts[0])
    # The verdict holds the control of the first part.
    shown = _answers(parts[0])
    for part in parts[1:]:
        shown += _answers(part, _controls(part, part.differences[0]) if part.differences else ())
    if overlays:
        shown.append(overlay_section(overlays, "Outlines"))
    return Page(
        title=title,
        lead=lead,
        verdict=sentence,
        evidence=evidence,
        good=good,
        warnings=warnings,
        sections=shown,
        developer=[*(section for part in parts for section in _trainings(part)), *sections],
        details=[Details(name, text) for name, text in (details or {}).items()],
        terms=_TERMS,
    )


def _answers(part: Part, control: Sequence[str] = ()) -> list[Section]:
    """The methods against each other, then all of them, and structure by structure."""
    head = f"{part.title}: " if part.title else ""
    shown = []
    if part.differences:
        shown.append(
            Section(
                f"{head}method against method" if head else "Method against method",
                "Difference on test between two methods with the same patients, seeds and budget.",
                table=_claims(part.differences),
                note="The interval comes from resampling the test patients 10 000 times "
                "(bootstrap), p from drawing the sign of every patient's difference anew. Better needs "
                "at least 6 patients, p below 0.05, and the interval and every seed on the good side "
                "of 0: above it, or below it for ASSD. Worse is an interval on the other side. "
                + " ".join(control),
            )
        )
    shown.append(
        Section(
            f"{head}methods" if head else "Methods",
            "Mean ± standard deviation over seeds; the best mean of each column is bold. IoU and Dice "
            "are of the test images, on the network's grid (after crop and resampling), with the "
            "weights that were best on validation; Score, Peak, TailAvg and Drift are of validation.",
            table=_table(part.rows, part.columns),
        )
    )
    return shown + method_sections(part.structures, head)


def _trainings(part: Part) -> list[Section]:
    """The curves of the methods, and where each run has its own page."""
    head = f"{part.title}: " if part.title else ""
    shown = []
    if charts := _charts(part.histories):
        seeds = max(len(curves) for curves in part.histories.values())
        text = "Each line is the mean over seeds; its band spans the lowest to the highest seed."
        shown.append(
            Section(
                f"{head}training" if head else "Training",
                text if seeds > 1 else "One seed.",
                pictures=charts,
            )
        )
    if part.reports:
        rows = tuple((Cell(name, link=address),) for name, address in part.reports.items())
        shown.append(Section(f"{head}every run", table=Table(("Report",), rows)))
    return shown


def _verdict(part: Part) -> tuple[bool, str, list[str]]:
    """Whether the first claim holds, in words, and its control. Means without a claim show nothing."""
    if part.differences:
        claim = part.differences[0]
        valid = {"better": "is better than", "worse": "is worse than"}.get(
            claim.word, "is not shown to be better than"
        )
        seeds = f"better in {claim.told_seeds} seeds" if claim.seeds > 1 else "one seed"
        told = (
            f"{claim.method} {valid} {claim.other} on test: {MEASURE_NAMES[claim.measure]} "
            f"{claim.mean:+.3f} (95 % interval {claim.low:+.3f} to {claim.high:+.3f}, sign-flip test "
            f"p = {claim.p_value:.2g}, {claim.patients} patients), {seeds}."
        )
        return claim.better, told, _controls(part, claim)
    base = part.rows[0]
    best = max(part.rows, key=lambda row: _known(row.figures["IoU"][0]))
    value, start = best.figures["IoU"][0], base.figures["IoU"][0]
    if best is base:
        return False, f"No method is better than {base.method} on test (IoU {start:.3f}).", []
    told = (
        f"Nothing is shown: {best.method} is highest on test (IoU {value:.3f}, {base.method} has "
        f"{start:.3f}, {value - start:+.3f}; mean of {best.seeds} {_plural('seed', best.seeds)}), but "
        "no two methods were compared patient by patient with the same seeds."
    )
    return False, told, []


def _controls(part: Part, claim: Difference) -> list[str]:
    """What the random-preference control gained where a method's gain is claimed."""
    if part.controls is None or claim.method in part.controls:
        return []
    if not part.controls:
        return [
            "The random-preference control (a method with control: true) was not run, so how much of a "
            "gain is the judge's is not known."
        ]
    same = [
        one
        for one in part.differences
        if one.method in part.controls and (one.other, one.measure) == (claim.other, claim.measure)
    ]
    if not same:
        return [
            f"The random-preference control ({', '.join(part.controls)}) was not compared with "
            f"{claim.other}, so how much of a gain is the judge's is not known."
        ]
    told = []
    for one in same:
        sentence = (
            f"The random-preference control ({one.method}): {one.mean:+.3f} (95 % interval "
            f"{one.low:+.3f} to {one.high:+.3f}, {one.patients} patients)"
        )
        sign = -1 if claim.measure in LOW_IS_GOOD else 1
        if sign * one.mean >= sign * claim.mean > 0:
            sentence += ", so the gain was not learned from the judge"
        told.append(f"{sentence}.")
    return told


def _table(rows: Sequence[TableRow], wanted: Sequence[str] | None) -> Table:
    columns = list(wanted or rows[0].figures)
    best = {name: best_of(name, [row.figures[name][0] for row in rows]) for name in columns}
    lines = []
    for row in rows:
        cells = [
            Cell(spread_text(*row.figures[name]), row.figures[name][0] == best[name])
            for name in columns
        ]
        lines.append((Cell(row.method), *cells, Cell(str(row.seeds))))
    return Table(("Method", *columns, "Seeds"), tuple(lines))


def _claims(differences: Sequence[Difference]) -> Table:
    rows = tuple(
        (
            f"{one.method} minus {one.other}",
            MEASURE_NAMES[one.measure],
            f"{one.mean:+.3f}",
            f"{one.low:+.3f} to {one.high:+.3f}",
            f"{one.p_value:.2g}",
            str(one.patients),
            one.told_seeds,
            one.word,
        )
        for one in differences
    )
    columns = (
        "Difference",
        "Measure",
        "Mean",
        "95 % interval",
        "p",
        "Patients",
        "Seeds",
        "Verdict",
    )
    return Table(columns, rows)


def _charts(histories: Mapping[str, Sequence[History]]) -> tuple[Picture, ...]:
    order = list(histories)

    def known(name: str) -> dict[str, list[Curve]]:
        found = {
            method: [column(history, name) for history in runs]
            for method, runs in histories.items()
        }
        return {m: runs for m, runs in found.items() if runs and not np.isnan(runs[0]).all()}

    charts = []
    if whole := {method: _with_start(runs) for method, runs in histories.items() if runs}:
        base = float(np.mean([run[0] for runs in whole.values() for run in runs]))
        charts.append(
            bands_chart(
                "Validation", "validation IoU", whole, base, "base", 0, order, least=LEAST_IOU
            )
        )
    if losses := known("val_loss"):
        charts.append(bands_chart("Validation loss", "Dice + cross-entropy", losses, order=order))
    shares = known("images_with_pair")
    if any((run < 1).any() for runs in shares.values() for run in runs):
        charts.append(
            bands_chart("Images with a pair", "share of images", shares, order=order, limits=SHARE)
        )
    for name, title in (
        ("harmful_mass", "Harmful mass"),
        ("harmful_mass_fraction", "Harmful mass, weighted by disagreement"),
    ):
        harm = {m: [relative_to_start(run) for run in runs] for m, runs in known(name).items()}
        if any(not np.isnan(run).all() for runs in harm.values() for run in runs):
            charts.append(
                bands_chart(
                    title, "relative to epochs 1 to 3", harm, 1, order=order, limits=FROM_ZERO
                )
            )
    if accuracy := known("preference_accuracy"):
        charts.append(
            bands_chart(
                "Preference accuracy", "share of pairs", accuracy, 0.5, order=order, limits=SHARE
            )
        )
    if ratios := {m: [_mean_ratio(run) for run in runs] for m, runs in histories.items() if runs}:
        ratios = {m: runs for m, runs in ratios.items() if all(len(run) for run in runs)}
        if ratios:
            charts.append(
                bands_chart(
                    "Volume ratio", "mean of structures", ratios, 1, order=order, least=LEAST_RATIO
                )
            )
    return tuple(charts)


def _with_start(runs: Sequence[History]) -> list[Curve]:
    return [np.array([row["val_iou"] for row in history], dtype=float) for history in runs]


def _mean_ratio(history: History) -> Curve:
    ratios = np.array(list(volume_ratios(history).values()))
    if not len(ratios):
        return np.zeros(0)
    valid = (~np.isnan(ratios)).sum(axis=0)
    return np.where(valid, np.nansum(ratios, axis=0) / np.maximum(valid, 1), np.nan)


def _known(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
