"""The published weights of LiteMedSAM on real images, where both are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from segpref.data import open_dataset
from segpref.policies import open_model
from segpref.prompts import Prompt, Promptable, box_of

IMAGES = 8


@pytest.fixture
def weights() -> Path:
    named = os.environ.get("SEGPREF_LITEMEDSAM")
    if not named:
        pytest.skip("SEGPREF_LITEMEDSAM names no file with LiteMedSAM's weights (lite_medsam.pth)")
    return Path(named)


@pytest.fixture
def ultrasound() -> Path:
    folder = Path(os.environ.get("SEGPREF_DATA", "")) / "busi"
    if not folder.is_dir():
        pytest.skip("SEGPREF_DATA names no folder with busi")
    return folder


@pytest.mark.slow
def test_boxes_around_lesions_give_their_masks(weights: Path, ultrasound: Path) -> None:
    reader = open_dataset(ultrasound, suffix="_mask", exclude=["benign (4)"])
    sources = [one for one in reader.sources() if one.stratum == "malignant"][:IMAGES]
    (policy,) = open_model(weights).policies()
    assert isinstance(policy, Promptable)
    scores = []
    for source in sources:
        case = reader.read(source)
        mask = np.asarray(case.label)[0] == 1
        image = torch.from_numpy(np.array(case.image, dtype=np.float32))[None] / 255
        answer = policy.ask(image, [[Prompt(box_of(mask))]])
        found = answer.logits[0, 0, 0].numpy() > 0
        assert found.shape == mask.shape
        scores.append(2 * (found & mask).sum() / (found.sum() + mask.sum()))
    assert len(scores) == IMAGES
    assert np.mean(scores) > 0.85
