"""A small SAM with random weights, for tests, benchmarks and data that need no large one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from segpref.policies.promptable.frame import IMAGENET_MEAN, IMAGENET_STD
from segpref.policies.promptable.network import PromptableNetwork
from segpref.policies.promptable.texts import SentenceEncoder

__all__ = ["small_sam"]

_DRAWN = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)


def small_sam(
    side: int = 128,
    patch: int = 8,
    width: int = 96,
    layers: int = 4,
    heads: int = 4,
    prompt_width: int = 64,
    window: int = 0,
    text_encoder: str | None = None,
    iterations: int = 2,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    seed: int = 0,
) -> PromptableNetwork:
    """``SamModel`` of the given size, of the same classes as a downloaded one.

    What transformers draws is meant to be overwritten by a checkpoint, and hardly learns from there.
    So layers are drawn as torch draws them, and the frequencies of the positional encoding with a
    standard deviation of 1, as in SAM's own code; transformers' is half the encoder's width, at which
    neighbouring places look unrelated.

    Args:
        side: pixels along a side of its input.
        patch: pixels along a side of a token.
        width: of the vision transformer.
        layers: of the vision transformer; the last is global, as every third other one.
        heads: of the vision transformer; the decoder has one per 32 of its width, as in SAM.
        prompt_width: of prompts and mask decoder, 256 in SAM.
        window: side of the attention windows in tokens; 0 for global attention everywhere.
        text_encoder: name or folder of a frozen text encoder; None for no texts.
        iterations: 2 feeds the first mask back.
        mean: of the channels of images from 0 to 1.
        std: likewise.
        seed: of the weights.
    """
    config: dict[str, Any] = {
        "vision_config": {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "image_size": side,
            "patch_size": patch,
            "window_size": window,
            "global_attn_indexes": sorted({layers - 1, *range(2, layers, 3)}),
            "output_channels": prompt_width,
            "mlp_dim": 4 * width,
            "num_pos_feats": prompt_width // 2,
        },
        "prompt_encoder_config": {
            "hidden_size": prompt_width,
            "image_size": side,
            "patch_size": patch,
        },
        "mask_decoder_config": {
            "hidden_size": prompt_width,
            "mlp_dim": 8 * prompt_width,
            "num_attention_heads": max(1, prompt_width // 32),
            "iou_head_hidden_dim": prompt_width,
        },
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PromptableNetwork(
            "sam",
            config,
            mean=mean,
            std=std,
            iterations=iterations,
            text_encoder=text_encoder,
            text_width=None if text_encoder is None else SentenceEncoder(text_encoder).width,
        )
        for module in network.sam.modules():
            if isinstance(module, _DRAWN):
                module.reset_parameters()
    encoding = network.sam.shared_image_embedding
    with torch.no_grad():
        encoding.positional_embedding.div_(encoding.scale)
    return network
