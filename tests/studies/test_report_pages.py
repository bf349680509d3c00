"""Reports of a run: one file, no network, the right numbers, nothing that a name could break."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest
from made_reports import BETTER, FLAT, NASTY, checked, history, overlay, run_folder, slate_picture

import segpref
from segpref.report import Comparison, Section, Table, write_report
from segpref.training import RunFolder
from segpref.types import SegprefError


@pytest.mark.slow
def test_the_report_of_an_alignment_holds_everything(tmp_path: Path) -> None:
    rows = history(
        BETTER,
        **FLAT,
        harmful_mass=[0.2, 0.4, 0.6, 0.4, 0.2],
        skipped_zero=[1.0, 2.0, 3.0, 4.0, 5.0],
    )
    folder = run_folder(tmp_path / "run", rows)
    sure = Comparison(0.12, 0.1, 0.14, 0.008, 8)
    folder.verdict.write_text(json.dumps(sure.as_dict()))
    path = write_report(folder, overlays=[overlay()], slate=slate_picture())
    assert path == tmp_path / "run" / "report.html"
    page = checked(path)
    for words in (
        "Better than the base on validation: IoU +0.120 per patient",
        "What the judge sees",
        "Worst cases",
        "Harmful mass",
        "all scores were 0",
        "learning_rate",
        f"segpref {segpref.__version__}",
        "IoU 1.000",
    ):
        assert words in page.text, words
    cells = page.cells
    figures = {"Base": "0.500", "Peak": "0.620", "Unlabelled images": "321", "Seed": "7"}
    for name, value in figures.items():
        assert cells[cells.index(name) + 1] == value
    row = cells.index("all scores were 0")
    assert cells[row + 1 : row + 4] == ["1.00", "3.00", "5.00"]
    assert "Look at this" not in page.text
    assert {one["title"] for one in page.all("abbr")} >= {
        text for name, text in _glossary().items() if name in ("Peak", "TailAvg", "Drift")
    }


def _glossary() -> dict[str, str]:
    from segpref.report import GLOSSARY

    return dict(GLOSSARY)


@pytest.mark.slow
def test_names_can_not_break_the_page(tmp_path: Path) -> None:
    rows = history(BETTER, **{f"volume_ratio_{NASTY}": [1.5] * 5})
    folder = run_folder(tmp_path / "a <b> run", rows)
    folder.config.write_text(f"data: {NASTY}\n")
    extra = Section(NASTY, NASTY, table=Table((NASTY, NASTY), ((NASTY, NASTY),), NASTY))
    path = write_report(folder, overlays=[overlay(NASTY)], slate=slate_picture(), sections=[extra])
    page = checked(path)
    assert not page.all("b")
    assert NASTY in page.text
    assert "http" not in re.sub(re.escape("http://evil.example"), "", page.text)


@pytest.mark.slow
def test_the_same_run_gives_the_same_report(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", history(BETTER, **FLAT))
    first = write_report(folder, overlays=[overlay()]).read_bytes()
    assert write_report(folder, overlays=[overlay()]).read_bytes() == first


@pytest.mark.slow
def test_long_names_of_images_may_be_broken_at_underscores_alone(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", history(BETTER, **FLAT))
    text = write_report(folder, overlays=[overlay("patient006_frame01")]).read_text("utf-8")
    assert '<p class="figure-title">patient006_<wbr>frame01: ' in text
    assert 'alt="patient006_frame01: ' in text


@pytest.mark.slow
def test_a_failed_run_says_so(tmp_path: Path) -> None:
    rows = history([0.5, 0.48, 0.45, 0.4, 0.4, 0.4], **FLAT)
    page = checked(write_report(run_folder(tmp_path / "run", rows)))
    assert "Not shown to be better than the base on validation" in page.text
    assert "Mean IoU 0.480 after epoch 1 of 5" in page.text
    assert "Look at this before you use the model" in page.text
    assert [one for one in page.all("div") if one.get("class") == "verdict bad"]


@pytest.mark.slow
def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", history(BETTER, **FLAT), finished=False)
    page = checked(write_report(folder))
    assert "is not finished: this is what its first 5 epochs show" in page.text


def test_pseudo_labelling_has_no_pairs_to_report(tmp_path: Path) -> None:
    rows = history(BETTER, loss=[1.0, 0.9, 0.8, 0.7, 0.6])
    page = checked(write_report(run_folder(tmp_path / "run", rows)))
    assert "Training loss" in page.text
    assert "Pairs per image" not in page.text


def test_stage_1_is_reported(tmp_path: Path) -> None:
    rows = history([0.01, 0.3, 0.5, 0.4], train_loss=[1.0, 0.5, 0.4])
    summary = {"kind": "fit", "seed": 1, "labelled_patients": ["p1", "p2"], "labelled_cases": 20}
    folder = run_folder(tmp_path / "run", rows, **summary, best_epoch=2, val_iou=0.5)
    page = checked(write_report(folder))
    assert "validation IoU of 0.500 after epoch 2 of 3" in page.text
    assert page.cells[page.cells.index("Labelled patients") + 1] == "p1, p2"


def test_a_run_without_an_epoch_is_an_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(SegprefError, match="has no finished epoch"):
        write_report(folder)
    folder.write_metrics([{"epoch": 0.0, "val_iou": 0.5}])
    with pytest.raises(SegprefError, match="has no finished epoch"):
        write_report(folder)


@pytest.mark.slow
def test_metrics_survive_their_file(tmp_path: Path) -> None:
    """The report reads what the run folder wrote, gaps and missing numbers included."""
    rows = history(BETTER, **FLAT)
    rows[2]["margin"] = math.nan
    folder = run_folder(tmp_path / "run", rows)
    assert "nan" in next(csv.reader([folder.metrics.read_text().splitlines()[3]]))
    checked(write_report(folder))
