"""Checkpoints of LiteMedSAM with random weights: all tensors of the published one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

Shapes = dict[str, tuple[int, ...]]

PUBLISHED = "7653aeb308d8904827a03d9b89664688"
"""Digest of the names and shapes in the file that the authors publish."""


def digest(shapes: Shapes) -> str:
    text = json.dumps(sorted((name, list(shape)) for name, shape in shapes.items()))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def shapes() -> Shapes:
    """Written down from the published file, apart from the code that reads it."""
    found: Shapes = {}
    encoder = "image_encoder."
    _convolution(found, encoder + "patch_embed.seq.0", 3, 32)
    _convolution(found, encoder + "patch_embed.seq.2", 32, 64)
    stages = [(64, 2, 0, 0), (128, 2, 4, 7), (160, 6, 5, 14), (320, 2, 10, 7)]
    for number, (width, blocks, heads, window) in enumerate(stages):
        stage = f"{encoder}layers.{number}."
        for block in range(blocks):
            place = f"{stage}blocks.{block}."
            if number == 0:
                _convolution(found, place + "conv1", width, 256)
                _convolution(found, place + "conv2", 1, 256, 3)
                _convolution(found, place + "conv3", 256, width)
                continue
            found[place + "attn.attention_biases"] = (heads, window * window)
            _norm(found, place + "attn.norm", width)
            _linear(found, place + "attn.qkv", width, 3 * width)
            _linear(found, place + "attn.proj", width, width)
            _norm(found, place + "mlp.norm", width)
            _linear(found, place + "mlp.fc1", width, 4 * width)
            _linear(found, place + "mlp.fc2", 4 * width, width)
            _convolution(found, place + "local_conv", 1, width, 3)
        if number < 3:
            following = stages[number + 1][0]
            _convolution(found, stage + "downsample.conv1", width, following)
            _convolution(found, stage + "downsample.conv2", 1, following, 3)
            _convolution(found, stage + "downsample.conv3", following, following)
    found[encoder + "neck.0.weight"] = (256, 320, 1, 1)
    found[encoder + "neck.2.weight"] = (256, 256, 3, 3)
    for place in ("neck.1", "neck.3"):
        _norm(found, encoder + place, 256)
    _decoder(found)
    _prompts(found)
    return found


def write(path: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    """A checkpoint whose weights are of a size at which a mistake in any of them shows."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes().items():
        drawn = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            drawn = torch.tensor(7)
        elif name.endswith("running_var"):
            drawn = 1 + 0.1 * drawn.abs()
        elif name.endswith("gaussian_matrix"):
            pass
        elif drawn.ndim > 1:
            drawn *= 2 * drawn[0].numel() ** -0.5
        else:
            scale = name.endswith("weight") and ("norm" in name or ".bn." in name)
            drawn = 0.1 * drawn + float(scale)
        weights[name] = drawn
    torch.save(weights, path)
    return weights


def _decoder(found: Shapes) -> None:
    place = "mask_decoder.transformer."
    for layer in range(2):
        for name, inner in (
            ("self_attn", 256), ("cross_attn_token_to_image", 128), ("cross_attn_image_to_token", 128)
        ):  # fmt: skip
            _attention(found, f"{place}layers.{layer}.{name}", inner)
        for number in range(1, 5):
            _norm(found, f"{place}layers.{layer}.norm{number}", 256)
        _linear(found, f"{place}layers.{layer}.mlp.lin1", 256, 2048)
        _linear(found, f"{place}layers.{layer}.mlp.lin2", 2048, 256)
    _attention(found, place + "final_attn_token_to_image", 128)
    _norm(found, place + "norm_final_attn", 256)
    found["mask_decoder.iou_token.weight"] = (1, 256)
    found["mask_decoder.mask_tokens.weight"] = (4, 256)
    found["mask_decoder.output_upscaling.0.weight"] = (256, 64, 2, 2)
    found["mask_decoder.output_upscaling.0.bias"] = (64,)
    _norm(found, "mask_decoder.output_upscaling.1", 64)
    found["mask_decoder.output_upscaling.3.weight"] = (64, 32, 2, 2)
    found["mask_decoder.output_upscaling.3.bias"] = (32,)
    heads = {f"output_hypernetworks_mlps.{n}": 32 for n in range(4)} | {"iou_prediction_head": 4}
    for name, out in heads.items():
        for layer, width in enumerate((256, 256, out)):
            _linear(found, f"mask_decoder.{name}.layers.{layer}", 256, width)


def _prompts(found: Shapes) -> None:
    place = "prompt_encoder."
    found[place + "pe_layer.positional_encoding_gaussian_matrix"] = (2, 128)
    names = [*(f"point_embeddings.{n}" for n in range(4)), "not_a_point_embed", "no_mask_embed"]
    for name in names:
        found[f"{place}{name}.weight"] = (1, 256)
    for number, shape in ((0, (4, 1, 2, 2)), (3, (16, 4, 2, 2)), (6, (256, 16, 1, 1))):
        found[f"{place}mask_downscaling.{number}.weight"] = shape
        found[f"{place}mask_downscaling.{number}.bias"] = shape[:1]
    _norm(found, place + "mask_downscaling.1", 4)
    _norm(found, place + "mask_downscaling.4", 16)


def _attention(found: Shapes, place: str, inner: int) -> None:
    for name in ("q_proj", "k_proj", "v_proj"):
        _linear(found, f"{place}.{name}", 256, inner)
    _linear(found, f"{place}.out_proj", inner, 256)


def _linear(found: Shapes, place: str, width: int, out: int) -> None:
    found[place + ".weight"], found[place + ".bias"] = (out, width), (out,)


def _norm(found: Shapes, place: str, width: int) -> None:
    found[place + ".weight"], found[place + ".bias"] = (width,), (width,)


def _convolution(found: Shapes, place: str, width: int, out: int, kernel: int = 1) -> None:
    found[place + ".c.weight"] = (out, width, kernel, kernel)
    _norm(found, place + ".bn", out)
    found[place + ".bn.running_mean"] = found[place + ".bn.running_var"] = (out,)
    found[place + ".bn.num_batches_tracked"] = ()
