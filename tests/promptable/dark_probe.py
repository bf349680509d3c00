"""A comparison of images with texts that is known by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class Probe:
    """Compares images with "dark": the mean darkness of its one feature channel that knows it."""

    def text_embeddings(self, texts: Any) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(texts), 2)

    def image_embeddings(self, images: Tensor) -> tuple[Tensor, Tensor]:
        grey = images.mean(1, keepdim=True)
        # Bright ground is what an empty image is not: darkness counts only where light is near.
        dark = functional.avg_pool2d((0.5 - grey).clamp(min=0), 4)
        features = torch.cat([dark, functional.avg_pool2d(grey, 4)], dim=1)
        if torch.is_grad_enabled():
            features.requires_grad_()
        pooled = features.mean(dim=(2, 3))
        return functional.normalize(pooled, dim=1), features

    def feature_map(self, activations: Tensor) -> Tensor:
        return activations

    def key(self) -> dict[str, object]:
        return {"probe": 1}
