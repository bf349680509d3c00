"""The TinyViT image encoder of LiteMedSAM, with the names that its checkpoint has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TinyViT", "WindowAttention", "WindowBlock"]

_CHANNELS = (64, 128, 160, 320)
_BLOCKS = (2, 2, 6, 2)
_HEADS = (2, 4, 5, 10)
_WINDOWS = (7, 7, 14, 7)
# Between stages; the last keeps its size, so that there is a token for every 4 x 4 pixels.
_STRIDES = (2, 2, 1)
_OUT = 256


class TinyViT(nn.Module):
    """Image embeddings of LiteMedSAM: TinyViT (Wu et al., ECCV 2022) without a stride at its stem.

    The first stage is convolutional, the others attend within windows. No weight depends on the size of
    the image, whose sides are multiples of 4. Statistics of batches are those of the checkpoint as long
    as it stays in evaluation mode, as a policy's network does.
    """

    def __init__(self) -> None:
        super().__init__()
        width = _CHANNELS[0]
        self.patch_embed = _Stem(width)
        stages: list[nn.Module] = []
        for number, (channels, count) in enumerate(zip(_CHANNELS, _BLOCKS, strict=True)):
            blocks = [_block(number, channels) for _ in range(count)]
            last = number == len(_CHANNELS) - 1
            merge = None if last else _Merging(channels, _CHANNELS[number + 1], _STRIDES[number])
            stages.append(_Stage(blocks, merge))
        self.layers = nn.Sequential(*stages)
        self.neck = nn.Sequential(
            nn.Conv2d(_CHANNELS[-1], _OUT, 1, bias=False),
            _ChannelNorm(_OUT),
            nn.Conv2d(_OUT, _OUT, 3, padding=1, bias=False),
            _ChannelNorm(_OUT),
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 256 H/4 W/4"]:
        """One embedding for every 4 x 4 pixels."""
        found = self.neck(self.layers(self.patch_embed(images)))
        assert isinstance(found, Tensor)
        return found

    def get_input_embeddings(self) -> nn.Module:
        """What transformers' model asks its encoder for where adapters are put into it."""
        return self.patch_embed


class WindowAttention(nn.Module):
    """Attention among the pixels of a window; a bias of each head is added for each distance.

    A pair of pixels that lie ``dy`` rows and ``dx`` columns apart, in whichever direction, has the bias
    number ``|dy| * window + |dx|``.

    Args:
        channels: of the tokens.
        heads: of equal width.
        window: pixels along its side.
    """

    offsets: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        side = torch.arange(window)
        rows, columns = side.repeat_interleave(window), side.repeat(window)
        apart = [(line[:, None] - line[None]).abs() for line in (rows, columns)]
        self.register_buffer("offsets", apart[0] * window + apart[1], persistent=False)

    def forward(self, tokens: Float[Tensor, "n window*window c"]) -> Float[Tensor, "n t c"]:
        """Tokens of windows, row by row."""
        count, length, channels = tokens.shape
        # The checkpoint has query, key and value of a head beside each other.
        joined = self.qkv(self.norm(tokens)).reshape(count, length, self.heads, 3, -1)
        query, key, value = joined.permute(3, 0, 2, 1, 4)
        # Looked up at every pass, so that no copy of the biases can be older than the weights.
        bias = self.attention_biases[:, self.offsets].to(query.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        found = self.proj(mixed.transpose(1, 2).reshape(count, length, channels))
        assert isinstance(found, Tensor)
        return found


class WindowBlock(nn.Module):
    """Attention in windows, a convolution of each channel, and a perceptron of each pixel.

    A map whose sides are no multiples of the window is filled up with zeros at the bottom and on the
    right, to which the other pixels attend, as in the checkpoint's training.

    Args:
        channels: of the map.
        heads: of the attention.
        window: pixels along its side.
    """

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(channels, heads, window)
        self.local_conv = _normalised(channels, channels, kernel=3, groups=channels)
        self.mlp = _Perceptron(channels)

    def forward(self, maps: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c H W"]:
        """A map of the same size."""
        maps = self.local_conv(maps + self._attended(maps))
        found = maps + self.mlp(maps.movedim(1, -1)).movedim(-1, 1)
        assert isinstance(found, Tensor)
        return found

    def _attended(self, maps: Tensor) -> Tensor:
        side = self.window
        batch, channels, height, width = maps.shape
        filled = functional.pad(maps, (0, -width % side, 0, -height % side))
        down, across = (length // side for length in filled.shape[2:])
        tiles = filled.reshape(batch, channels, down, side, across, side)
        tokens = tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, channels)
        found = self.attn(tokens).reshape(batch, down, across, side, side, channels)
        joined = found.permute(0, 5, 1, 3, 2, 4).reshape(filled.shape)
        assert isinstance(joined, Tensor)
        return joined[..., :height, :width]


class _Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.seq = nn.Sequential(_normalised(3, half), nn.GELU(), _normalised(half, width))

    def forward(self, images: Tensor) -> Any:
        return self.seq(images)


class _Perceptron(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, pixels: Tensor) -> Any:
        return self.fc2(functional.gelu(self.fc1(self.norm(pixels))))


class _Stage(nn.Module):
    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, maps: Tensor) -> Any:
        maps = self.blocks(maps)
        return maps if self.downsample is None else self.downsample(maps)


class _Bottleneck(nn.Module):
    """An inverted bottleneck (MBConv) that widens fourfold."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.conv1 = _normalised(channels, wide)
        self.conv2 = _normalised(wide, wide, kernel=3, groups=wide)
        self.conv3 = _normalised(wide, channels)

    def forward(self, maps: Tensor) -> Tensor:
        wide = functional.gelu(self.conv2(functional.gelu(self.conv1(maps))))
        return functional.gelu(maps + self.conv3(wide))


class _Merging(nn.Module):
    """From one stage to the next."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _normalised(channels, out)
        self.conv2 = _normalised(out, out, kernel=3, stride=stride, groups=out)
        self.conv3 = _normalised(out, out)

    def forward(self, maps: Tensor) -> Any:
        return self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(maps)))))


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


def _block(stage: int, channels: int) -> nn.Module:
    if stage == 0:
        return _Bottleneck(channels)
    return WindowBlock(channels, _HEADS[stage], _WINDOWS[stage])


def _normalised(
    channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution ``c`` that keeps the size (at stride 1), and its batch normalisation ``bn``."""
    both = nn.Sequential()
    pad = kernel // 2
    both.add_module("c", nn.Conv2d(channels, out, kernel, stride, pad, groups=groups, bias=False))
    both.add_module("bn", nn.BatchNorm2d(out))
    return both
