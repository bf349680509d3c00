"""Dice, size and worst volumes of a run: per structure, over patients, in units that are known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_reports import BETTER, FLAT, checked, history, run_folder, volume_scores

from segpref.data import Source, Volume
from segpref.report import Comparison, VolumeScore, worst_volumes, write_report
from segpref.training import RunFolder
from segpref.types import SegprefError


def report(place: Path, scores: list[VolumeScore]) -> tuple[RunFolder, list[str], str]:
    folder = run_folder(place, history(BETTER, **FLAT))
    volume_scores(folder, scores)
    found = Comparison(0.12, 0.1, 0.14, 0.008, 8)
    folder.verdict.write_text(json.dumps(found.as_dict()))
    page = checked(write_report(folder))
    return folder, page.cells, page.text


def scored(patient: str, base: float, tuned: float, **changed: object) -> VolumeScore:
    one = VolumeScore(
        f"{patient}-a", patient, "ring", base / 2, tuned / 2, base, tuned, 10.0, 20.0, 30.0, "ml"
    )
    return replace(one, **changed)  # type: ignore[arg-type]


def test_dice_and_volume_of_a_structure_come_with_intervals_over_patients(tmp_path: Path) -> None:
    rows = [scored(f"p{n}", 0.5, 0.6 + n / 100) for n in range(6)]
    # A patient with several volumes counts once.
    rows += [scored("p0", 0.5, 0.6, volume=f"p0-{n}") for n in range(20)]
    folder, cells, text = report(tmp_path / "run", rows)
    at = cells.index("ring")
    assert cells[at + 1] == "0.500 (0.500 to 0.500)"
    assert cells[at + 2].startswith("0.625 (0.6")
    assert cells[at + 3].startswith("+0.125 (+0.1")
    assert cells[at + 4] == "6"
    at = cells.index("Label (ml)")
    assert cells[at + 4 : at + 10] == [
        "Change (%)", "ring", "10.0", "20.0", "30.0", "+10.0 (+10.0 to +10.0)",
    ]  # fmt: skip
    assert cells[at + 10] == "+50%"
    assert text.index("Dice of each structure") < text.index("For method developers")
    assert text.index("For method developers") < text.index("Margin")
    card = (folder.path / "model-card.md").read_text()
    assert "| ring | 0.500 (0.500 to 0.500) | 0.625 (" in card


def test_what_is_not_known_stays_unknown(tmp_path: Path) -> None:
    rows = [
        scored("p0", math.nan, math.nan, unit="voxels"),
        scored("p1", math.nan, 0.0, unit="voxels"),
        scored("p1", 0.5, 0.75, structure="core", size_base=0.0),
    ]
    _, cells, text = report(tmp_path / "run", rows)
    # The base was right not to draw what is not there; who has one patient has no interval.
    at = cells.index("ring")
    assert cells[at + 1 : at + 5] == ["1.000", "0.000", "-1.000", "1"]
    at = cells.index("Unit")
    assert cells[at + 6 : at + 9] == ["ring", "voxels", "10.0"]
    at = max(number for number, cell in enumerate(cells) if cell == "core")
    assert cells[at + 1 : at + 7] == ["ml", "10.0", "0.00", "30.0", "+30.00", "–"]
    assert "In voxels, because the files do not say" in text


def test_the_worst_volumes_are_those_of_lowest_dice_and_of_the_greatest_loss() -> None:
    pairs = {"a": (0.5, 0.6), "b": (0.9, 0.7), "c": (0.4, 0.5), "d": (0.8, 0.9), "e": (0.8, 0.8)}
    rows = [scored(name, *dice, volume=name) for name, dice in pairs.items()]
    assert worst_volumes(rows, 4) == {
        "c": "Lowest Dice", "a": "Among the lowest Dice", "b": "Lost most", "e": "A usual one",
    }  # fmt: skip
    assert worst_volumes(rows, 1) == {"c": "Lowest Dice"}
    lost = [scored(name, 0.9, 0.5 + n / 10, volume=name) for n, name in enumerate("xy")]
    assert worst_volumes(lost, 4) == {"x": "Lowest Dice, lost most", "y": "Among the lowest Dice"}
    assert worst_volumes([scored("z", math.nan, math.nan)], 4) == {}


@pytest.mark.parametrize(
    ("spacing", "voxel", "items", "found"),
    [
        ((2.0, 2.0, 5.0), None, 1, (0.02, "ml")),
        ((2.0, 2.0), (1.0, 1.0, 5.0), 3, (0.02, "ml")),
        ((2.0, 2.0), (1.0, 1.0, math.nan), 3, (1.0, "voxels")),
        ((2.0, 2.0), (1.0, 1.0), 1, (0.04, "cm²")),
        ((2.0, 2.0), None, 3, (1.0, "voxels")),
        (None, None, 1, (1.0, "voxels")),
    ],
)
def test_what_a_voxel_holds(
    spacing: tuple[float, ...] | None,
    voxel: tuple[float, ...] | None,
    items: int,
    found: tuple[float, str],
) -> None:
    images = np.zeros((items, 1, 4, 4))
    one = Volume(
        Source(id="a", patient="a", images=()), {}, images, None, spacing, None, None, voxel
    )
    assert one.pixel == (pytest.approx(found[0]), found[1])


def test_a_table_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", history(BETTER, **FLAT))
    folder.validation.write_text("volume,patient\na,b\n")
    with pytest.raises(SegprefError, match=r"validation\.csv is no table of validation scores"):
        write_report(folder)
