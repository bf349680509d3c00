"""Models of overlapping regions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_workplace import Workplace, command, mask, needs_nnunet

from segpref.policies.nnunet import NnUNetNetwork, read_nnunet


@pytest.fixture(scope="module")
def of_regions(workplace: Workplace) -> Path:
    """A model of overlapping regions, with random weights."""
    source = workplace.trained("3d_fullres")
    dataset = json.loads((source / "dataset.json").read_text())
    dataset["labels"] = {"background": 0, "whole": [1, 2], "core": [2]}
    dataset["regions_class_order"] = [1, 2]
    plans = json.loads((source / "plans.json").read_text())
    torch.manual_seed(0)
    network = NnUNetNetwork(plans, dataset, "3d_fullres").network
    path = workplace.root / "results" / "regions" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (path / "fold_all").mkdir(parents=True)
    (path / "dataset.json").write_text(json.dumps(dataset))
    (path / "plans.json").write_text(json.dumps(plans))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 2),
    }
    torch.save(checkpoint, path / "fold_all" / "checkpoint_final.pth")
    return path


@needs_nnunet
@pytest.mark.slow
def test_regions_become_classes(of_regions: Path) -> None:
    folder = read_nnunet(of_regions, trust=True)
    assert folder.folds == ("all",)
    space = folder.label_space
    assert (space.kind, space.channels) == ("multi-class", 3)
    assert [region.values for region in space.regions] == [(1, 2), (2,)]
    policy = folder.policy()
    images = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    classes = policy.logits(images)
    assert isinstance(policy.network, NnUNetNetwork)
    with torch.no_grad():
        whole, core = policy.network.network(images).unbind(1)
    expected = torch.stack([torch.zeros_like(whole), whole, whole + core], dim=1)
    torch.testing.assert_close(classes, expected)
    # The odds of two label maps are those of all their regions, normalised or not.
    winner, loser = torch.randint(0, 3, (2, 2, 1, 16, 16, 16)).unbind(0)
    likelihood = classes.log_softmax(1)
    found = likelihood.gather(1, winner) - likelihood.gather(1, loser)
    regions = whole * ((winner > 0).float() - (loser > 0).float())[:, 0]
    regions += core * ((winner == 2).float() - (loser == 2).float())[:, 0]
    torch.testing.assert_close(found[:, 0], regions, rtol=1e-4, atol=1e-5)
    # Decoded as nnU-Net does, where the regions do not contradict each other.
    painted = torch.where(core > 0, 2, torch.where(whole > 0, 1, 0))
    agree = ~((core > 0) & (whole <= 0))
    assert agree.float().mean() > 0.5
    decoded = space.decode(classes)[:, 0]
    assert torch.equal(decoded[agree].long(), painted[agree])


@needs_nnunet
@pytest.mark.slow
def test_masks_of_regions_equal_those_of_stock_nnunet(
    workplace: Workplace, of_regions: Path, tmp_path: Path
) -> None:
    folder = read_nnunet(of_regions, trust=True)
    stock = mask(workplace.predicted(of_regions, ["all"]))
    (written,) = folder.prediction().write_folder(workplace.new_images, tmp_path)
    assert len(np.unique(stock)) > 1
    np.testing.assert_array_equal(mask(written), stock)
    command(
        workplace, "predict", of_regions, tmp_path / "ours", "--input", str(workplace.new_images)
    )
    np.testing.assert_array_equal(mask(tmp_path / "ours" / "new.nii.gz"), stock)
