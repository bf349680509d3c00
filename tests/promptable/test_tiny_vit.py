"""TinyViT: attention in windows against loops over pixels, and what its passes keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segpref.policies.promptable import TinyViT, WindowAttention, WindowBlock

CHANNELS, HEADS, WINDOW = 6, 2, 3


def lively(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.normal_(std=1.0 if "biases" in name else 0.4)
    return module.double().eval()


def normed(token: np.ndarray, norm: torch.nn.LayerNorm) -> np.ndarray:
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    return np.asarray((token - token.mean()) / np.sqrt(token.var() + 1e-5) * weight + bias)


def attended(window: np.ndarray, module: WindowAttention) -> np.ndarray:
    """``[y, x, c]`` by loops; rows of ``qkv``: for each head its queries, keys and values."""
    side, _, channels = window.shape
    width = channels // HEADS
    weight, bias = module.qkv.weight.detach().numpy(), module.qkv.bias.detach().numpy()
    places = [(y, x) for y in range(side) for x in range(side)]
    joined = {at: weight @ normed(window[at], module.norm) + bias for at in places}
    mixed = np.zeros_like(window)
    for head in range(HEADS):
        first = 3 * width * head
        for at in places:
            query = joined[at][first : first + width]
            scores = []
            for other in places:
                key = joined[other][first + width : first + 2 * width]
                number = abs(at[0] - other[0]) * side + abs(at[1] - other[1])
                apart = module.attention_biases[head, number].item()
                scores.append(query @ key / math.sqrt(width) + apart)
            shares = np.exp(scores) / np.exp(scores).sum()
            values = [joined[other][first + 2 * width : first + 3 * width] for other in places]
            mixed[at][width * head : width * (head + 1)] = shares @ np.array(values)
    project, shift = module.proj.weight.detach().numpy(), module.proj.bias.detach().numpy()
    return np.asarray(mixed @ project.T + shift)


def test_attention_is_that_of_loops_over_pixels() -> None:
    module = WindowAttention(CHANNELS, HEADS, WINDOW)
    lively(module)
    tokens = torch.randn(2, WINDOW * WINDOW, CHANNELS, dtype=torch.float64)
    found = module(tokens).detach().numpy()
    for window, expected in zip(tokens.numpy(), found, strict=True):
        by_hand = attended(window.reshape(WINDOW, WINDOW, CHANNELS), module)
        np.testing.assert_allclose(expected.reshape(by_hand.shape), by_hand, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 3), (6, 3), (4, 5)])
def test_windows_are_filled_with_zeros_that_are_attended_to(shape: tuple[int, int]) -> None:
    block = WindowBlock(CHANNELS, HEADS, WINDOW)
    lively(block)
    maps = torch.randn(1, CHANNELS, *shape, dtype=torch.float64)
    height, width = (-(-length // WINDOW) * WINDOW for length in shape)
    filled = np.zeros((height, width, CHANNELS))
    filled[: shape[0], : shape[1]] = maps[0].permute(1, 2, 0).numpy()
    found = np.zeros_like(filled)
    for top in range(0, height, WINDOW):
        for left in range(0, width, WINDOW):
            place = np.s_[top : top + WINDOW, left : left + WINDOW]
            found[place] = attended(filled[place], block.attn)
    kept = torch.from_numpy(found[: shape[0], : shape[1]]).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = block.local_conv(maps + kept)
        pixels = expected.permute(0, 2, 3, 1)
        mlp = block.mlp
        inner = torch.nn.functional.gelu(mlp.fc1(mlp.norm(pixels)))
        expected = expected + mlp.fc2(inner).permute(0, 3, 1, 2)
        torch.testing.assert_close(block(maps), expected, rtol=0, atol=1e-9)


def test_biases_that_were_loaded_count_at_once() -> None:
    module = WindowAttention(CHANNELS, HEADS, WINDOW)
    lively(module)
    tokens = torch.randn(1, WINDOW * WINDOW, CHANNELS, dtype=torch.float64)
    before = module(tokens)
    weights = module.state_dict()
    assert "offsets" not in weights
    module.load_state_dict({**weights, "attention_biases": 2 * weights["attention_biases"]})
    assert not torch.allclose(module(tokens), before)


def test_images_of_a_batch_have_nothing_to_do_with_each_other() -> None:
    encoder = TinyViT().eval()
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 24)
    with torch.no_grad():
        together = encoder(images)
        alone = torch.cat([encoder(images[n : n + 1]) for n in range(2)])
    assert together.shape == (2, 256, 8, 6)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
