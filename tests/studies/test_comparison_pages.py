"""The page of a study: the methods side by side, and its pictures as files."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from made_reports import BETTER, FLAT, NASTY, checked, history, overlay

from segpref.report import Difference, Part, TableRow, study_report, write_page, write_pictures


def table_rows() -> list[TableRow]:
    missing = (math.nan, math.nan)
    return [
        TableRow("Base", 2, {"IoU": (0.457, 0.01), "TailAvg": missing, "Drift": missing}),
        TableRow("DPO", 2, {"IoU": (0.512, 0.02), "TailAvg": (0.39, 0.01), "Drift": (0.06, 0.0)}),
        TableRow(NASTY, 2, {"IoU": (0.539, 0.03), "TailAvg": (0.43, 0.01), "Drift": (0.02, 0.0)}),
    ]


def histories() -> dict[str, list[list[dict[str, float]]]]:
    harm = [0.1, 0.2, 0.3, 0.4, 0.5]
    runs = [history(BETTER, harmful_mass=harm, **FLAT), history(BETTER, harmful_mass=harm, **FLAT)]
    return {"DPO": runs, NASTY: runs}


@pytest.mark.slow
def test_the_comparison_marks_the_best_of_every_column(tmp_path: Path) -> None:
    claims = [
        Difference(NASTY, "Base", "iou", 0.082, 0.05, 0.11, 2, 2, 0.01, 8),
        Difference(NASTY, "DPO", "iou", 0.027, -0.004, 0.05, 1, 2, 0.2, 8),
    ]
    made = study_report(
        [Part("", table_rows(), histories(), claims, reports={"RN-DPO, seed 0": "a/report.html"})],
        overlays=[overlay()],
        details={"Recipe": "name: <x>"},
    )
    path = write_page(tmp_path / "report.html", made)
    text, page = path.read_text(), checked(path)
    bold = re.findall(r"<strong>(.*?)</strong>", text)
    assert bold == ["0.539 ± 0.030", "0.430 ± 0.010", "0.020 ± 0.000"]
    assert (
        "IoU +0.082 (95 % interval +0.050 to +0.110, sign-flip test p = 0.01, 8 patients), better in "
        "2 of 2 seeds" in page.text
    )
    assert page.cells[page.cells.index(f"{NASTY} minus DPO") + 7] == "not shown"
    assert "name: <x>" in page.text
    assert '<a href="a/report.html">RN-DPO, seed 0</a>' in text
    titles = [one["alt"] for one in page.all("img")]
    assert sum(str(alt).startswith("Harmful mass") for alt in titles) == 1
    assert "from 0.5 to 2.5" in next(str(alt) for alt in titles if str(alt).startswith("Harm"))


@pytest.mark.slow
def test_pictures_of_a_page_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"")
    parts = [Part(title, table_rows(), histories()) for title in ("a/b", "a b")]
    written = write_pictures(tmp_path, study_report(parts))
    names = [path.name for path in written]
    assert "a-b-training-validation.png" in names
    assert len(names) == len(set(names)) == len(list(tmp_path.glob("*.png")))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_the_comparison_does_not_praise_the_base(tmp_path: Path) -> None:
    rows = table_rows()
    lost = [rows[0], TableRow("DPO", 2, {**rows[1].figures, "IoU": (0.4, 0.02)})]
    page = checked(write_page(tmp_path / "r.html", study_report([Part("", lost)])))
    assert "No method is better than Base on test (IoU 0.457)." in page.text
    won = checked(write_page(tmp_path / "w.html", study_report([Part("", rows[:2])])))
    assert "DPO is highest on test: IoU 0.512, Base has 0.457 (+0.055; mean of 2 seeds)" in won.text


def test_a_study_of_several_parts_has_a_heading_for_each(tmp_path: Path) -> None:
    parts = [Part("weak base, weak judge", table_rows()), Part("oracle", table_rows()[:2])]
    page = checked(
        write_page(tmp_path / "r.html", study_report(parts, warnings=["one run failed"]))
    )
    assert "weak base, weak judge: methods" in page.text
    assert "oracle: methods" in page.text
    assert "one run failed" in page.text
