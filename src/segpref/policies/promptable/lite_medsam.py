"""Checkpoints of LiteMedSAM: recognised by their tensors, opened, and written back."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segpref.policies.promptable.adapters import Lora, merged
from segpref.policies.promptable.network import PromptableNetwork
from segpref.policies.promptable.texts import SentenceEncoder
from segpref.policies.weights import (
    WeightFile,
    check_weights,
    read_weights,
    tensor_names,
    write_tensors,
)
from segpref.types import SegprefError

__all__ = [
    "lite_medsam_in",
    "load_lite_medsam",
    "network_of",
    "save_lite_medsam",
    "write_like",
]

_SIDE = 256
_PATCH = 4
_ENDINGS = (".pth", ".pt", ".safetensors")
# Of its kind no other checkpoint has both.
_SIGNS = ("image_encoder.patch_embed.seq.0.c.weight", "mask_decoder.iou_token.weight")

_POSITIONS = r"^(shared_image|prompt_encoder\.shared)_embedding\.positional_embedding$"
_RENAMED = (
    (_POSITIONS, "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^vision_encoder\.", "image_encoder."),
    (r"\.point_embed\.", ".point_embeddings."),
    (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
    (r"\.mask_embed\.layer_norm1\.", ".mask_downscaling.1."),
    (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
    (r"\.mask_embed\.layer_norm2\.", ".mask_downscaling.4."),
    (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
    (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.upscale_conv1\.", ".output_upscaling.0."),
    (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
    (r"\.upscale_conv2\.", ".output_upscaling.3."),
    # A perceptron of three layers, whose middle one gives its number away first.
    (r"(mlps\.\d|iou_prediction_head)\.layers\.0\.", r"\1.layers.1."),
    (r"\.proj_in\.", ".layers.0."),
    (r"\.proj_out\.", ".layers.2."),
)
"""Names of transformers' parts, and what the checkpoint has in their place, in this order."""


def lite_medsam_in(path: Path) -> WeightFile | None:
    """The weights of a file whose tensors are named as LiteMedSAM's; None for any other file.

    Whether they are one is checked by :func:`network_of`.

    Raises:
        SegprefError: a ``.pth`` or ``.pt`` that holds more than weights, or is damaged.
    """
    if path.suffix not in _ENDINGS or not path.is_file():
        return None
    # Segpref's own files are of this kind, and large: their names are in the header.
    if path.suffix == ".safetensors" and not _meant(tensor_names(path)):
        return None
    weights = read_weights(path)
    return weights if _meant(weights.weights) else None


def load_lite_medsam(
    file: str,
    size: int = _SIDE,
    iterations: int = 1,
    text_encoder: str | None = None,
    lora: Lora | None = None,
    seed: int = 0,
) -> PromptableNetwork:
    """A network from a checkpoint of LiteMedSAM (Ma et al.), as the authors' code saves it.

    A model for boxes: whole images, points and texts tell an untuned one next to nothing. Images are
    prepared as in its training: the longer side is ``size``, intensities run from 0 to 1 in every
    image, and zeros fill the square on the right and below.

    Args:
        file: ``.pth``, ``.pt`` or ``.safetensors``; never unpickled.
        size: pixels along a side of the input, a multiple of 4. The checkpoint's own is 256.
        iterations: 1 asks once, as in its training; 2 feeds the first mask back.
        text_encoder: name or folder of a frozen text encoder; None for no texts.
        lora: low-rank adapters, or None.
        seed: of the text projection and the adapters, which no checkpoint has.

    Raises:
        SegprefError: the file is no such checkpoint, or the size does not suit it.
    """
    return network_of(read_weights(file), size, iterations, text_encoder, lora, seed)


def network_of(
    file: WeightFile,
    size: int = _SIDE,
    iterations: int = 1,
    text_encoder: str | None = None,
    lora: Lora | None = None,
    seed: int = 0,
) -> PromptableNetwork:
    """The network of a file that was read already, see :func:`load_lite_medsam`."""
    if size < _PATCH or size % _PATCH:
        raise SegprefError(f"size must be a multiple of {_PATCH} for LiteMedSAM, not {size}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PromptableNetwork(
            "lite_medsam",
            _config(size),
            mean=(0, 0, 0),
            std=(1, 1, 1),
            iterations=iterations,
            text_encoder=text_encoder,
            text_width=None if text_encoder is None else SentenceEncoder(text_encoder).width,
        )
        names = {ours: _named(ours) for ours in network.sam.state_dict()}
        _check_tensors(file, {names[o]: value for o, value in network.sam.state_dict().items()})
        network.sam.load_state_dict({ours: file.weights[name] for ours, name in names.items()})
        check_weights(network.sam, file.path)
        if lora is not None:
            network.add_lora(lora)
    return network


def save_lite_medsam(network: PromptableNetwork, path: Path | str) -> None:
    """Write a checkpoint that the authors' code opens, adapters added to the weights.

    Args:
        network: of :func:`load_lite_medsam`. What it learned of texts has no place in the file.
        path: ``.pth``, ``.pt`` or ``.safetensors``.

    Raises:
        SegprefError: a network of another family, or a file that can't be written.
    """
    write_like(network, WeightFile(Path(path), {}), Path(path))


def write_like(network: nn.Module, file: WeightFile, path: Path) -> None:
    """Write a network's checkpoint where ``path`` says, in the format of ``file``."""
    if getattr(network, "family", None) != "lite_medsam":
        raise SegprefError(
            f"{path} would be a LiteMedSAM, which this network is none of: write "
            "transformers' own with save_sam, and segpref's with save_model"
        )
    sam: Any = network.sam
    write_tensors(path, {_named(o): one for o, one in merged(sam).state_dict().items()}, file)


def _meant(names: Collection[str]) -> bool:
    return all(sign in names for sign in _SIGNS)


def _config(size: int) -> dict[str, Any]:
    """What transformers' classes need for its prompt encoder and decoder.

    Their image encoder, whose place TinyViT takes, is as small as can be.
    """
    square = {"image_size": size, "patch_size": _PATCH}
    vision = {"hidden_size": 4, "num_hidden_layers": 0, "num_attention_heads": 1, "mlp_dim": 4}
    return {
        "vision_config": {**square, **vision, "global_attn_indexes": [], "num_pos_feats": 128},
        "prompt_encoder_config": dict(square),
        "mask_decoder_config": {"layer_norm_eps": 1e-5},
    }


def _named(ours: str) -> str:
    for pattern, name in _RENAMED:
        ours = re.sub(pattern, name, ours)
    return ours


def _check_tensors(file: WeightFile, wanted: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not these: one too few, too many, or of another shape."""
    found = file.weights
    said = None
    if missing := sorted(wanted.keys() - found.keys()):
        said = f"it lacks {missing[0]}"
    elif more := sorted(found.keys() - wanted.keys()):
        said = f"it has {more[0]}, which LiteMedSAM has not"
    else:
        for name, value in wanted.items():
            if found[name].shape != value.shape:
                shapes = tuple(found[name].shape), tuple(value.shape)
                said = f"its {name} has the shape {shapes[0]}, not {shapes[1]}"
                break
    if said is not None:
        raise SegprefError(
            f"{file.path} is no checkpoint of LiteMedSAM: {said}; name the file that its authors "
            "publish, or one that was saved from their model"
        )
