"""A diffusion model of a few thousand weights, and images, cases and draws for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from segpref.policies.diffusion import AmbiSeg, AmbiSegNetwork, draw
from segpref.types import Case, LabelSpace

SPACE = LabelSpace("multi-label", ("nodule",))
SMOOTH, SPICULATED = "A smooth nodule.", "A nodule with marked spiculation and a sharp margin."
TINY: dict[str, Any] = {
    "channels": [8, 16], "cross": 16, "heads": 2, "latent": 3, "latent_channels": 8,
    "text_encoder": None, "timesteps": 100,
}  # fmt: skip


def tiny(seed: int = 0, **changes: Any) -> AmbiSegNetwork:
    torch.manual_seed(seed)
    return AmbiSegNetwork(**{**TINY, **changes}).eval()


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def case(name: str = "a", text: str | None = None, **parts: Any) -> Case:
    image = np.random.default_rng(len(name)).standard_normal((1, 16, 16)).astype(np.float32)
    return Case(id=name, patient=name, volume=name, image=image, text=text, **parts)


def drawn(count: int, model: AmbiSeg, seed: int = 0) -> Any:
    rngs = [np.random.default_rng([seed, i]) for i in range(count)]
    return draw(rngs, (1, 16, 16), model.process.timesteps, model.latent)
