"""What a command reads is not overwritten by what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

import segpref
from segpref.types import SegprefError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in (
        "model/best.safetensors",
        "model/split.json",
        "model/metrics.csv",
        "model/run.json",
        "another/metrics.csv",
        "another/run.json",
        "data/dataset.json",
        "data/images/a.nii.gz",
        "groups.csv",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("kept")
    (tmp_path / "link.csv").symlink_to("groups.csv")
    return tmp_path


@pytest.mark.parametrize(
    ("model", "out", "said"),
    [
        ("model", "groups.csv", "is read, too"),
        ("model", "link.csv", "is read, too"),
        ("model", "model/../groups.csv", "is read, too"),
        ("model", "model/split.json", "is there already"),
        ("model", "model/best.safetensors", "is there already"),
        ("model/best.safetensors", "model/best.safetensors", "is read, too"),
        ("model", "data/images/a.nii.gz", "is there already"),
        ("model", "data/dataset.json", "is there already"),
        ("model", "model/metrics.csv", "is there already"),
        ("model/best.safetensors", "model/metrics.csv", "is there already"),
        ("model", "another/metrics.csv", "is there already"),
    ],
)
def test_scores_do_not_overwrite_what_is_measured(
    place: Path, model: str, out: str, said: str
) -> None:
    with pytest.raises(SegprefError, match=f"{said}.* choose another file to write to"):
        segpref.evaluate(
            place / model, place / "data", groups=place / "groups.csv", out=place / out
        )
    assert (place / out).read_text() == "kept"


@pytest.mark.parametrize("where", ["out", "report"])
def test_an_audit_does_not_overwrite_its_judge(place: Path, where: str) -> None:
    judge = place / "model" / "best.safetensors"
    with pytest.raises(SegprefError, match="is read, too"):
        segpref.audit(place / "other", place / "data", judge=judge, **{where: judge})
    assert judge.read_text() == "kept"
