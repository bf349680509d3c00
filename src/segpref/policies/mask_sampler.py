"""What draws many masks of an image, and which models are aligned on what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.policies.checkpoints import ModelCard
from segpref.policies.tunable import imported

__all__ = ["MaskSampler", "draws_masks"]

Seeds = Sequence[Sequence[int]]


class MaskSampler(Protocol):
    """Draws N masks of every image with a model of its kind."""

    def soft(
        self,
        model: Any,
        images: Float[Tensor, "B channel *space"],
        texts: Sequence[Sequence[str | None]],
        seeds: Seeds,
    ) -> Float[Tensor, "B N field *space"]:
        """N samples of every image before they are cut, on the CPU.

        A sample depends on its image, text, seed and place among the N, on nothing else.
        """
        ...

    def cut(self, samples: Float[Tensor, "*n"]) -> UInt8[np.ndarray, "*n"]:
        """Masks of samples that are numbers still."""
        ...

    def passes(self, count: int) -> float:
        """Passes of a whole network per sample, where so many are drawn of an image."""
        ...


def draws_masks(card: ModelCard) -> bool:
    """Whether a model draws many masks of an image and is aligned on these, not on edits of one."""
    return bool(getattr(imported(card.policy.class_path), "draws_masks", False))
