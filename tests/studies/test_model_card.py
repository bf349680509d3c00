"""The model card of a run: what its files say, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from made_reports import BETTER, FLAT, NASTY, history, run_folder

from segpref.report import Comparison, write_report
from segpref.training import RunFolder


def card(folder: RunFolder) -> str:
    write_report(folder)
    return (folder.path / "model-card.md").read_text()


def test_model_data_judge_scores_and_limits(tmp_path: Path, heart_base: Path) -> None:
    folder = run_folder(tmp_path / "run", history(BETTER, **FLAT))
    shutil.copy(weights := heart_base / "best.safetensors", folder.best)
    structures = {"RV": {"base": 0.5, "tuned": 0.625}, "LV": {"base": None, "tuned": 0.75}}
    found = Comparison(0.12, 0.1, 0.14, 0.008, 8)
    folder.verdict.write_text(json.dumps({**found.as_dict(), "structures": structures}))
    parts = {"train": ["a", "b"], "judge": [], "validation": ["c"], "test": ["secret"]}
    (folder.path / "split.json").write_text(json.dumps({"by_patient": True, **parts}))
    folder.audit.write_text(
        json.dumps({"judge": {"headroom": 0.031, "pair_flip": 0.25, "slates": 9}})
    )
    note = json.loads((folder.path / "run.json").read_text())
    note["settings"] = {"judge": "runs/judge", "model": "runs/base", "method": "calibrated"}
    (folder.path / "run.json").write_text(json.dumps(note))
    text = card(folder)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    for line in (
        "Better than the base on validation: IoU +0.120 per patient",
        "| Structures | RV, MYO, LV (exclude each other) |",
        "| Base | `runs/base` |",
        "| Method | calibrated |",
        f"| SHA-256 of `best.safetensors` | `{digest}` |",
        "| Unlabelled images | 321 |",
        "| Patients in train | 2 |",
        "| Patients in judge | 0 |",
        "| Judge | `runs/judge` |",
        "over the model's own masks) | 0.031 |",
        "| RV | 0.500 | 0.625 |",
        "| LV | – | 0.750 |",
        "over 8 patients: 0.120 (0.100 to 0.140)",
        "It is no medical device",
    ):
        assert line in text, line
    assert "secret" not in text
    assert "\n| | |" not in text  # would be shown as an empty row
    assert text.index("**Better") < text.index("## Scores") < text.index("## Model")
    assert card(folder) == text


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    rows = history([0.01, 0.3, 0.5, 0.4], train_loss=[1.0, 0.5, 0.4])
    summary = {"kind": "fit", "seed": 1, "labelled_cases": 20}
    folder = run_folder(tmp_path / "run", rows, **summary, best_epoch=2, val_iou=0.5)
    folder.best.write_bytes(b"no model")
    text = card(folder)
    assert "| Labelled images | 20 |" in text
    for absent in ("## Scores", "## Judge", "Structures", "None"):
        assert absent not in text


def test_names_can_not_break_the_card(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", history(BETTER, **FLAT))
    names = {f"{NASTY} | b\nc": {"base": 0.5, "tuned": 0.5}}
    found = Comparison(0.12, 0.1, 0.14, 0.008, 8)
    folder.verdict.write_text(json.dumps({**found.as_dict(), "structures": names}))
    (row,) = [line for line in card(folder).splitlines() if "| 0.500 | 0.500 |" in line]
    assert "<" not in row
    assert "\\| b c |" in row
