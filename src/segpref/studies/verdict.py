"""Whether a tuned model is better than its base, patient by patient, as a run folder keeps it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from segpref.data.cache import write_atomically
from segpref.data.dataset import Dataset
from segpref.inference.evaluation import mean_of, predict_masks, score_masks
from segpref.inference.windows import whole_model
from segpref.metrics import overlap_counts
from segpref.report.comparison import Comparison, compared, gains_by_patient
from segpref.report.runs import Row
from segpref.report.verdicts import Control, read_comparison
from segpref.report.volume_scores import write_volume_scores
from segpref.training.folder import RunFolder
from segpref.trust import read_json
from segpref.types import Predictor, SegprefError

__all__ = ["control_beside", "measured_verdict"]

_SAME = ("model", "data", "judge", "votes", "pool", "method", "epochs")


def measured_verdict(folder: RunFolder, base: Path | str, validation: Dataset) -> Comparison:
    """Compare the best checkpoint with the base on validation, and keep it in ``verdict.json``.

    The score is IoU, per volume and structure, as mean per patient. What both models make of each
    structure of each volume is kept in ``validation.csv``. Neither is measured again where it exists.

    Args:
        folder: of a finished run of stage 2.
        base: its base, in segpref's own format.
        validation: labelled cases; the others are left out.
    """
    there = read_comparison(folder)
    if there is not None and folder.validation.exists():
        return there
    labelled = validation.labelled()
    before, after = (_measured(whole_model(one), labelled) for one in (base, folder.best))
    write_volume_scores(folder.validation, before, after)
    if there is not None:
        return there
    gains = gains_by_patient(after, before, "iou")
    found = compared(np.array(list(gains.values())))
    means = {name: mean_of(rows, "iou") for name, rows in (("base", before), ("tuned", after))}
    structures = {
        name: {model: None if math.isnan(one[name]) else one[name] for model, one in means.items()}
        for name in means["base"]
    }
    content = {**found.as_dict(), "structures": structures}
    write_atomically(folder.verdict, json.dumps(content, indent=1).encode())
    return found


def _measured(model: Predictor, dataset: Dataset) -> list[Row]:
    """Rows of :func:`score_masks` with the size of what is predicted and of what is true."""
    rows: list[Row] = []
    for volume, items, masks in predict_masks(model, dataset):
        scored = score_masks([(volume, items, masks)], dataset.label_space)
        label = np.asarray(volume.labels[items] if volume.labels is not None else None)
        counts = overlap_counts(
            masks.swapaxes(0, 1)[None], label.swapaxes(0, 1), dataset.label_space
        )
        each, unit = volume.pixel
        known = dataset.label_space.labelled  # rows are of these structures alone
        if known is None:
            known = np.ones(counts.true.shape[1], np.bool_)
        sizes = counts.predicted[0][known], counts.true[0][known]
        for row, predicted, true in zip(scored, *sizes, strict=True):
            size: Row = {
                "size": float(predicted) * each,
                "size_label": float(true) * each,
                "unit": unit,
            }
            rows.append(row | size)
    return rows


def control_beside(folder: RunFolder) -> Control | None:
    """The random-preference control of a run, if it lies in a folder beside and is finished.

    It is the run with ``control`` whose model, data, judge, pool, method and epochs are the same.
    Folders that can't be read are passed over: a run does not fail by what lies beside it.
    """
    own = _settings(folder.path)
    try:
        others = sorted(folder.path.parent.iterdir())
    except OSError:
        return None
    for other in others:
        # Not just anything of that name: to read a pipe would be to wait.
        if other == folder.path or not (other / "run.json").is_file():
            continue
        try:
            settings = _settings(other)
            same = all(settings.get(name) == own.get(name) for name in _SAME)
            if settings.get("control") and same and (found := read_comparison(RunFolder(other))):
                return Control(other.name, found)
        except SegprefError:
            continue
    return None


def _settings(run: Path) -> dict[str, Any]:
    file = run / "run.json"
    about = read_json(file, "restore it") if file.exists() else {}
    settings = about.get("settings", {}) if isinstance(about, dict) else {}
    return settings if isinstance(settings, dict) else {}
