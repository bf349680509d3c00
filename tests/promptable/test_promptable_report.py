"""A quality report on the masks of a model that prompts itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import LESION, SIDE

import segpref
from segpref.data import Preparation, read_csv
from segpref.inference import QualityConfig
from segpref.policies import save_model
from segpref.policies.promptable import promptable_card, small_sam

HEIGHT, WIDTH = 40, 50


@pytest.mark.slow
def test_a_promptable_model_is_reported_on_under_its_own_prompts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(8):
        row, column = rng.integers(12, 28, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 60
        image = rng.integers(0, 90, disc.shape) + 120 * disc
        folder = tmp_path / "new" if number > 5 else tmp_path / "data" / "images"
        places = {folder: image}
        if number < 6:
            places[tmp_path / "data" / "masks" / "lesion"] = 255 * disc
        for place, values in places.items():
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(place / f"case{number}.png")
    for seed in (0, 1):
        network = small_sam(SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32)
        torch.manual_seed(seed)
        for weight in network.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=1.5 * weight[0].numel() ** -0.5)
        card = promptable_card(network, LESION, Preparation(size=(SIDE, SIDE)))
        save_model(tmp_path / f"{seed}.safetensors", network, card)
    written = segpref.predict(
        tmp_path / "0.safetensors", tmp_path / "new", tmp_path / "out",
        judge=tmp_path / "1.safetensors", validation=tmp_path / "data",
        report=tmp_path / "report", cache=tmp_path / "cache",
        quality=QualityConfig(reruns=2, pictures=1),
    )  # fmt: skip
    assert len(written) == 2
    found = read_csv(tmp_path / "report" / "quality.csv")
    assert [row["structure"] for row in found] == ["lesion", "lesion"]
    assert all(0 <= float(row["predicted_dice"]) <= 1 for row in found)
    # SAM has no dropout, so it cannot disagree with itself.
    assert {row["model_disagreement"] for row in found} == {""}
