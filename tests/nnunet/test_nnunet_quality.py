"""A quality report on the masks of all folds of an nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_workplace import Workplace, needs_nnunet, write_case

import segpref
from segpref.data import read_csv
from segpref.inference import QualityConfig
from segpref.policies.nnunet import read_nnunet, write_nnunet


@needs_nnunet
@pytest.mark.slow
def test_a_report_on_all_folds_says_where_they_disagree(
    workplace: Workplace, tmp_path: Path
) -> None:
    # Patients whom neither the two folds of the model nor the judge's has seen.
    data = tmp_path / "Dataset902_Others"
    for folder in ("imagesTr", "labelsTr"):
        (data / folder).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(6):
        write_case(data, f"other{number}", rng)
    described = json.loads((workplace.made / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(described))
    # A judge whose preparation is the model's: one of its folds, with other weights.
    folder = read_nnunet(workplace.trained("3d_fullres"), folds=["0"], trust=True)
    network = folder.policy("0").network
    with torch.no_grad():
        for weights in network.parameters():
            weights *= 1.05
    judge = write_nnunet(folder, {"0": network}, tmp_path / "judge" / folder.path.name)
    segpref.predict(
        workplace.trained("3d_fullres"), workplace.new_images, tmp_path / "out",
        judge=judge, validation=data, report=tmp_path / "report",
        cache=tmp_path / "cache", quality=QualityConfig(pictures=1), trust=True,
    )  # fmt: skip
    rows = read_csv(tmp_path / "report" / "quality.csv")
    assert {(row["image"], row["structure"]) for row in rows} == {("new", "rind"), ("new", "core")}
    assert all(0 <= float(row["predicted_dice"]) <= 1 for row in rows)
    # Its folds were trained on different patients.
    assert all(0 < float(row["model_disagreement"]) <= 1 for row in rows)
