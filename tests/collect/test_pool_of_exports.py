"""A pool may be an export from a PACS: its series by the rule, its patients by PatientID."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.dicom_files import image, save, stack

from segpref.data import SeriesRule, read_csv
from segpref.types import SegprefError
from segpref.workflows import init_study
from studies import untrained


@pytest.mark.slow
def test_series_patients_and_report(tmp_path: Path) -> None:
    slices = np.random.default_rng(0).integers(0, 4096, (2, 48, 40)).astype(np.uint16)
    for study in range(6):
        for number, text in enumerate(("plain", "contrast")):
            stack(
                tmp_path / "export", slices + study, names=f"I{study}{number}" + "{:02d}",
                PatientID=f"p{study // 2}", StudyInstanceUID=f"1.9.{study}", SeriesNumber=number,
                SeriesInstanceUID=f"1.9.{study}.{number}", SeriesDescription=text,
                StudyDate=f"2024010{study + 1}",
            )  # fmt: skip
    save(tmp_path / "export" / "scout", image(slices[0], ImageType=["ORIGINAL", "LOCALIZER"]))
    base = untrained(tmp_path / "base.safetensors", "phantom000")
    given = {"images": 4, "candidates": 8, "cache": tmp_path / "cache", "pool": tmp_path / "export"}
    with pytest.raises(SegprefError, match=r"2 DICOM series of one study .*, and 5 more studies"):
        init_study(base, out=tmp_path / "none", **given)
    made = init_study(
        base, out=tmp_path / "study", series=SeriesRule(description="contrast"), **given
    )
    assert {item.patient for item in made.contents.items} <= {"p0", "p1", "p2"}
    assert all("contrast" in item.case for item in made.contents.items)
    rows = read_csv(tmp_path / "study" / "series.csv")
    assert sum(row["state"] == "taken" for row in rows) == 6
    assert {row["why"] for row in rows} == {"", "description plain", "a localizer"}
