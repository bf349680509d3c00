"""Where a training of stage 1 begins: random weights, or those of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from segpref.policies import ModelCard, load_model
from segpref.types import SegprefError

__all__ = ["card_of_start", "first_network"]


def card_of_start(card: ModelCard, start: Path | None) -> ModelCard:
    """The card with the patients that the start has seen; what makes no sense together is refused."""
    if start is None:
        return card
    before = load_model(start)[1]
    written = ModelCard.from_json(card.to_json())
    for name in ("network", "label_space", "preparation", "channels"):
        if getattr(before, name) != getattr(written, name):
            raise SegprefError(
                f"{start} has another {name.replace('_', ' ')} than the model to be trained: start "
                "from a model of the same kind, or from scratch"
            )
    return replace(card, labelled=tuple(sorted({*card.labelled, *before.labelled})))


def first_network(card: ModelCard, start: Path | None, seed: int) -> nn.Module:
    """The network before its first update; the seed draws its weights where there is no start."""
    if start is not None:
        return load_model(start)[0].network
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return card.network.build()
