"""The page of a quality report: which masks to look at first, and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from segpref.inference.quality.ranking import RankedMask, image_order, worst_images
from segpref.inference.quality.reference import QualityReference
from segpref.report.page import Cell, Key, Page, Picture, Section, Table
from segpref.report.pictures import Overlay, overlay_keys
from segpref.report.quality_charts import calibration_chart, predictions_chart
from segpref.report.views import view_of

__all__ = ["CSV", "quality_page"]

CSV = "quality.csv"
"""What the page calls the table of all masks."""

_ROWS = 60
"""Lines of the page's table; the CSV file has all."""

_FEW = 20


def quality_page(
    masks: Sequence[RankedMask],
    known: QualityReference,
    overlays: Iterable[Overlay],
    lost: Sequence[str],
    judge: str,
) -> Page:
    """The page; arguments as of :func:`~segpref.report.quality_files.write_quality`."""
    images = len({one.volume for one in masks})
    flagged = [one for one in masks if one.reasons]
    count = len({one.volume for one in flagged})
    verdict = (
        f"Look at {count} of {images} images first: {len(flagged)} of their masks stand out."
        if count
        else f"No mask of {images} images stands out from what the labelled images show."
    )
    first = worst_images(masks) or image_order(masks)
    shown, more = first[:_ROWS], len(first) - _ROWS
    sections = [
        Section(
            "Look at these first" if flagged else "The lowest predictions",
            "Images with a flagged mask, by the judge's score and the model's confidence; where Dice "
            "can't be predicted, before all others."
            if flagged
            else "Images by the judge's score and the model's confidence.",
            table=_table(shown, masks, _coverage(known)),
            note=f"{more} more images are in {CSV}." if more > 0 else "",
        )
    ]
    pictures = _pictures(masks, overlays)
    sections += [pictures] if pictures.pictures else []
    sections += [_calibrations(masks, known), _checks(masks, known)]
    return Page(
        "Quality report",
        verdict,
        lead=f"Masks judged by {judge}, compared with labelled images of {known.patients} patients.",
        warnings=_warnings(known, lost),
        caution="What this report can't say",
        sections=sections,
        terms=("Dice", "Judge"),
    )


def _warnings(known: QualityReference, lost: Sequence[str]) -> list[str]:
    found = []
    if lost:
        some = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        found.append(f"{len(lost)} images have no mask: {some}.")
    if silent := [name for name, one in known.structures.items() if not one.calibration.known]:
        found.append(
            f"Dice of {', '.join(silent)} is not predicted: too few labelled images have a score."
        )
    if known.patients < _FEW:
        found.append(
            f"The labelled images are of only {known.patients} patients: intervals and thresholds are "
            "rough."
        )
    found.append(
        "Intervals hold for images like the labelled ones. They promise nothing for other scanners, "
        "protocols or diseases, which the checks of intensities, noise and voxel size notice only in "
        "part."
    )
    return found


def _table(first: Sequence[RankedMask], masks: Sequence[RankedMask], coverage: float) -> Table:
    header = ("Image", "structure", "predicted Dice", f"{coverage:.0%} interval", "why")
    rows = []
    for place, one in enumerate(first, start=1):
        own = [mask for mask in masks if mask.volume == one.volume]
        # Each reason once: what is strange about an image is so for all of its structures.
        why = dict.fromkeys(reason for mask in own for reason in mask.reasons)
        also = [mask.figures.structure for mask in own if mask.reasons and mask is not one]
        told = "; ".join(why) + (f" (also {', '.join(also)})" if also else "")
        rows.append(
            (
                f"{place}. {one.volume}",
                one.figures.structure,
                _number(one.predicted) or "unknown",
                _interval(one) or "unknown",
                Cell(told or "–", long=True),
            )
        )
    return Table(header, tuple(rows))


def _pictures(masks: Sequence[RankedMask], overlays: Iterable[Overlay]) -> Section:
    pictures: list[Picture] = []
    keys: tuple[Key, ...] = ()
    for overlay in overlays:
        own = [one for one in masks if one.volume == overlay.name]
        (mask,) = overlay.masks.values()
        view = view_of(
            overlay.image, [mask], overlay.label_space, overlay.spacing_mm, overlay.colour
        )
        png = view.draw(overlay.label_space.structure_masks(mask), None, size=2.6)
        said = [
            f"{one.figures.structure} {_number(one.predicted) or 'unknown'}"
            for one in _in_order(own)
        ]
        caption = ", ".join(said)
        title = f"{len(pictures) + 1}. {overlay.name}"
        alt = f"{overlay.name} with the outlines of its mask; predicted Dice: {caption}."
        pictures.append(Picture(png, alt, title, caption))
        keys = overlay_keys([overlay])
    return Section(
        "The first images with their masks",
        "Of volumes the slice with most of the mask. Below is the predicted Dice of each structure.",
        pictures=tuple(pictures),
        layout="rows",
        columns=4,
        keys=keys,
    )


def _in_order(masks: Sequence[RankedMask]) -> list[RankedMask]:
    return sorted(masks, key=lambda one: (math.isnan(one.predicted), one.predicted))


def _calibrations(masks: Sequence[RankedMask], known: QualityReference) -> Section:
    charts, dice = [], []
    for name, one in known.structures.items():
        own = [mask for mask in masks if mask.figures.structure == name]
        dice.append([mask.predicted for mask in own])
        if one.calibration.known:
            scores = [mask.figures.score for mask in own]
            charts.append(calibration_chart(name, one.calibration, scores))
    if any(not math.isnan(value) for values in dice for value in values):
        charts.append(predictions_chart(list(known.structures), dice))
    return Section(
        "How Dice is predicted",
        "Each point is a labelled image that neither model nor judge was trained with. The line is the "
        "best one that never falls (isotonic regression); the band is a jackknife+ interval.",
        pictures=tuple(charts),
    )


def _checks(masks: Sequence[RankedMask], known: QualityReference) -> Section:
    reasons = Counter(reason for one in masks for reason in one.reasons)
    rows = []
    for name, one in known.structures.items():
        limits = dict(one.thresholds)
        limits["score"] = -limits["score"]
        rows.append((name, *(_number(value) or "unknown" for value in limits.values())))
    images = ", ".join(
        f"{name} {_number(value) or 'unknown'}" for name, value in known.image_thresholds.items()
    )
    told = "; ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return Section(
        "How masks are flagged",
        "A mask is flagged where it is beyond what nearly all masks of the labelled images show."
        + (f" Flags: {told}." if told else ""),
        table=Table(
            ("Structure", "score below", "judge's spread", "model's disagreement", "shape"),
            tuple(rows),
            "Thresholds",
        ),
        note=f"Thresholds of images: {images}. Scores are flagged below their threshold, all other "
        "figures above it. Spread and disagreement are "
        "unknown where judge or model consist of one network without dropout. Shapes are compared by "
        "robust z-scores of size, number of parts, share of the largest part and filling of the "
        "bounding box.",
    )


def _coverage(known: QualityReference) -> float:
    return next(iter(known.structures.values())).calibration.coverage


def _interval(one: RankedMask) -> str:
    return "" if math.isnan(one.low) else f"{one.low:.2f} to {one.high:.2f}"


def _number(value: float, digits: int = 2) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
