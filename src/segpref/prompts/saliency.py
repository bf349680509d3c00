"""Saliency of a text in an image: class activation maps of CLIP-like models."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from segpref.checking import checked
from segpref.prompts.clip import ContrastiveModel, rgb
from segpref.types import SegprefError

__all__ = ["GScoreCAM", "GradCAM", "Saliency"]


@runtime_checkable
class Saliency(Protocol):
    """Maps which part of an image makes it similar to a text."""

    def __call__(self, clip: Any, image: Any, text: Any) -> Any:
        """``[H, W]`` from 0 to 1 at input resolution; 0 where nothing speaks for the text."""
        ...

    def key(self) -> dict[str, object]:
        """Its settings."""
        ...


class GradCAM:
    """Grad-CAM (Selvaraju et al., 2017, Eq. 1 and 2) on the tokens of a vision transformer.

    ``M = relu(sum_k a_k A_k)`` with ``a_k`` the mean over space of ``d s / d A_k``, where ``s`` is
    the cosine of image and text and ``A_k`` channel k of the feature map. One pass and one backward
    pass: far cheaper than :class:`GScoreCAM`, and noisier on CLIP.
    """

    def __call__(
        self, clip: ContrastiveModel, image: Float[Tensor, "channel H W"], text: str
    ) -> Float[Tensor, "H W"]:
        """Map of one image."""
        features, weight = _gradients(clip, image, text)
        return _scaled((weight[:, None, None] * features).sum(dim=0), image.shape[1:])

    def key(self) -> dict[str, object]:
        """Its settings."""
        return {"saliency": "grad-cam"}


@checked()
class GScoreCAM:
    """gScoreCAM (Chen et al., ACCV 2022), on tokens of a transformer as on channels of a CNN.

    The ``channels`` feature channels with the highest mean gradient of the cosine ``s`` are each
    scaled to 0..1, enlarged, and used as a mask of the image; what the masked image scores above
    an empty one is the channel's weight, as in Score-CAM: ``M = relu(sum_k w_k A_k)`` with
    ``w = softmax(s(image x A_k) - s(0))``. The paper takes 300 of a CNN's 3,072 channels, a tenth. A
    ViT-B has 768 tokens' channels, so the default is its tenth.

    Args:
        channels: how many channels are tried; each costs one pass.
        temperature: the scores are divided by it before the softmax. Cosines lie so near each
            other that without it all weights would be the same; CLIP's own logit scale is 1 / 0.01.
        batch_size: masked images that go through the model at once.
    """

    def __init__(self, channels: int = 77, temperature: float = 0.01, batch_size: int = 32) -> None:
        if channels < 1 or temperature <= 0 or batch_size < 1:
            raise SegprefError(
                "gScoreCAM needs at least 1 channel, a temperature above 0 and a batch of at least 1, "
                f"not {channels}, {temperature} and {batch_size}"
            )
        self.channels = channels
        self.temperature = temperature
        self.batch_size = batch_size

    def __call__(
        self, clip: ContrastiveModel, image: Float[Tensor, "channel H W"], text: str
    ) -> Float[Tensor, "H W"]:
        """Map of one image."""
        features, weight = _gradients(clip, image, text)
        chosen = features[weight.topk(min(self.channels, len(weight))).indices]
        low, high = chosen.amin(dim=(1, 2), keepdim=True), chosen.amax(dim=(1, 2), keepdim=True)
        chosen = (chosen - low) / (high - low).clamp(min=1e-12)
        masks = _enlarged(chosen, image.shape[1:])
        picture = rgb(image[None]).to(masks.device)
        target = clip.text_embeddings([text])[0]
        scores = []
        with torch.no_grad():
            empty = clip.image_embeddings(torch.zeros_like(picture))[0] @ target
            for start in range(0, len(masks), self.batch_size):
                part = masks[start : start + self.batch_size]
                found, _ = clip.image_embeddings(picture * part[:, None])
                scores.append(found @ target - empty)
        gain = torch.cat(scores) / self.temperature
        return _scaled((gain.softmax(dim=0)[:, None, None] * chosen).sum(dim=0), image.shape[1:])

    def key(self) -> dict[str, object]:
        """Its settings."""
        return {"saliency": "gscorecam", "channels": self.channels, "temperature": self.temperature}


def _gradients(
    clip: ContrastiveModel, image: Float[Tensor, "channel H W"], text: str
) -> tuple[Float[Tensor, "channel h w"], Float[Tensor, " channel"]]:
    """Feature map, and the mean gradient of the cosine of image and text per channel."""
    target = clip.text_embeddings([text])[0]
    with torch.enable_grad():
        embedding, activations = clip.image_embeddings(rgb(image[None]))
        (slope,) = torch.autograd.grad((embedding @ target).sum(), activations)
    features = clip.feature_map(activations.detach())[0]
    return features, clip.feature_map(slope)[0].mean(dim=(1, 2))


def _enlarged(maps: Float[Tensor, "n h w"], shape: torch.Size) -> Float[Tensor, "n H W"]:
    return functional.interpolate(
        maps[None], size=tuple(shape), mode="bilinear", align_corners=False
    )[0]


def _scaled(found: Float[Tensor, "h w"], shape: torch.Size) -> Float[Tensor, "H W"]:
    found = _enlarged(found.clamp(min=0)[None].float(), shape)[0]
    low, high = found.min(), found.max()
    if high - low <= 1e-12:
        return torch.zeros_like(found).cpu()
    return ((found - low) / (high - low)).cpu()
