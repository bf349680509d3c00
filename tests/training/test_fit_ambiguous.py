"""U-Nets that draw masks, trained on images whose two raters disagree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segpref.data import Preparation
from segpref.inference import DropoutSampler, LatentSampler, sample_cases, score_samples
from segpref.policies import ModelCard, NetworkSpec, load_model
from segpref.training import AmbiguousConfig, RunFolder, fit_ambiguous
from segpref.training.tasks import ambiguous as module
from segpref.types import Case, LabelSpace, SegprefError

SPACE = LabelSpace("multi-label", ("blob",))
SIDE = 16


def cases(count: int, seed: int) -> list[Case]:
    """A bright square that one rater outlines, with a rim of two pixels that only the other counts."""
    found = []
    rng = np.random.default_rng(seed)
    for number in range(count):
        raters = np.zeros((2, 1, SIDE, SIDE), np.uint8)
        y, x = rng.integers(3, SIDE - 8, 2)
        raters[0, 0, y : y + 5, x : x + 5] = 1
        raters[1, 0, y - 2 : y + 7, x - 2 : x + 7] = 1
        image = raters.mean(axis=0) + 0.05 * rng.standard_normal((1, SIDE, SIDE))
        name = f"s{seed}n{number}"
        found.append(
            Case(id=name, patient=name, volume=name, image=image.astype(np.float32), raters=raters)
        )
    return found


def card(**changes: Any) -> ModelCard:
    arguments = {"channels": [8, 16], "features": 8, "latent": 2, "latent_channels": 8, **changes}
    return ModelCard(
        network=NetworkSpec("segpref.networks.ProbabilisticUNet", arguments),
        label_space=SPACE,
        preparation=Preparation(crop=(SIDE, SIDE)),
    )


QUICK: dict[str, Any] = {
    "epochs": 2, "images_per_epoch": 16, "batch_size": 8, "learning_rate": 5e-3,
    "validation_samples": 2,
}  # fmt: skip


def trained(path: Path, resume: bool = False, **changes: Any) -> dict[str, Any]:
    folder = RunFolder(path)
    folder.open({"what": "test"}, resume=resume)
    network = changes.pop("card", card())
    return fit_ambiguous(cases(16, 0), cases(4, 1), network, folder, **{**QUICK, **changes})


def weights(path: Path) -> Mapping[str, torch.Tensor]:
    return load_model(path / "last.safetensors")[0].network.state_dict()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_run_leaves_a_model_and_its_figures(tmp_path: Path, dropout: float) -> None:
    summary = trained(tmp_path, dropout=dropout)
    assert summary["kind"] == "fit-ambiguous"
    rows = RunFolder(tmp_path).read_metrics()
    assert len(rows) == 3
    for name in ("train_loss", "train_kl", "val_iou", "val_ged", "val_average_dice", "val_d_max"):
        assert np.isfinite(rows[-1][name])
    # A finished run is read, not repeated.
    assert trained(tmp_path, resume=True, dropout=dropout) == summary
    # The file is that of a segmenter, too: its mask is at the prior's mean.
    model, _ = load_model(tmp_path)
    assert model.network.latent == 2
    images = torch.from_numpy(np.stack([case.image for case in cases(2, 1)]))
    assert model.logits(images).shape == (2, 1, SIDE, SIDE)


class Killed(Exception):
    pass


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_killed_run_goes_on_to_the_identical_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    options = {"epochs": 3, "dropout": dropout}
    trained(tmp_path / "whole", **options)
    drawn, calls = module.rated_batch, 0

    def fails(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        return drawn(*arguments)

    monkeypatch.setattr(module, "rated_batch", fails)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", **options, checkpoint_seconds=0)
    trained(tmp_path / "killed", resume=True, **options)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_seeds_make_other_members(tmp_path: Path) -> None:
    plain = card(latent=0)
    for seed in (0, 1):
        trained(tmp_path / str(seed), card=plain, seed=seed, epochs=1)
    one, other = (weights(tmp_path / str(seed)) for seed in (0, 1))
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_who_draws_is_a_matter_of_the_dropout() -> None:
    assert AmbiguousConfig().sampler == LatentSampler()
    assert AmbiguousConfig(dropout=0.2).sampler == DropoutSampler(0.2)


def test_dropout_changes_what_is_learned(tmp_path: Path) -> None:
    for rate in (0.0, 0.5):
        trained(tmp_path / str(rate), card=card(latent=0), dropout=rate, epochs=1)
    one, other = (weights(tmp_path / str(rate)) for rate in (0.0, 0.5))
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.open({}, resume=False)
    with pytest.raises(SegprefError, match="no case to train on"):
        fit_ambiguous([], cases(1, 0), card(), folder)
    with pytest.raises(SegprefError, match="leaks"):
        fit_ambiguous(cases(2, 0), cases(2, 0), card(), folder)


def learned(path: Path, **changes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the samples of test images that are like the first rater's, and like the second's."""
    folder = RunFolder(path)
    folder.open({}, resume=False)
    options = {"epochs": 1, "images_per_epoch": 4000, "batch_size": 16, "average": 0.99}
    fit_ambiguous(cases(64, 0), cases(4, 1), card(**changes), folder, **{**QUICK, **options})
    model, _ = load_model(path / "last.safetensors")
    test = cases(12, 2)
    masks = sample_cases(model, test, 16, LatentSampler())
    near = np.array(
        [
            [score_samples([one[n : n + 1]], [_of(case, r)]).average_dice[0] > 0.9 for r in (0, 1)]
            for one, case in zip(masks, test, strict=True)
            for n in range(16)
        ]
    ).reshape(len(test), 16, 2)
    shares = near.mean(axis=1)
    return shares[:, 0], shares[:, 1]


def _of(case: Case, rater: int) -> Case:
    assert case.raters is not None
    return Case(
        id=case.id, patient=case.patient, volume=case.volume, image=case.image,
        raters=case.raters[rater : rater + 1],
    )  # fmt: skip


@pytest.mark.slow
def test_a_latent_samples_both_raters_of_every_image(tmp_path: Path) -> None:
    small, large = learned(tmp_path)
    # Most samples are somebody's mask (Dice above 0.9), and of every image some are of either rater.
    assert (small + large).mean() > 0.6
    assert ((small > 0) & (large > 0)).all()
    assert 0.2 < small.mean() < 0.6


@pytest.mark.slow
def test_a_plain_unet_has_one_mask_for_both(tmp_path: Path) -> None:
    small, large = learned(tmp_path, latent=0)
    assert not ((small > 0) & (large > 0)).any()
