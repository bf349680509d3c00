"""Stage 2 of a Probabilistic U-Net through the same loop as everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segpref.data import Dataset, Preparation, Source, Volume
from segpref.inference import LatentSampler, sample_cases, score_samples
from segpref.judges import RatersJudge
from segpref.objectives import DPO
from segpref.policies import ModelCard, NetworkSpec, PolicySpec, load_policy
from segpref.policies.diffusion import SampleSlates
from segpref.preferences import Extremes
from segpref.proposals import SlateProposals
from segpref.training import (
    PreferenceSignal,
    RunFolder,
    ScoredBatch,
    StepResult,
    align,
    fit_ambiguous,
)
from segpref.types import Case, LabelSpace, SegprefError, Slate

SPACE = LabelSpace("multi-label", ("blob",))
SIDE = 16
SAMPLES = SampleSlates(4, sampler=LatentSampler())


def dataset(patients: range) -> Dataset:
    """A bright square per patient, outlined by two raters; the second draws it larger."""
    volumes = []
    for number in patients:
        rng = np.random.default_rng(number)
        raters = np.zeros((1, 2, 1, SIDE, SIDE), np.uint8)
        y, x = rng.integers(3, SIDE - 9, 2)
        raters[0, 0, 0, y : y + 4, x : x + 4] = 1
        raters[0, 1, 0, y - 2 : y + 7, x - 2 : x + 7] = 1
        image = raters[:, 0] + 0.05 * rng.standard_normal((1, 1, SIDE, SIDE))
        source = Source(id=f"n{number}", patient=f"p{number}", images=(Path("none"),))
        volumes.append(
            Volume(source, {}, image.astype(np.float32), raters[:, 0], None, raters=raters)
        )
    return Dataset(volumes, SPACE)


POOL, VALIDATION, TEST = dataset(range(12)), dataset(range(12, 16)), dataset(range(16, 24))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Probabilistic U-Net that has learned from both raters."""
    arguments = {"channels": [8, 16], "features": 8, "latent": 2, "latent_channels": 8}
    card = ModelCard(
        network=NetworkSpec("segpref.networks.ProbabilisticUNet", arguments),
        label_space=SPACE,
        preparation=Preparation(crop=(SIDE, SIDE)),
        policy=PolicySpec("segpref.policies.LatentSegmenter"),
    )
    folder = RunFolder(tmp_path_factory.mktemp("base"))
    folder.open({"what": "test"}, resume=False)
    fit_ambiguous(
        POOL, VALIDATION, card, folder, epochs=6, images_per_epoch=192, batch_size=8,
        learning_rate=3e-3, average=0.0, validation_samples=4,
    )  # fmt: skip
    return folder.best


class Larger:
    """Prefers the larger mask, whatever the truth."""

    needs_label = False
    name = "larger"

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        sizes: np.ndarray = slate.masks.mean(axis=(2, 3), dtype=np.float32)
        return sizes


def run(path: Path, base: Path, resume: bool = False, **changes: Any) -> dict[str, Any]:
    folder = RunFolder(path)
    folder.open({"what": "test"}, resume=resume)
    settings: dict[str, Any] = {
        "signal": PreferenceSignal(SPACE, Extremes(1e-4), DPO(2.0), "region"), "judge": Larger(),
        "proposals": SAMPLES, "epochs": 6, "batch_size": 4, "learning_rate": 1e-3,
        "checkpoint_seconds": 0, **changes,
    }  # fmt: skip
    return align(base, POOL, VALIDATION, folder=folder, **settings)


def size(path: Path) -> float:
    """Mean share of the pixels that samples of unseen images mark."""
    model, _ = load_policy(path)
    masks = sample_cases(model, TEST, 8, LatentSampler())
    return float(np.mean([one.mean() for one in masks]))


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["image", "region"])
def test_preferences_are_learned(base: Path, tmp_path: Path, reduction: Any) -> None:
    beta = 2.0 if reduction == "region" else 50.0
    signal = PreferenceSignal(SPACE, Extremes(1e-4), DPO(beta), reduction)
    run(tmp_path, base, signal=signal)
    rows = RunFolder(tmp_path).read_metrics()
    assert rows[-1]["preference_accuracy"] > 0.9
    assert rows[-1]["margin"] > 0
    # Who prefers larger masks gets larger ones, of other patients, too.
    assert size(tmp_path / "last.safetensors") > 1.1 * size(base)
    # Drawing is still drawing: what only stage 1 needs is as it was.
    before, after = (load_policy(one)[0].network for one in (base, tmp_path / "last.safetensors"))
    for name, weight in before.posterior.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(weight, after.posterior.state_dict()[name])  # type: ignore[union-attr]
    assert any(
        not torch.equal(weight, after.prior.state_dict()[name])  # type: ignore[union-attr]
        for name, weight in before.prior.state_dict().items()  # type: ignore[union-attr]
    )


@pytest.mark.slow
def test_turned_preferences_are_learned_the_other_way(base: Path, tmp_path: Path) -> None:
    class Smaller(Larger):
        name = "smaller"

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            return -super().score(case, slate)

    run(tmp_path, base, judge=Smaller())
    assert size(tmp_path / "last.safetensors") < 0.95 * size(base)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_end(base: Path, tmp_path: Path) -> None:
    run(tmp_path / "whole", base, epochs=3)

    class Killed(PreferenceSignal):
        calls = 0

        def __call__(self, batch: ScoredBatch) -> StepResult:
            Killed.calls += 1
            if Killed.calls > 5:
                raise KeyboardInterrupt
            return super().__call__(batch)

    killed = Killed(SPACE, Extremes(1e-4), DPO(2.0), "region")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", base, epochs=3, signal=killed)
    run(tmp_path / "part", base, epochs=3, resume=True)
    ends = [load_policy(tmp_path / name / "last.safetensors")[0] for name in ("whole", "part")]
    one, other = (end.network.state_dict() for end in ends)
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_the_raters_judge_it(base: Path, tmp_path: Path) -> None:
    summary = run(tmp_path, base, judge=RatersJudge(SPACE, "mean", "dice"), epochs=1)
    assert summary["pool_cases"] == 12
    rows = RunFolder(tmp_path).read_metrics()
    for name in ("val_iou", "val_ged", "val_average_dice"):
        assert np.isfinite(rows[0][name])
    # Row 0 is the base itself, with the samples that anyone would draw of it.
    model, _ = load_policy(base)
    masks = sample_cases(model, VALIDATION, 8, LatentSampler(), 0)
    assert rows[0]["val_ged"] == pytest.approx(score_samples(masks, VALIDATION).mean()["ged"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"refresh": 1}, "drawn once: leave out refresh"),
        (
            {"slates_ahead": True},
            "slates_ahead has no effect on a model that draws masks by a latent",
        ),
        ({"proposals": SlateProposals(4)}, "give SampleSlates as proposals"),
        ({"proposal_precision": "bf16"}, "proposal_precision has no effect"),
    ],
)
def test_what_does_not_fit(base: Path, tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SegprefError, match=told):
        run(tmp_path, base, **changes)
