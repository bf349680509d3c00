"""The quality report of predicted masks as CSV, JSON and one page, worst first."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segpref.data.cache import write_atomically
from segpref.data.csv_files import write_csv
from segpref.data.source import Source
from segpref.inference.quality.ranking import RankedMask, worst_images
from segpref.inference.quality.reference import QualityReference
from segpref.report.page import write_page
from segpref.report.pictures import Overlay
from segpref.report.quality_page import CSV, quality_page

__all__ = ["FIRST", "PAGE", "write_quality"]

JSON, PAGE, FIRST = "quality.json", "quality.html", "look-first.csv"


def write_quality(
    folder: Path,
    masks: Sequence[RankedMask],
    known: QualityReference,
    sources: Mapping[str, Source],
    overlays: Iterable[Overlay],
    lost: Sequence[str],
    judge: str,
) -> None:
    """Write ``quality.csv``, ``quality.json``, ``quality.html`` and ``look-first.csv``.

    The last one is a table of images as every ``--pool`` takes it
    (:func:`~segpref.data.manifest.read_manifest`): flagged images only, the first to look at first.

    Args:
        folder: of the report.
        masks: in their order, at least one.
        known: what they were compared with.
        sources: the images, by their ids.
        overlays: the images that are shown, in their order.
        lost: images without a mask.
        judge: what the page calls it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [one.as_row() for one in masks]
    write_csv(folder / CSV, rows)
    first = worst_images(masks)
    plain = [{name: None if it == "" else it for name, it in row.items()} for row in rows]
    content = {
        "judge": judge,
        "coverage": next(iter(known.structures.values())).calibration.coverage,
        "labelled_patients": known.patients,
        "sizes_compared_in": "mm" if known.in_mm else "voxels",
        "images": len({one.volume for one in masks}),
        "flagged_images": len(first),
        "without_mask": list(lost),
        "masks": plain,
    }
    write_atomically(folder / JSON, json.dumps(content, indent=1).encode())
    _write_first(folder / FIRST, first, sources)
    write_page(folder / PAGE, quality_page(masks, known, overlays, lost, judge))


def _write_first(path: Path, first: Sequence[RankedMask], sources: Mapping[str, Source]) -> None:
    files = {name: source.images for name, source in sources.items()}
    series = {name: _uid(source) for name, source in sources.items()}
    shared = Counter((files[name], series[name]) for name in sources)
    # Images of one packed file have no path of their own, nor have series without UIDs in one folder.
    own = [
        one
        for one in first
        if shared[files[one.volume], series[one.volume]] == 1
        and files[one.volume][0].suffix != ".npz"
    ]
    of_series = ["series_uid"] if any(series.values()) else []
    count = max((len(paths) for paths in files.values()), default=1)
    names = ["image"] if count == 1 else [f"image_{number:04d}" for number in range(count)]
    rows = [
        {
            "id": one.volume,
            **dict(zip(names, (str(file.absolute()) for file in files[one.volume]), strict=True)),
            **dict.fromkeys(of_series, series[one.volume]),
            "structure": one.figures.structure,
            "predicted_dice": "" if math.isnan(one.predicted) else round(one.predicted, 4),
            "why": "; ".join(one.reasons),
        }
        for one in own
    ]
    write_csv(path, rows, ["id", *names, *of_series, "structure", "predicted_dice", "why"])


def _uid(source: Source) -> str:
    """Which series of a folder an image is; empty where it is none, or files do not say."""
    return source.series.uid if source.series is not None and source.images[0].is_dir() else ""
