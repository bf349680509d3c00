from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segpref.data import Preparation
from segpref.inference import sample_cases, score_samples
from segpref.policies import ModelCard, NetworkSpec, PolicySpec
from segpref.policies.diffusion import AmbiSeg, Sampler, TextEncoder, load_diffusion
from segpref.training import RunFolder, averaged, fit_diffusion, linear, warm_decay
from segpref.training.tasks import diffusion as module
from segpref.types import Case, LabelSpace, SegprefError

pytest.importorskip("diffusers")
SPACE = LabelSpace("multi-label", ("blob",))
SIDE = 16


def cases(count: int, seed: int) -> list[Case]:
    """A bright square that two raters outline, one rater outlines larger, and one does not see."""
    found = []
    rng = np.random.default_rng(seed)
    for number in range(count):
        raters = np.zeros((4, 1, SIDE, SIDE), np.uint8)
        y, x = rng.integers(2, SIDE - 8, 2)
        raters[:3, 0, y : y + 5, x : x + 5] = 1
        raters[2, 0, y - 1 : y + 6, x - 1 : x + 6] = 1
        image = raters[0].astype(np.float32) + 0.05 * rng.standard_normal((1, SIDE, SIDE))
        name = f"s{seed}n{number}"
        found.append(
            Case(id=name, patient=name, volume=name, image=image.astype(np.float32), raters=raters)
        )
    return found


def card(**changes: Any) -> ModelCard:
    arguments = {
        "channels": [8, 16], "cross": 16, "heads": 2, "latent": 2, "latent_channels": 8,
        "text_encoder": None, "middle_attention": False, "attention": [False, False], **changes,
    }  # fmt: skip
    return ModelCard(
        network=NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments),
        label_space=SPACE,
        preparation=Preparation(crop=(SIDE, SIDE)),
    )


QUICK: dict[str, Any] = {
    "epochs": 2, "images_per_epoch": 16, "batch_size": 8, "learning_rate": 2e-3,
    "validation_samples": 2, "validation_sampler": Sampler(steps=2),
}  # fmt: skip


def trained(path: Path, resume: bool = False, **changes: Any) -> dict[str, Any]:
    folder = RunFolder(path)
    folder.open({"what": "test"}, resume=resume)
    network = changes.pop("card", card())
    return fit_diffusion(cases(16, 0), cases(2, 1), network, folder, **{**QUICK, **changes})


def weights(path: Path, name: str = "last") -> Mapping[str, torch.Tensor]:
    return load_diffusion(path / f"{name}.safetensors")[0].inner.state_dict()


@pytest.mark.slow
def test_a_run_leaves_a_model_and_its_figures(tmp_path: Path) -> None:
    summary = trained(tmp_path)
    assert summary["kind"] == "fit-diffusion"
    rows = RunFolder(tmp_path).read_metrics()
    assert len(rows) == 3
    for name in ("train_mse", "train_kl", "val_iou", "val_ged", "val_average_dice", "val_d_max"):
        assert np.isfinite(rows[-1][name])
    last = rows[-1]
    assert last["train_loss"] == pytest.approx(last["train_mse"] + 1e-3 * last["train_kl"])
    model, told = load_diffusion(tmp_path)
    assert told.network.arguments["latent"] == 2
    assert not model.inner.training
    # A finished run is read, not repeated.
    assert trained(tmp_path, resume=True) == summary


class Measured(AmbiSeg):
    """A diffusion model that is measured in its own way."""

    def validation(self, cases: Sequence[Case], whole: Any) -> Mapping[str, float]:
        assert not self.network.training
        return {"val_iou": 0.25, "val_images": float(len(cases))}


@pytest.mark.slow
def test_a_model_of_another_class_is_measured_as_it_says(tmp_path: Path) -> None:
    own = replace(card(), policy=PolicySpec(f"{__name__}.Measured"))
    assert trained(tmp_path, card=own, epochs=1)["val_iou"] == 0.25
    rows = RunFolder(tmp_path).read_metrics()
    assert [row["val_images"] for row in rows] == [2.0, 2.0]
    assert type(load_diffusion(tmp_path)[0]).__name__ == "Measured"


class Killed(Exception):
    pass


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, calls = module.rated_batch, 0

    def fails(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == step:
            raise Killed
        return drawn(*arguments)

    monkeypatch.setattr(module, "rated_batch", fails)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_identical_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path / "whole", epochs=3)
    kill_at(4, monkeypatch)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", epochs=3, checkpoint_seconds=0)
    trained(tmp_path / "killed", resume=True, epochs=3)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


class Letters(TextEncoder):
    """One token per letter, without a network."""

    def _encode(self, texts: Sequence[str]) -> list[torch.Tensor]:
        return [torch.eye(4)[[ord(letter) % 4 for letter in text]] for text in texts]


def spoken(path: Path, resume: bool = False, **changes: Any) -> dict[str, Any]:
    """A run on images that all have texts."""
    folder = RunFolder(path)
    folder.open({"what": "text"}, resume=resume)
    network = card(text_encoder="letters", text_width=4, attention=[False, True])
    options = {**QUICK, "encoder": Letters("letters"), **changes}
    train, validation = (
        [replace(one, text="a\nbc") for one in cases(*of)] for of in ((16, 0), (2, 1))
    )
    return fit_diffusion(train, validation, network, folder, **options)


@pytest.mark.slow
def test_texts_that_are_left_out_teach_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken(tmp_path / "always")
    assert not load_diffusion(tmp_path / "always")[0].inner.knows_silence
    asked: list[str | None] = []
    words = AmbiSeg.words

    def noted(model: AmbiSeg, texts: Sequence[str | None]) -> Any:
        # Validation asks by the network's average.
        asked.extend(texts if model.inner.training else [])
        return words(model, texts)

    monkeypatch.setattr(AmbiSeg, "words", noted)
    spoken(tmp_path / "often", text_dropout=0.25, images_per_epoch=160)
    assert len(asked) == 320
    assert asked.count(None) / len(asked) == pytest.approx(0.25, abs=0.08)
    assert load_diffusion(tmp_path / "often")[0].inner.knows_silence


@pytest.mark.slow
def test_a_killed_run_leaves_out_the_same_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken(tmp_path / "whole", epochs=3, text_dropout=0.5)
    kill_at(4, monkeypatch)
    with pytest.raises(Killed):
        spoken(tmp_path / "killed", epochs=3, text_dropout=0.5, checkpoint_seconds=0)
    spoken(tmp_path / "killed", resume=True, epochs=3, text_dropout=0.5)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_leaving_out_texts_changes_no_other_draw(tmp_path: Path) -> None:
    # A model without text shows all that is drawn besides.
    trained(tmp_path / "never")
    trained(tmp_path / "often", text_dropout=0.5)
    one, other = weights(tmp_path / "never"), weights(tmp_path / "often")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_the_average_is_saved_and_the_text_free_model_has_no_text(tmp_path: Path) -> None:
    trained(tmp_path / "with", average=0.9999)
    trained(tmp_path / "without", average=0.0)
    one, other = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
    assert "project.weight" not in one


def test_the_average_looks_back_over_a_tenth_of_the_steps() -> None:
    network = nn.Linear(1, 1, bias=False)
    mean = averaged(network, 0.9999, warm_decay)
    expected = 0.0
    for step in range(200):
        with torch.no_grad():
            network.weight.fill_(float(step))
        mean.update_parameters(network)
        # The first update copies the weights.
        decay = (1 + step) / (10 + step)
        expected = float(step) if step == 0 else decay * expected + (1 - decay) * step
    assert mean.module.weight.item() == pytest.approx(expected, rel=1e-4)
    assert 160 < expected < 190
    slow = averaged(network, 0.5, warm_decay)
    for step in range(3):
        with torch.no_grad():
            network.weight.fill_(float(step))
        slow.update_parameters(network)
    # Decay 2/11 at the second update, 3/12 at the third: both below the highest, 0.5.
    assert slow.module.weight.item() == pytest.approx(0.25 * (9 / 11) + 0.75 * 2)


def test_the_rate_falls_linearly() -> None:
    assert [linear(2.0)(p) for p in (0.0, 0.25, 1.0)] == [2, 1.5, 0]


def test_raters_and_prompts_are_drawn_independently() -> None:
    rated = cases(1, 0)[0]
    told = Case(
        id="a", patient="a", volume="a", image=rated.image, raters=rated.raters, text="x\ny"
    )
    rngs = [np.random.default_rng(i) for i in range(2000)]
    _, masks, texts = module.rated_batch([told] * 2000, rngs, augment=False)
    sizes = masks.sum(dim=(1, 2, 3)).numpy()
    x = np.array([text == "x" for text in texts])
    assert (sizes == 0).mean() == pytest.approx(0.25, abs=0.03)
    assert (sizes == 25).mean() == pytest.approx(0.5, abs=0.03)
    for size in (0, 25, 49):
        assert x[sizes == size].mean() == pytest.approx(0.5, abs=0.07)


def test_augmentation_turns_image_and_mask_together() -> None:
    rated = cases(1, 0)[0]
    rngs = [np.random.default_rng(i) for i in range(40)]
    images, masks, _ = module.rated_batch([rated] * 40, rngs, augment=True)
    bright = images > 0.5
    seen = masks.sum(dim=(1, 2, 3)) == 25
    assert torch.equal(bright[seen], masks[seen].bool())
    assert len({mask.numpy().tobytes() for mask in masks[seen]}) > 4


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.open({}, resume=False)
    with pytest.raises(SegprefError, match="no case to train on"):
        fit_diffusion([], cases(1, 0), card(), folder)
    with pytest.raises(SegprefError, match="leaks"):
        fit_diffusion(cases(2, 0), cases(2, 0), card(), folder)
    for share in (-0.1, 1.0):
        with pytest.raises(SegprefError, match="at least 0 and below 1"):
            fit_diffusion(cases(2, 0), cases(2, 1), card(), folder, text_dropout=share)


@pytest.mark.slow
def test_it_learns_what_the_raters_draw(tmp_path: Path) -> None:
    options = {"epochs": 1, "images_per_epoch": 8000, "batch_size": 32, "learning_rate": 3e-3}
    folder = RunFolder(tmp_path)
    folder.open({}, resume=False)
    fit_diffusion(cases(64, 0), cases(8, 1), card(patch=2), folder, **{**QUICK, **options})
    model, _ = load_diffusion(tmp_path / "last.safetensors")
    test = cases(8, 2)
    scores = score_samples(sample_cases(model, test, 12, Sampler(steps=10)), test).mean()
    # To say the small square every time is the best that one mask can do: Dice with the raters is
    # 1, 1, 50/74 and 0, between two of them (4 + 2 + 4 * 50/74) / 16 on average.
    single = 1 + (6 + 4 * 50 / 74) / 16 - 2 * (2 + 50 / 74) / 4
    assert scores["ged"] < 0.5 * single
    assert scores["d_max"] > 0.9
