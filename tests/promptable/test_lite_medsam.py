"""LiteMedSAM: its checkpoint in and out, its preparation, and its decoder tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lite_medsam_files import PUBLISHED, digest, shapes, write
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import LESION, images_of, lesions, write_sam

from segpref.cli.main import main
from segpref.data import Cache, Preparation
from segpref.policies import load_model, open_model, save_model
from segpref.policies.promptable import (
    Frame,
    Lora,
    PromptablePolicy,
    load_lite_medsam,
    load_sam,
    part_of,
    promptable_card,
    save_lite_medsam,
    save_sam,
    set_trainable,
)
from segpref.prompts import Prompt
from segpref.training import RunFolder, fit_promptable
from segpref.types import SegprefError

SIDE = 32
BOX = [[Prompt((6.0, 8.0, 21.0, 25.0))]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("checkpoints") / "lite_medsam.pth"
    write(file)
    return file


def policy_of(file: Path, **options: Any) -> PromptablePolicy:
    network = load_lite_medsam(str(file), **{"size": SIDE, **options})
    return PromptablePolicy(network, LESION)


def changed(checkpoint: Path, out: Path, **tensors: torch.Tensor | None) -> Path:
    """The checkpoint with other tensors; those that are None are left out."""
    weights = {**torch.load(checkpoint, weights_only=True), **tensors}
    torch.save({name: one for name, one in weights.items() if one is not None}, out)
    return out


def test_the_random_checkpoint_has_the_tensors_of_the_published_one() -> None:
    assert len(shapes()) == 435
    assert digest(shapes()) == PUBLISHED


def test_what_is_written_is_what_was_read(checkpoint: Path, tmp_path: Path) -> None:
    network = load_lite_medsam(str(checkpoint))
    assert (network.side, network.mask_side, network.iterations) == (256, 256, 1)
    save_lite_medsam(network, tmp_path / "again.pth")
    save_lite_medsam(network, tmp_path / "again.safetensors")
    read = torch.load(checkpoint, weights_only=True)
    for again in (
        torch.load(tmp_path / "again.pth", weights_only=True),
        load_file(tmp_path / "again.safetensors"),
    ):
        assert again.keys() == read.keys()
        assert all(torch.equal(again[name], read[name]) for name in read)


PLACES = {
    ("mask_decoder", "mask_decoder"): {
        **{
            f"transformer.layers.1.layer_norm{n}.bias": f"transformer.layers.1.norm{n}.bias"
            for n in range(1, 5)
        },
        "transformer.layer_norm_final_attn.bias": "transformer.norm_final_attn.bias",
        "transformer.layers.0.mlp.lin1.weight": "transformer.layers.0.mlp.lin1.weight",
        "upscale_layer_norm.weight": "output_upscaling.1.weight",
        **{
            f"{head}.{ours}.bias": f"{head}.layers.{theirs}.bias"
            for head in ("output_hypernetworks_mlps.2", "iou_prediction_head")
            for ours, theirs in (("proj_in", 0), ("layers.0", 1), ("proj_out", 2))
        },
    },
    ("prompt_encoder", "prompt_encoder"): {
        "shared_embedding.positional_embedding": "pe_layer.positional_encoding_gaussian_matrix",
        "point_embed.3.weight": "point_embeddings.3.weight",
        "mask_embed.layer_norm2.weight": "mask_downscaling.4.weight",
        "mask_embed.conv3.bias": "mask_downscaling.6.bias",
    },
    ("shared_image_embedding", "prompt_encoder"): {
        "positional_embedding": "pe_layer.positional_encoding_gaussian_matrix",
    },
    ("vision_encoder", "image_encoder"): {
        "layers.2.blocks.5.attn.qkv.weight": "layers.2.blocks.5.attn.qkv.weight",
    },
}
"""Where transformers has what the checkpoint calls otherwise, also where shapes would not tell."""


def test_every_tensor_has_its_place(checkpoint: Path) -> None:
    weights = torch.load(checkpoint, weights_only=True)
    sam = load_lite_medsam(str(checkpoint)).sam
    held = sam.state_dict()
    for (part, place), names in PLACES.items():
        for ours, theirs in names.items():
            assert torch.equal(held[f"{part}.{ours}"], weights[f"{place}.{theirs}"]), ours
    # What SAM's own code has, and transformers' defaults have not in the decoder.
    assert sam.mask_decoder.transformer.layers[0].layer_norm1.eps == 1e-5
    assert sam.mask_decoder.transformer.layer_norm_final_attn.eps == 1e-5
    assert sam.mask_decoder.upscale_layer_norm.eps == 1e-6
    assert sam.prompt_encoder.mask_embed.layer_norm1.eps == 1e-6


@pytest.mark.parametrize("kind", ["nested", "wrapped", "safetensors"])
def test_it_is_told_by_its_tensors_however_they_were_saved(
    checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    weights = torch.load(checkpoint, weights_only=True)
    file = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pt")
    if kind == "safetensors":
        save_file(weights, file)
    elif kind == "nested":
        torch.save({"model": weights, "epoch": 3}, file)
    else:
        torch.save({f"module.{name}": one for name, one in weights.items()}, file)
    opened = open_model(file)
    (policy,) = opened.policies()
    expected = load_lite_medsam(str(checkpoint)).state_dict()
    assert all(torch.equal(one, expected[n]) for n, one in policy.network.state_dict().items())
    # What it was trained with is unknown, so nothing is aligned or scored before somebody says it.
    assert opened.labelled is None
    # Nor does it have more weights than segpref reads: the file comes back as it was.
    assert opened.write is not None
    written = opened.write({"": policy.network}, tmp_path / "tuned")
    assert written == tmp_path / "tuned" / file.name
    (again,) = open_model(written).policies()
    assert again.digest() == policy.digest()
    if kind == "nested":
        assert torch.load(written, weights_only=True)["epoch"] == 3


def test_a_model_file_has_equal_logits(checkpoint: Path, tmp_path: Path) -> None:
    policy = policy_of(checkpoint)
    images = images_of(lesions(2))
    before = policy.logits(images, BOX * 2)
    assert before.shape == (2, 1, SIDE, SIDE)
    assert not torch.allclose(before[0], before[1], atol=1e-3)
    assert not torch.allclose(policy.logits(images, [[Prompt((0.0, 0.0, 9.0, 9.0))]] * 2), before)
    card = promptable_card(policy.inner, LESION, Preparation(dims=2, size=(SIDE, SIDE)))
    save_model(tmp_path / "best.safetensors", policy.inner, card)
    again, read = load_model(tmp_path / "best.safetensors")
    assert isinstance(again, PromptablePolicy)
    assert read == card
    assert torch.equal(again.logits(images, BOX * 2), before)
    assert again.digest() == policy.digest()
    # Segpref's own files stay segpref's own.
    assert open_model(tmp_path / "best.safetensors").labelled == ()


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("mask_decoder.mask_tokens.weight", None, "it lacks mask_decoder.mask_tokens.weight"),
        ("image_encoder.neck.4.bias", torch.zeros(3), "image_encoder.neck.4.bias, which LiteMed"),
        (
            "image_encoder.layers.2.blocks.0.attn.attention_biases",
            torch.zeros(5, 49),
            r"attention_biases has the shape \(5, 49\), not \(5, 196\)",
        ),
    ],
)
def test_other_tensors_are_refused_in_one_sentence(
    checkpoint: Path, tmp_path: Path, name: str, tensor: torch.Tensor | None, said: str
) -> None:
    file = changed(checkpoint, tmp_path / "other.pth", **{name: tensor})
    for opening in (load_lite_medsam, open_model):
        with pytest.raises(SegprefError, match=said) as caught:
            opening(str(file))
        assert "other.pth is no checkpoint of LiteMedSAM" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_other_files_are_no_lite_medsam(tmp_path: Path, checkpoint: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "unet.pth")
    with pytest.raises(SegprefError, match="it lacks image_encoder"):
        load_lite_medsam(str(tmp_path / "unet.pth"))
    with pytest.raises(SegprefError) as caught:
        open_model(tmp_path / "unet.pth")
    assert "LiteMedSAM" not in str(caught.value)
    with pytest.raises(SegprefError, match="multiple of 4 for LiteMedSAM, not 30"):
        load_lite_medsam(str(checkpoint), size=30)
    nan = torch.full((4, 256), torch.nan)
    file = changed(checkpoint, tmp_path / "nan.pth", **{"mask_decoder.mask_tokens.weight": nan})
    with pytest.raises(SegprefError, match="NaN or infinite"):
        load_lite_medsam(str(file))
    write_sam(tmp_path / "sam")
    with pytest.raises(SegprefError, match="this network is none of"):
        save_lite_medsam(load_sam(str(tmp_path / "sam")), tmp_path / "sam.pth")
    with pytest.raises(SegprefError, match="write it with save_lite_medsam"):
        save_sam(load_lite_medsam(str(checkpoint), size=SIDE), tmp_path / "folder")


def test_images_are_prepared_as_in_its_training(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wide image of 16 x 64 pixels in a square of 32: halved, 0 to 1, and zeros below."""
    policy, seen = policy_of(checkpoint), []
    encode = policy.inner.encode

    def watched(pixels: torch.Tensor) -> Any:
        seen.append(pixels)
        return encode(pixels)

    monkeypatch.setattr(policy.inner, "encode", watched)
    image = torch.full((1, 3, 16, 64), 0.3)
    image[:, 0, :, :32], image[:, 2, :, 32:] = 0.25, 0.75
    found = policy.logits(image, [[Prompt((6.0, 3.0, 21.0, 12.0))]])
    assert found.shape == (1, 1, 16, 64)
    (pixels,) = seen
    assert pixels.shape == (1, 3, 32, 32)
    assert (pixels[..., 8:, :] == 0).all()
    # By what the channels have in common, and away from the edge in the middle.
    inside = pixels[0, :, :8]
    for place, colours in ((slice(0, 12), (0, 0.1, 0.1)), (slice(20, 32), (0.1, 0.1, 1))):
        expected = torch.tensor(colours).reshape(3, 1, 1).expand(3, 8, 12)
        torch.testing.assert_close(inside[:, :, place], expected)
    # A grey image is as three equal channels, and its brightness does not matter.
    grey = images_of(lesions(1, side=48))
    expected = policy.logits(grey, BOX)
    torch.testing.assert_close(policy.logits(grey.expand(-1, 3, -1, -1), BOX), expected)
    torch.testing.assert_close(policy.logits(0.4 * grey + 0.1, BOX), expected, rtol=0, atol=1e-3)
    assert policy.logits(torch.full((1, 1, 30, 30), 0.7), BOX).isfinite().all()


def test_the_frame_in_numbers() -> None:
    """60 rows and 128 columns in a square of 256: twice the size, and 120 rows of 256 are the image."""
    frame = Frame((60, 128), 256, "pad", stretched=True)
    assert frame.inner == (120, 256)
    assert frame.box((-0.5, -0.5, 127.5, 59.5)) == [-0.5, -0.5, 255.5, 119.5]
    assert frame.box((9.5, 19.5, 29.5, 39.5)) == [19.5, 39.5, 59.5, 79.5]
    assert Frame((75, 100), 256).inner == (192, 256)
    assert Frame((100, 99), 256).inner == (256, 253)
    # What the decoder draws beside the image does not come into it.
    drawn = torch.full((1, 1, 256, 256), -9.0)
    drawn[..., :120, :] = 4.0
    restored = frame.restored(drawn)
    assert restored.shape == (1, 1, 60, 128)
    assert (restored == 4).all()
    values = frame.pixels(torch.linspace(2, 6, 128).expand(1, 3, 60, 128))
    assert (values.min(), values.max()) == (0, 1)
    assert (Frame((60, 128), 256).pixels(torch.full((1, 3, 60, 128), 5.0))[..., :120, :] == 5).all()


@pytest.mark.slow
def test_the_decoder_learns_on_embeddings_that_are_kept(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_lite_medsam(str(checkpoint), size=SIDE)
    PromptablePolicy(network, LESION).learn()
    learning = {part_of(n) for n, weight in network.named_parameters() if weight.requires_grad}
    assert learning == {"decoder"}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    encode, passes = network.encode, []

    def counting(pixels: torch.Tensor) -> Any:
        passes.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(network, "encode", counting)
    folder = RunFolder(tmp_path / "run")
    folder.open({}, resume=False)
    fit_promptable(
        lesions(4), lesions(2, first=20), network,
        promptable_card(network, LESION, Preparation(dims=2, size=(SIDE, SIDE))), folder,
        parts=("decoder",), epochs=3, batch_size=2, cache=Cache(tmp_path / "cache"),
    )  # fmt: skip
    assert sum(passes) == 4 + 2
    after = network.state_dict()
    # Nor do the statistics of batches move.
    assert {n.split(".")[1] for n in before if not torch.equal(before[n], after[n])} == {
        "mask_decoder"
    }


def test_adapters_are_put_into_its_attention_and_merged(checkpoint: Path, tmp_path: Path) -> None:
    policy = policy_of(checkpoint, lora=Lora(rank=2))
    images = images_of(lesions(1))
    plain = policy_of(checkpoint).logits(images, BOX)
    torch.testing.assert_close(policy.logits(images, BOX), plain, rtol=0, atol=1e-4)
    set_trainable(policy.inner, ("encoder",))
    adapted = [n for n, weight in policy.inner.named_parameters() if weight.requires_grad]
    # Two matrices for two layers of the attention of ten blocks.
    assert len(adapted) == 2 * 2 * 10
    with torch.no_grad():
        for name, weight in policy.inner.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    moved = policy.logits(images, BOX)
    assert not torch.allclose(moved, plain, atol=1e-3)
    save_lite_medsam(policy.inner, tmp_path / "merged.pth")
    again = policy_of(tmp_path / "merged.pth").logits(images, BOX)
    torch.testing.assert_close(again, moved, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(40, 64), (64, 48, 3)])
def test_predict_takes_the_checkpoint_itself(
    checkpoint: Path, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "image.png")
    status = main([
        "predict", "--model", str(checkpoint), "--input", str(tmp_path / "image.png"),
        "--output", str(tmp_path / "out"), "--box", "[10, 20, 40, 38]",
    ])  # fmt: skip
    assert status == 0
    (mask,) = (tmp_path / "out").rglob("*.png")
    assert np.asarray(Image.open(mask)).shape[:2] == shape[:2]
