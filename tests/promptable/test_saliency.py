"""Saliency and the models that compare images with texts, against formulas written a second time."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from dark_probe import Probe
from tiny_models import SIDE
from torch import Tensor, nn
from torch.nn import functional

from segpref.contrib.prompts import OpenClip
from segpref.prompts import GradCAM, GScoreCAM, TransformersClip
from segpref.types import SegprefError


def dark_disc() -> tuple[Tensor, np.ndarray]:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = (rows - 12) ** 2 + (columns - 18) ** 2 < 36
    return torch.from_numpy(np.where(disc, 0.1, 1.0).astype(np.float32))[None], disc


@pytest.mark.parametrize("saliency", [GradCAM(), GScoreCAM(channels=1)])
def test_saliency_finds_what_the_model_looks_at(saliency: Any) -> None:
    image, disc = dark_disc()
    found = saliency(Probe(), image, "dark").numpy()
    assert found.shape == disc.shape
    assert found.min() == 0
    assert found.max() == 1
    assert found[disc].mean() > 5 * found[~disc].mean()


def test_grad_cam_is_its_formula() -> None:
    """A model whose gradient is known by hand."""

    class Linear(Probe):
        weight = torch.tensor([0.7, -0.3])

        def image_embeddings(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features = torch.stack([images[:, 0, ::4, ::4], images[:, 0, 1::4, 1::4] ** 2], dim=1)
            features.requires_grad_()
            score = (features.mean(dim=(2, 3)) * self.weight).sum(1, keepdim=True)
            return torch.cat([score, torch.zeros_like(score)], 1), features

    image, _ = dark_disc()
    maps = Linear().image_embeddings((image[None] - 0.1) / 0.9)[1].detach()[0]
    # d score / d A_k is weight_k / 64 at every place.
    expected = (0.7 * maps[0] - 0.3 * maps[1]).clamp(min=0)[None, None]
    expected = functional.interpolate(expected, (SIDE, SIDE), mode="bilinear")[0, 0]
    low, high = expected.min(), expected.max()
    found = GradCAM()(Linear(), image, "x")
    torch.testing.assert_close(found, (expected - low) / (high - low), rtol=1e-4, atol=1e-5)


def test_gscorecam_tries_the_channels_of_the_highest_gradient(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = TransformersClip(str(clip_folder), device="cpu")
    image, _ = dark_disc()
    passes: list[int] = []
    inner = clip.image_embeddings

    def watched(images: Tensor) -> Any:
        passes.append(len(images))
        return inner(images)

    monkeypatch.setattr(clip, "image_embeddings", watched)
    found = GScoreCAM(channels=5, batch_size=2)(clip, image, "a dark lesion")
    # One with gradients, the empty image, then five masked ones by twos.
    assert passes == [1, 1, 2, 2, 1]
    assert found.isfinite().all()
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)
    again = GScoreCAM(channels=5)(clip, image, "a dark lesion")
    torch.testing.assert_close(found, again)


def test_the_gradient_in_a_transformer_is_that_of_its_cosine(clip_folder: Path) -> None:
    """Tokens of the last block's input are changed by hand, and the cosine follows the gradient."""
    clip = TransformersClip(str(clip_folder), device="cpu")
    image = torch.rand(1, 3, 32, 32)
    target = clip.text_embeddings(["a dark lesion"])[0]
    embedding, tokens = clip.image_embeddings(image)
    (slope,) = torch.autograd.grad((embedding @ target).sum(), tokens)
    assert clip.feature_map(slope).shape == (1, 24, 8, 8)
    # Patch 5 of the grid's row 2 is token 1 + 2 x 8 + 5, for a class token comes first.
    assert torch.equal(clip.feature_map(tokens)[0, :, 2, 5], tokens[0, 22])
    last = clip._model.vision_model.encoder.layers[-1]

    def score(step: Tensor) -> float:
        hook = last.register_forward_pre_hook(lambda m, args: (args[0] + step, *args[1:]))
        try:
            with torch.no_grad():
                return float((clip.image_embeddings(image)[0] @ target).sum())
        finally:
            hook.remove()

    step = torch.zeros_like(tokens)
    step[0, 22] = 0.05 * torch.sign(slope[0, 22])
    rise = (score(step) - score(-step)) / 2
    assert rise > 0
    assert rise == pytest.approx(float((slope * step).sum()), rel=0.05)


def test_a_clip_of_transformers_compares_images_with_texts(clip_folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    clip = TransformersClip(str(clip_folder), device="cpu")
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        embedding, features = clip.image_embeddings(image)
    texts = clip.text_embeddings(["a dark lesion", "the breast"])
    model = CLIPModel.from_pretrained(clip_folder)
    tokens = AutoTokenizer.from_pretrained(clip_folder)(
        ["a dark lesion", "the breast"], padding=True, return_tensors="pt"
    )
    tokens.pop("token_type_ids", None)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        output = model(**tokens, pixel_values=(image - mean) / std)
    torch.testing.assert_close(embedding, output.image_embeds)
    torch.testing.assert_close(texts, output.text_embeds)
    assert clip.feature_map(features).shape == (2, 24, 8, 8)
    with pytest.raises(SegprefError, match=r"tokens and .* reads 24: shorten it"):
        clip.text_embeddings(["lesion " * 40])
    with pytest.raises(SegprefError, match="can't be loaded"):
        TransformersClip(str(clip_folder / "nothing"))


def test_open_clip_is_read_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package needs torchvision, so a stand-in with its interface is asked."""

    class Block(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return tokens * 2

    class Visual(nn.Module):
        image_size = (8, 8)
        image_mean = (0.0, 0.0, 0.0)
        image_std = (1.0, 1.0, 1.0)

        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Module()
            self.trunk.blocks = nn.ModuleList([Block(), Block(), Block()])

        def forward(self, images: Tensor) -> Tensor:
            patches = functional.avg_pool2d(images, 2).flatten(2).transpose(1, 2)
            tokens = torch.cat([patches.mean(1, keepdim=True), patches], dim=1)
            for block in self.trunk.blocks:
                tokens = block(tokens)
            return tokens.mean(1)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = Visual()

        def encode_image(self, images: Tensor) -> Tensor:
            return self.visual(images)

        def encode_text(self, tokens: Tensor) -> Tensor:
            return tokens.float()

    stand_in = SimpleNamespace(
        create_model_from_pretrained=lambda name, return_transform: Model(),
        get_tokenizer=lambda name: lambda texts: torch.tensor([[3, 0, 4]] * len(texts)),
    )
    monkeypatch.setitem(sys.modules, "open_clip", stand_in)  # type: ignore[arg-type]
    clip = OpenClip("hf-hub:any", device="cpu")
    assert clip.text_embeddings(["x"]).tolist() == [pytest.approx([0.6, 0.0, 0.8])]
    image = torch.rand(1, 3, 8, 8)
    features = clip.feature_map(clip.image_embeddings(image)[1])
    torch.testing.assert_close(features, 4 * functional.avg_pool2d(image, 2))
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(SegprefError, match="pip install open_clip_torch"):
        OpenClip("hf-hub:any")
