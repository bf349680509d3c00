"""What base and tuned model make of each structure of each validation volume, kept by a run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from segpref.data.csv_files import read_csv, write_csv
from segpref.report.runs import Row
from segpref.types import SegprefError

__all__ = ["VolumeScore", "read_volume_scores", "worst_volumes", "write_volume_scores"]

_WORDS = ("volume", "patient", "structure", "unit")
_VISIBLE = 0.0005


@dataclass(frozen=True, slots=True)
class VolumeScore:
    """One structure of one volume, on the network's grid.

    Args:
        volume: its id.
        patient: whom it is of.
        structure: its name.
        iou_base: overlap of the base's mask with the label; NaN where neither has the structure.
        iou_tuned: the same of the tuned model.
        dice_base: the same as Dice.
        dice_tuned: the same of the tuned model.
        size_label: of the structure in the label.
        size_base: in the base's mask.
        size_tuned: in the tuned model's mask.
        unit: of the sizes: ``ml``, ``cm²`` or ``voxels``.
    """

    volume: str
    patient: str
    structure: str
    iou_base: float
    iou_tuned: float
    dice_base: float
    dice_tuned: float
    size_label: float
    size_base: float
    size_tuned: float
    unit: str

    @property
    def dice(self) -> tuple[float, float]:
        """Dice of base and tuned model.

        Where one of them draws what is not there, the other was right not to: that counts as 1. NaN
        where nobody draws it.
        """
        pair = (self.dice_base, self.dice_tuned)
        if all(math.isnan(one) for one in pair):
            return pair
        before, after = (1.0 if math.isnan(one) else one for one in pair)
        return before, after


_COLUMNS = [one.name for one in fields(VolumeScore)]


def write_volume_scores(path: Path, base: Sequence[Row], tuned: Sequence[Row]) -> None:
    """Write one line per volume and structure.

    Args:
        path: of the CSV file.
        base: rows of :func:`~segpref.inference.score_masks` with ``size``, ``size_label``, ``unit``.
        tuned: of the same volumes and structures.
    """
    rows = []
    for a, b in zip(base, tuned, strict=True):
        both = {
            f"{measure}_{name}": one[measure]
            for measure in ("iou", "dice", "size")
            for name, one in (("base", a), ("tuned", b))
        }
        rows.append({name: both.get(name, a.get(name)) for name in _COLUMNS})
    write_csv(path, rows, _COLUMNS)


def read_volume_scores(path: Path) -> list[VolumeScore]:
    """What :func:`write_volume_scores` wrote; empty where there is no file.

    Raises:
        SegprefError: the file can't be read.
    """
    if not path.exists():
        return []
    try:
        return [
            VolumeScore(**{k: row[k] if k in _WORDS else float(row[k]) for k in _COLUMNS})  # type: ignore[arg-type]
            for row in read_csv(path)
        ]
    except (KeyError, ValueError) as error:
        raise SegprefError(
            f"{path} is no table of validation scores: delete it, and resume the run to have it "
            "measured again"
        ) from error


def worst_volumes(scores: Sequence[VolumeScore], count: int) -> dict[str, str]:
    """Volumes to look at, with why: the lowest Dice after tuning, the greatest loss, and a usual one.

    Args:
        scores: of all volumes.
        count: how many volumes at most; half of them are those of lowest Dice.
    """
    means = _means(scores)
    by_dice = sorted(means, key=lambda name: means[name][1])
    by_gain = sorted(means, key=lambda name: means[name][1] - means[name][0])
    lowest = by_dice[: max(1, count // 2)]
    found = {
        name: ["among the lowest Dice" if n else "lowest Dice"] for n, name in enumerate(lowest)
    }
    before, after = means[by_gain[0]] if means else (0.0, 0.0)
    if before - after >= _VISIBLE and (len(found) < count or by_gain[0] in found):
        found.setdefault(by_gain[0], []).append("lost most")
    others = [name for name in by_dice if name not in found]
    if others and len(found) < count:
        usual = by_dice[len(by_dice) // 2]
        found[usual if usual in others else others[0]] = ["a usual one"]
    told = {name: ", ".join(why) for name, why in found.items()}
    return {name: why[0].upper() + why[1:] for name, why in told.items()}


def _means(scores: Sequence[VolumeScore]) -> Mapping[str, tuple[float, float]]:
    """Mean Dice over structures before and after, of each volume that has any."""
    gathered: dict[str, list[tuple[float, float]]] = {}
    for one in scores:
        if not math.isnan(one.dice[0]):
            gathered.setdefault(one.volume, []).append(one.dice)
    return {
        name: (float(np.mean([a for a, _ in pairs])), float(np.mean([b for _, b in pairs])))
        for name, pairs in gathered.items()
    }
