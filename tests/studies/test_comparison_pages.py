"""The page of a study: the methods side by side, and its pictures as files."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.studies.made_reports import BETTER, FLAT, NASTY, checked, history, overlay

from segpref.report import (
    JUDGE_COLUMNS,
    Difference,
    Part,
    Section,
    TableRow,
    judge_sections,
    judge_structure_table,
    judge_table,
    study_report,
    write_page,
    write_pictures,
)


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
def test_the_answer_comes_first_and_how_it_was_learned_last(tmp_path: Path) -> None:
    gain = Difference("DPO", "Base", "iou", 0.055, 0.05, 0.06, 2, 2, 0.01, 8)
    parts = [Part(name, table_rows()[:2], histories(), [gain], controls=()) for name in "ab"]
    path = write_page(tmp_path / "r.html", study_report(parts, sections=[Section("More")]))
    text = checked(path).text
    order = ("DPO is better than Base on test: IoU +0.055", "(a method with control: true) was not run",
             "a: method against method", "a: methods", "b: method against method", "b: methods",
             "For method developers", "a: training", "b: training", "More", "Words")  # fmt: skip
    places = [text.index(one) for one in order]
    assert places == sorted(places)
    # In the verdict for the first part, below its table for the other.
    assert text.count("(a method with control: true) was not run") == 2
    assert "<details" in path.read_text().partition("a: training")[0]


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


def test_means_without_a_comparison_show_nothing(tmp_path: Path) -> None:
    made = study_report([Part("", table_rows()[:2])])
    assert made.good is False
    page = checked(write_page(tmp_path / "w.html", made))
    assert (
        "Nothing is shown: DPO is highest on test (IoU 0.512, Base has 0.457, +0.055; mean of 2 seeds)"
        in page.text
    )


def test_a_gain_is_said_beside_that_of_its_control(tmp_path: Path) -> None:
    gain = Difference("DPO", "Base", "iou", 0.055, 0.05, 0.06, 2, 2, 0.01, 8)

    def text(name: str, *claims: Difference, controls: tuple[str, ...] | None) -> str:
        part = Part("", table_rows(), {}, (gain, *claims), controls=controls)
        made = study_report([part])
        assert made.good
        return checked(write_page(tmp_path / f"{name}.html", made)).text

    assert "control" not in text("none", controls=None)
    missing = text("missing", controls=())
    assert "control (a method with control: true) was not run" in missing
    low = Difference(NASTY, "Base", "iou", 0.01, -0.01, 0.02, 1, 2, 0.4, 8)
    high = replace(low, mean=0.055)
    told = "+0.010 (95 % interval -0.010 to +0.020, 8 patients)."
    assert told in text("low", low, controls=(NASTY,))
    assert "so the gain was not learned from the judge" in text("high", high, controls=(NASTY,))
    gain = replace(gain, mean=-0.01, low=-0.02, high=0.01)
    part = Part("", table_rows(), {}, (gain, low), controls=(NASTY,))
    assert "the gain was not" not in " ".join(study_report([part]).evidence), "there is none"
    gain = replace(gain, mean=0.055, low=0.05, high=0.06)
    other = replace(low, other="DPO")
    assert "was not compared with Base" in text("other", other, controls=(NASTY,))


def test_every_structure_has_a_row_and_every_judge_one_for_each(tmp_path: Path) -> None:
    rows = [
        TableRow("Base", 2, {"ring": (0.4, 0.01), "core": (0.6, 0.02)}),
        TableRow("DPO", 2, {"ring": (0.5, 0.01), "core": (0.1, math.nan)}),
    ]
    far = [
        TableRow("Base", 2, {"ring": (4.0, 0.1)}),
        TableRow("DPO", 2, {"ring": (3.0, 0.1), "core": (math.nan, math.nan)}),
    ]
    part = Part("weak", table_rows()[:2], structures={"iou": rows, "assd": far})
    figures = {
        "headroom": 0.05, "harm_top": 0.25, "pair_flip": None, "empty": 0.5, "empty_truth": 0.0,
        "slates": 3, "pairs": 0, "abstained": 1,
    }  # fmt: skip
    audited = {
        "structures": [{"structure": name, **figures} for name in ("ring", "core")],
        "abstains_on": ["core"],
        "judge": dict.fromkeys(JUDGE_COLUMNS.values(), 0.25),
    }
    earlier = {"judge": audited["judge"]}
    audits = {"model": [audited, audited], "oracle": [earlier], "other": [audited]}
    sections = judge_sections(judge_table(audits), judge_structure_table(audits))
    path = write_page(tmp_path / "r.html", study_report([part], sections=sections))
    cells, text = checked(path).cells, path.read_text()
    assert cells[(at := cells.index("Structure")) : at + 9] == [
        "Structure", "Base", "DPO", "ring", "0.400 ± 0.010", "0.500 ± 0.010", "core",
        "0.600 ± 0.020", "0.100",
    ]  # fmt: skip
    for bold in ("0.500 ± 0.010", "0.600 ± 0.020", "3.000 ± 0.100"):
        assert f"<strong>{bold}</strong>" in text
    assert "Weak: IoU of each structure" in text
    assert "Weak: ASSD of each structure" in text
    at = cells.index("Abstains") + 1
    figures_told = ["+0.050", "25%", "–", "50%", "0%"]
    told = [["ring", "25%"], ["core", "always"]]
    assert cells[at : at + 32] == [
        cell
        for name, last in told
        for judge in ("model", "other")
        for cell in (name, judge, *figures_told, last)
    ]
    assert cells.count("oracle") == 1, "an audit of an earlier version knows no structures"
    (alone,) = judge_sections([], judge_structure_table({"model": [audited]}))
    assert alone.table is not None
    assert alone.table.header[:2] == ("Structure", "Headroom")


def test_a_study_of_several_parts_has_a_heading_for_each(tmp_path: Path) -> None:
    parts = [Part("weak base, weak judge", table_rows()), Part("oracle", table_rows()[:2])]
    page = checked(
        write_page(tmp_path / "r.html", study_report(parts, warnings=["one run failed"]))
    )
    assert "weak base, weak judge: methods" in page.text
    assert "oracle: methods" in page.text
    assert "one run failed" in page.text
