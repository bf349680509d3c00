"""The network of the diffusion model, the texts that it reads, and its file."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_ambiseg import SMOOTH, SPACE, SPICULATED, TINY, drawn, images, tiny
from torch import Tensor

from segpref.data import Preparation
from segpref.networks import Gaussian
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.policies.diffusion import AmbiSeg, TextEncoder, load_diffusion
from segpref.types import LabelSpace, SegprefError

pytest.importorskip("diffusers")


# The network


def test_divergence_of_gaussians() -> None:
    torch.manual_seed(0)
    q, p = (Gaussian(torch.randn(4, 3), 0.3 * torch.randn(4, 3)) for _ in range(2))
    both = [torch.distributions.Normal(g.mean, g.log_std.exp()) for g in (q, p)]
    expected = torch.distributions.kl_divergence(*both).sum(1)
    torch.testing.assert_close(q.divergence(p), expected)
    assert q.divergence(q).abs().max() == 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"latent": 0},
        {"patch": 2},
        {"out_channels": 2, "in_channels": 3},
        {"attention": [True, False], "middle_attention": False},
    ],
)
def test_networks_of_all_kinds(changes: dict[str, Any]) -> None:
    network = tiny(**changes)
    fields, channels = changes.get("out_channels", 1), changes.get("in_channels", 1)
    image, noisy = torch.randn(2, channels, 16, 16), torch.randn(2, fields, 16, 16)
    time, unit = torch.tensor([3, 60]), torch.randn(2, network.latent)
    prediction, divergence = network(image, None, noisy, time, unit, masks=noisy.sign())
    assert prediction.shape == noisy.shape
    assert (divergence > 0).all() == bool(network.latent)
    prediction.sum().backward()
    missing = {n.partition(".")[0] for n, p in network.named_parameters() if p.grad is None}
    assert missing <= {"prior"}  # which only the divergence reaches


def test_the_latent_and_the_text_matter(reader: AmbiSeg) -> None:
    network, image, noisy = reader.inner, images(1), torch.zeros(1, 1, 16, 16)
    time = torch.tensor([50])

    def predict(text: str | None, unit: float) -> Tensor:
        context = reader.encode(image, [text])
        with torch.no_grad():
            return network.denoise(context, noisy, time, torch.full((1, 3), unit))

    torch.testing.assert_close(predict(SMOOTH, 0.0), predict(SMOOTH, 0.0))
    assert (predict(SMOOTH, 0.0) - predict(SPICULATED, 0.0)).abs().max() > 1e-4
    assert (predict(SMOOTH, 0.0) - predict(SMOOTH, 1.0)).abs().max() > 1e-4
    assert (predict(None, 0.0) - predict(SMOOTH, 0.0)).abs().max() > 1e-4


def test_silence_is_known_where_it_was_learned(reader: AmbiSeg) -> None:
    assert tiny().knows_silence
    network = deepcopy(reader.inner)
    assert not network.knows_silence
    model = AmbiSeg(network, SPACE, reader.encoder)
    optimizer = torch.optim.AdamW(network.parameters())
    masks, shared = torch.ones(1, 2, 1, 16, 16, dtype=torch.uint8), drawn(2, model)
    for texts, known in (([SMOOTH, SPICULATED], False), ([SMOOTH, None], True)):
        optimizer.zero_grad()
        model.residuals(images(2), texts, masks, shared).pow(2).sum().backward()
        optimizer.step()
        assert network.knows_silence == known


def test_padding_of_texts_does_not_matter(reader: AmbiSeg) -> None:
    alone = reader.encode(images(1), [SMOOTH])
    mixed = reader.encode(images(3)[[0, 1, 0]], [SMOOTH, SPICULATED, None])
    noisy, time, unit = torch.randn(1, 1, 16, 16), torch.tensor([20]), torch.randn(1, 3)
    with torch.no_grad():
        one = reader.denoise(alone, noisy, time, unit)
        row = reader.denoise(mixed.rows(torch.tensor([0])), noisy, time, unit)
        silent = reader.denoise(mixed.rows(torch.tensor([2])), noisy, time, unit)
        never = reader.denoise(reader.encode(images(1), [None]), noisy, time, unit)
    # Images are drawn anew by count, the first is the same only with the same generator state.
    assert torch.equal(images(1)[0], images(3)[0])
    torch.testing.assert_close(one, row, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(silent, never, atol=1e-5, rtol=1e-5)


def test_misfits_are_told() -> None:
    with pytest.raises(SegprefError, match="multiples of 2"):
        AmbiSeg(tiny(), SPACE).encode(torch.zeros(1, 1, 15, 16), [None])
    with pytest.raises(SegprefError, match="2D images, not 3D"):
        AmbiSeg(tiny(), SPACE).encode(torch.zeros(1, 1, 8, 8, 8), [None])
    with pytest.raises(SegprefError, match="one per level"):
        tiny(attention=[True])
    with pytest.raises(SegprefError, match="multi-label"):
        AmbiSeg(tiny(), LabelSpace("multi-class", ("background", "nodule")))
    with pytest.raises(SegprefError, match="Linear is not a diffusion model"):
        AmbiSeg(torch.nn.Linear(1, 1), SPACE)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("segpref.extras.importlib.import_module", gone)
    with pytest.raises(SegprefError, match=r"install 'segpref\[diffusion\]'"):
        tiny()


# Text


def test_texts_are_encoded_once_and_alone(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = TextEncoder(encoder.name, batch_size=2)
    fresh._loaded = encoder._loaded
    asked: list[str] = []
    encode = fresh._encode
    monkeypatch.setattr(fresh, "_encode", lambda few: asked.extend(few) or encode(few))
    words, there = fresh([SMOOTH, SPICULATED, None, SMOOTH])
    assert sorted(asked) == sorted([SMOOTH, SPICULATED])
    assert torch.equal(words[0], words[3])
    assert there.sum(1)[2] == 0
    assert there.sum(1)[1] > there.sum(1)[0] > 0
    fresh([SPICULATED])
    assert len(asked) == 2
    # Padding that a batch needs does not change what a text means.
    single = TextEncoder(encoder.name)
    single._loaded = encoder._loaded
    alone, _ = single([SMOOTH])
    torch.testing.assert_close(alone[0], words[0][there[0]], atol=1e-5, rtol=1e-4)


def test_encoders_that_cannot_be_had(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SegprefError, match=r"can't be loaded from .*nothing.*name a local folder"):
        TextEncoder(str(tmp_path / "nothing"))(["x"])
    with pytest.raises(SegprefError, match="install no_such_package"):
        TextEncoder("package:no_such_package/model")(["x"])
    wrong = AmbiSeg(tiny(text_encoder=encoder.name, text_width=77), SPACE, encoder)
    with pytest.raises(SegprefError, match="set text_width to 384"):
        wrong.words([SMOOTH])


# Files


def test_files_hold_everything_but_the_text_encoder(
    tmp_path: Path, reader: AmbiSeg, encoder: TextEncoder, tiny_unet: Callable[..., NetworkSpec]
) -> None:
    arguments = {**TINY, "text_encoder": encoder.name, "text_width": encoder.width}
    card = ModelCard(
        network=NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments),
        label_space=SPACE,
        preparation=Preparation(crop=(16, 16)),
        labelled=("a", "b"),
    )
    path = tmp_path / "model.safetensors"
    save_model(path, reader.inner, card)
    again, told = load_diffusion(path, encoder)
    assert told.labelled == ("a", "b")
    assert again.digest() == reader.digest()
    assert again.process == reader.process
    assert again.encoder is encoder
    assert load_diffusion(path)[0].encoder is not None
    other = tmp_path / "segmenter.safetensors"
    spec = tiny_unet(1)
    card = ModelCard(network=spec, label_space=SPACE, preparation=Preparation(crop=(16, 16)))
    save_model(other, spec.build(), card)
    with pytest.raises(SegprefError, match=r"segmenter\.safetensors can't be used here"):
        load_diffusion(other)
