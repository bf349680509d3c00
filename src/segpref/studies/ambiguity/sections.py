"""The tables of the study and the claims that they support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from segpref.inference.samples import rated_masks
from segpref.metrics.ambiguity import ambiguity_scores
from segpref.report.table_files import TitledTable
from segpref.report.tables import TableRow, mean_and_spread
from segpref.studies.ambiguity.findings import Findings
from segpref.studies.ambiguity.peer_table import peer_table
from segpref.studies.ambiguity.rows import compared, row_of
from segpref.studies.ambiguity.sample_files import REFERENCE, SampleSet
from segpref.studies.ambiguity.scores import (
    SAME_SIZE,
    gain,
    ged_at,
    irregularity,
    mean_over_images,
    pairs_of_a_size,
    trade,
)

__all__ = ["price", "sections"]


def sections(found: Findings) -> list[TitledTable]:
    """All tables that have at least a row."""
    made = [
        _methods(found),
        peer_table(found),
        _validation(found),
        _knob(found),
        _numbers(found),
        _variants(found, "components", "Parts of AmbiSeg"),
        _variants(found, "predictions", "What the network predicts"),
        _control(found),
        _speed(found),
    ]
    return [one for one in made if one.rows]


def _methods(found: Findings) -> TitledTable:
    names = [REFERENCE, *found.workspace.recipe.methods_of(None)]
    pairs = [(name, REFERENCE) for name in names[1:]]
    # The other methods against the first, among them the random-preference control.
    pairs += [(name, names[1]) for name in names[2:]]
    claims = [found.frame] if any(found.seeds(name) for name in names) else []
    claims += [claim for pair in pairs if (claim := compared(found, *pair))]
    rows = [row_of(found, name, found.seeds(name)) for name in names if found.seeds(name)]
    title = f"Alignments, N = {found.workspace.recipe.samples} (TDG-DiffDPO, Tables 3 and 6)"
    return TitledTable(title, rows, remarks=claims)


def _validation(found: Findings) -> TitledTable:
    """What settings are chosen by: the start of the alignments and the epoch that is taken of each."""
    workspace = found.workspace
    told: dict[str, Sequence[Mapping[str, float]]] = {}
    starts: dict[str, dict[int, Mapping[str, float]]] = {}
    # A start stands before its alignments.
    for name in sorted(
        workspace.recipe.methods, key=lambda one: workspace.start_of(one) != REFERENCE
    ):
        start = workspace.start_of(name)
        folders = {seed: workspace.folder(name, seed) for seed in workspace.recipe.seeds}
        runs = {seed: one.read_metrics() for seed, one in folders.items() if one.finished}
        if runs:
            begun = starts.setdefault(start, {})
            begun |= {seed: history[0] for seed, history in runs.items()}
            told[start] = [*begun.values()]
            told[name] = [
                history[-1]
                if workspace.recipe.checkpoint == "last"
                else max(history[1:], key=lambda row: row["val_iou"])
                for history in runs.values()
            ]
    columns = {
        "Avg. Dice": "val_average_dice",
        "GED": "val_ged",
        "Preferred": "preference_accuracy",
    }
    rows = [
        TableRow(
            name,
            len(last),
            {
                column: mean_and_spread([one.get(measure, np.nan) for one in last])
                for column, measure in columns.items()
            },
        )
        for name, last in told.items()
    ]
    return TitledTable("Validation, by which settings are chosen, N = 8", rows)


def _knob(found: Findings) -> TitledTable:
    recipe = found.workspace.recipe
    rows = [
        row_of(found, f"{name}, w = {w:g}", found.on_knob(name, w))
        for name in recipe.knob
        for w in found.stops(name)
    ]
    first = next(iter(recipe.knob), "")
    claims = []
    for name in recipe.methods_of(None) if first else ():
        # Who is more accurate than the first one at any stop turns the own knob back to it.
        claim = "" if name == first else price(found, first, name) or price(found, name, first)
        claims += [claim] if claim else []
    return TitledTable("The knob, and the price at equal Average Dice", rows, remarks=claims)


def price(found: Findings, turned: str, fixed: str) -> str:
    """GED of a method whose knob is turned to the Average Dice of another one, against that one's.

    Empty where no seed has the other one and every stop of the knob that the recipe asks for, or where
    the knob does not reach that Dice. The curve is a line between stops: where GED bends upwards it is
    a little lower in truth.
    """
    if turned not in found.workspace.recipe.knob:
        return ""
    seeds = found.curve_seeds(turned) & {one.seed for one in found.seeds(fixed)}
    curve = found.curve(turned, seeds)
    if curve is None:
        return ""
    point = [one for one in found.seeds(fixed) if one.seed in seeds]
    dice, ged = (np.mean(found.values(point, one), axis=0) for one in ("average_dice", "ged"))
    there = ged_at(float(dice.mean()), *(one.mean(axis=1) for one in curve))
    if not np.isfinite(there):
        return ""
    return (
        f"{fixed} has an Average Dice of {dice.mean():.4f} at a GED of {ged.mean():.4f}; {turned}, its "
        f"knob turned to that Average Dice, has {there:.4f}: a difference of "
        f"{trade(curve, (dice, ged), found.patients)}."
    )


def _numbers(found: Findings) -> TitledTable:
    drawing = SampleSet(REFERENCE, found.workspace.recipe.seeds[0])
    if not found.workspace.drawn(drawing):
        return TitledTable("", [])
    rows = [
        row_of(found, f"N = {count}", [drawing], count) for count in found.workspace.recipe.numbers
    ]
    return TitledTable(f"Number of samples of {REFERENCE} (TDG-DiffDPO, Table 4)", rows)


def _variants(found: Findings, table: str, title: str) -> TitledTable:
    recipe = found.workspace.recipe
    names = [name for name, variant in recipe.variants.items() if variant.table == table]
    rows = [row_of(found, name, found.seeds(name)) for name in names if found.seeds(name)]
    if not rows or table != "components":
        return TitledTable(title, rows)
    whole = [one for one in found.seeds(REFERENCE) if one.seed == recipe.seeds[0]]
    claims = [claim for name in names if (claim := compared(found, name, REFERENCE))]
    rows = [row_of(found, REFERENCE, whole), *rows] if whole else rows
    return TitledTable(f"{title} (TDG-DiffDPO, Table 5)", rows, remarks=claims)


def _control(found: Findings) -> TitledTable:
    names, patients = list(found.workspace.recipe.control), found.patients
    drawn = [found.seeds(REFERENCE, described=name) for name in names]
    count = min((len(one) for one in drawn), default=0)
    if not count:
        return TitledTable("", [])
    rows, outlines, sizes = [], [], []
    for name, drawings in zip(names, drawn, strict=True):
        masks = [found.workspace.samples(one) for one in drawings[:count]]
        each = [irregularity(one) for one in masks]
        area = [one.sum((-2, -1), dtype=float) for one in masks]
        outlines.append(each)
        sizes.append(area)
        figures = {
            "Irregularity": mean_and_spread([float(np.nanmean(one)) for one in each]),
            "Pixels": mean_and_spread([float(one.mean()) for one in area]),
            "Empty": mean_and_spread([float((one == 0).mean()) for one in area]),
        }
        rows.append(TableRow(name, count, figures))
    # The same noise with one text and the other; pairs of which one is empty have no outline.
    change = np.concatenate([a - b for a, b in zip(*outlines, strict=True)], axis=1)
    of_a_size = np.concatenate(
        [_at_equal_size(*pair) for pair in zip(*outlines, *sizes, strict=True)], axis=1
    )
    return TitledTable(
        "Semantic control: boundary irregularity P^2 / (4 pi A) with the same noise",
        rows,
        remarks=[
            _moved(f"{names[0]} against {names[1]}", change, patients),
            _moved(
                f"Samples of an image matched one to one for size, at most {SAME_SIZE:.0%} apart",
                of_a_size,
                patients,
            ),
        ],
    )


def _at_equal_size(
    ours: Float[np.ndarray, "image n"],
    theirs: Float[np.ndarray, "image n"],
    our_areas: Float[np.ndarray, "image n"],
    their_areas: Float[np.ndarray, "image n"],
) -> Float[np.ndarray, "image n"]:
    """Ours minus theirs of samples of a size; NaN for those that have no partner."""
    change = np.full(ours.shape, np.nan)
    for image, areas in enumerate(zip(our_areas, their_areas, strict=True)):
        mine, other = pairs_of_a_size(*areas)
        change[image, mine] = ours[image, mine] - theirs[image, other]
    return change


def _moved(what: str, change: Float[np.ndarray, "image n"], patients: Sequence[str]) -> str:
    """In how many images the outlines are more irregular, and by how much."""
    mean = _known_mean(change)
    more = mean_over_images(np.where(np.isnan(mean), np.nan, mean > 0), patients)
    return (
        f"{what}: outlines are more irregular in {more.mean:.1%} of {np.isfinite(mean).sum()} images "
        f"(95 % interval over patients {more.low:.1%} to {more.high:.1%}), mean change "
        f"{mean_over_images(mean, patients)}, {np.isfinite(change).sum()} pairs."
    )


def _speed(found: Findings) -> TitledTable:
    workspace = found.workspace
    timed = [one for one in workspace.recipe.speed if workspace.timed(one).exists()]
    names = [f"{one.solver}, {one.steps} steps" for one in timed]
    results = [workspace.what_was_timed(workspace.timed(one)) for one in timed]
    scores, rows, claims = [], [], []
    for name, sampler, (masks, seconds) in zip(names, timed, results, strict=True):
        cases = workspace.test[: len(masks)]
        raters = [rated_masks(case)[:, 0] for case in cases]
        scores.append(ambiguity_scores(list(masks[:, :, 0]), raters))
        faster = results[0][1] / seconds
        figures = {
            "GED": scores[-1].mean()["ged"],
            "Evaluations": float(sampler.steps),
            "Fewer": timed[0].steps / sampler.steps,
            "Seconds": float(seconds[0]),
            "Faster": float(faster[0]),
            "CPU seconds": float(seconds[1]),
            "CPU faster": float(faster[1]),
        }
        rows.append(
            TableRow(name, 1, {what: (value, float("nan")) for what, value in figures.items()})
        )
        if len(rows) > 1:
            more = gain([scores[-1].ged], [scores[0].ged], [case.patient for case in cases])
            claims.append(f"GED of {name} minus {names[0]}: {more}.")
    title = f"Speed on {workspace.recipe.speed_images} images, N = {workspace.recipe.samples}"
    return TitledTable(title, rows, remarks=claims)


def _known_mean(values: Float[np.ndarray, "image n"]) -> Float[np.ndarray, " image"]:
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
