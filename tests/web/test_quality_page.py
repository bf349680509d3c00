"""The quality report's page in Chromium: it asks nothing of the network, and its pictures are there."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.web.accessibility import violations

import segpref
from segpref.data import Preparation, open_dataset
from segpref.data.phantoms import write_phantoms
from segpref.inference import QualityConfig
from segpref.policies import ModelCard, NetworkSpec, save_model

pytestmark = pytest.mark.slow


class Noise:
    """Likes masks of noisy images, so that it puts an image last that is flagged for its noise."""

    needs_label = False

    def score(self, case: Any, slate: Any) -> np.ndarray:
        return np.full(slate.masks.shape[:2], np.abs(np.diff(case.image)).mean())


def test_the_page_in_a_browser(tmp_path: Path, new_page: Callable[..., Any]) -> None:
    data = write_phantoms(tmp_path / "data", "chest", (32, 32), 6, seed=0)
    new = write_phantoms(tmp_path / "new", "chest", (32, 32), 8, seed=1) / "images"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    Image.fromarray(noise).save(new / "phantom007.png")
    (new / "phantom000.png").rename(new / "x<img src=x onerror=alert(1)>x.png")
    space = open_dataset(data).label_space
    assert space is not None
    arguments = {
        "spatial_dims": 2, "in_channels": 1, "out_channels": space.channels,
        "channels": [4, 8], "strides": [2],
    }  # fmt: skip
    spec = NetworkSpec("monai.networks.nets.UNet", arguments)
    card = ModelCard(spec, space, Preparation(dims=2, size=(32, 32)), ("image",))
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", spec.build(), card)
    segpref.predict(
        tmp_path / "model.safetensors", new, tmp_path / "masks", judge=Noise(), validation=data,
        report=tmp_path / "report", cache=tmp_path / "cache", quality=QualityConfig(pictures=8),
    )  # fmt: skip
    page, asked = new_page(), []
    page.on("request", lambda one: asked.append(one.url))
    page.goto((tmp_path / "report" / "quality.html").as_uri())
    assert page.locator("h1").inner_text() == "Quality report"
    assert "of 8 images" in page.locator(".verdict").inner_text()
    pictures = page.locator("img")
    assert pictures.count() >= 8
    assert all(
        pictures.nth(number).evaluate("one => one.naturalWidth") > 50
        for number in range(pictures.count())
    )
    listed = (
        page.locator("section table").first.locator("tbody tr > :first-child").all_inner_texts()
    )
    shown = page.locator(".figure-title").all_inner_texts()
    with (tmp_path / "report" / "quality.csv").open() as file:
        ranked = list(dict.fromkeys(row["image"] for row in csv.DictReader(file)))
    # Images that are not flagged stand between flagged ones, and yet both have the same numbers.
    assert listed != [f"{place}. {name}" for place, name in enumerate(ranked[: len(listed)], 1)]
    assert shown[: len(listed)] == listed
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
