"""What a run folder keeps of its validation volumes, and the worst of them in its report."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from segpref.data import Dataset
from segpref.inference import score_model
from segpref.policies import load_model, read_card, save_model
from segpref.proposals import SlateProposals
from segpref.report import Overlay, view_of
from segpref.studies import alignment_report
from segpref.training import RunFolder
from segpref.types import LabelSpace


@pytest.mark.slow
def test_base_and_tuned_model_on_every_validation_volume(
    heart_base: Path, hearts: Dataset, tmp_path: Path
) -> None:
    model, card = load_model(heart_base)[0], read_card(heart_base)
    folder = RunFolder(tmp_path)
    save_model(folder.best, model.network, card)
    row = {"val_iou": 0.5, "epoch": 0.0}
    folder.write_metrics([row, {**row, "epoch": 1.0}])
    cases = hearts.of_patients(hearts.patients[8:])

    def report(count: int) -> str:
        base = heart_base / "best.safetensors"
        return alignment_report(
            folder, base, cases, None, SlateProposals(8), count=count
        ).read_text()

    text = report(2)
    assert text.count("<img") - text.partition("For method developers")[2].count("<img") == 4
    assert re.search(r"Lowest Dice\. (Dice RV|The label has none)", text)
    with folder.validation.open() as file:
        kept = list(csv.DictReader(file))
    expected = score_model(model, cases)
    assert [(one["volume"], one["structure"]) for one in kept] == [
        (one["volume"], one["structure"]) for one in expected
    ]
    for one, due in zip(kept, expected, strict=True):
        for name in ("base", "tuned"):
            assert float(one[f"dice_{name}"]) == pytest.approx(float(due["dice"]), nan_ok=True)
        assert one["size_base"] == one["size_tuned"]
    volumes = {volume.source.id: volume for volume, _ in cases.by_volume()}
    first, each = volumes[kept[0]["volume"]], volumes[kept[0]["volume"]].pixel
    assert first.labels is not None
    assert float(kept[0]["size_label"]) == pytest.approx((first.labels[:] == 1).sum() * each[0])
    assert kept[0]["unit"] == each[1]
    # What was measured is not measured again: a changed table is what is told.
    folder.validation.write_text(folder.validation.read_text().replace(kept[0]["volume"], "other"))
    report(1)
    assert "other" in folder.validation.read_text()


def test_of_a_volume_the_slice_with_most_errors_is_shown() -> None:
    truth = np.zeros((1, 12, 12, 6), np.uint8)
    truth[0, 2:10, 2:10, 1] = 1
    tuned = truth.copy()
    tuned[0, 4:6, 4:6, 4] = 1
    one = Overlay(
        name="a", image=np.zeros((1, 12, 12, 6), np.float32), masks={"tuned": tuned},
        label_space=LabelSpace("multi-class", ("background", "core")), truth=truth, focus="tuned",
    )  # fmt: skip
    levels = [
        view_of(one.image, [tuned, truth], one.label_space, None, focus=focus).level
        for focus in (None, one.errors)
    ]
    assert levels == [1, 4]
