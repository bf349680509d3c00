"""Reports and the voting page pass axe-core's checks (WCAG 2.1, levels A and AA), light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.collect.test_collect_report import _study
from tests.studies.made_reports import (
    BETTER,
    CLASSES,
    FLAT,
    disc,
    grey,
    history,
    overlay,
    run_folder,
    slate_picture,
    volume_scores,
)
from tests.studies.test_comparison_pages import histories, table_rows
from tests.web.accessibility import violations
from tests.web.page_study import Bench, comparing, drawn
from tests.web.test_page_voting import HEART, question

from segpref.preferences import ScoredSlate, TopVsRandom
from segpref.report import Comparison, Part, study_report, write_page, write_report
from segpref.studies import audit_of, audit_page
from segpref.types import Candidate, Case, Slate
from segpref.workflows import report_study

pytestmark = pytest.mark.slow
NewPage = Callable[..., Any]
SCHEMES = ("light", "dark")


def run_report(place: Path) -> Path:
    folder = run_folder(place / "run", history(BETTER, **FLAT))
    found = Comparison(0.12, 0.1, 0.14, 0.008, 8)
    folder.verdict.write_text(json.dumps(found.as_dict()))
    volume_scores(folder)
    return write_report(folder, overlays=[overlay()], slate=slate_picture())


def failed_run(place: Path) -> Path:
    return write_report(
        run_folder(place / "run", history([0.5, 0.48, 0.45, 0.4, 0.4, 0.4], **FLAT))
    )


def study_page(place: Path) -> Path:
    made = study_report([Part("", table_rows(), histories())], overlays=[overlay()])
    return write_page(place / "report.html", made)


def audit_report(place: Path) -> Path:
    masks = np.stack([disc(12), disc(13), disc(18), disc(14)])
    slates = [
        ScoredSlate(
            Case(id=name, patient=name, volume=name, image=grey(disc(12)), label=disc(13)),
            Slate(
                masks, tuple(Candidate(one) for one in ("anchor", "boundary", "extent", "extent"))
            ),
            np.array([[0.2], [0.9], [0.1], [0.4]]),
        )
        for name in "abcdef"
    ]
    found = audit_of(slates, CLASSES, TopVsRandom())
    return write_page(place / "audit.html", audit_page(found, "base on data"))


def vote_report(place: Path) -> Path:
    with _study(place / "study"):
        return report_study(place / "study").folder / "report.html"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("make", [run_report, failed_run, audit_report, study_page, vote_report])
def test_reports(
    make: Callable[[Path], Path], scheme: str, tmp_path: Path, new_page: NewPage
) -> None:
    page = new_page(color_scheme=scheme)
    page.goto(make(tmp_path).as_uri())
    for folded in page.locator("details").all():
        folded.evaluate("one => one.open = true")
    assert violations(page) == []


def test_what_is_wrong_is_found(new_page: NewPage) -> None:
    page = new_page()
    page.set_content("<html lang=en><title>x</title><main><img src='x'><p style='color:#ccc'>pale")
    assert {one.split(":")[0] for one in violations(page)} == {"image-alt", "color-contrast"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_voting_page(scheme: str, new_page: NewPage) -> None:
    bench = Bench([question(0, practice="left"), question(1)], HEART)
    with comparing(new_page, bench, color_scheme=scheme) as page:
        found = {"comparing": violations(page)}
        page.keyboard.press("?")
        page.wait_for_selector("#keys[open]")
        found["keys"] = violations(page)
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#notice:visible")
        found["feedback"] = violations(page)
        page.keyboard.press("Enter")
        drawn(page)
        page.keyboard.press("=")
        page.wait_for_selector("#done:visible")
        found["done"] = violations(page)
        page.reload()
        page.wait_for_selector("#begin:visible")
        found["welcome"] = violations(page)
    assert not any(found.values()), found
