"""Initial weights of stage 1: random, or those of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segpref.policies import ModelCard, load_model, read_card
from segpref.types import SegprefError

__all__ = ["card_of_start", "first_network"]


def card_of_start(card: ModelCard, start: Path | None) -> ModelCard:
    """The card of the start, with all patients that were seen; another kind of model is refused."""
    if start is None:
        return card
    before = read_card(start)
    if before.policy.class_path != card.policy.class_path:
        raise SegprefError(
            f"{start} is not a plain segmenter ({before.policy.class_path.rpartition('.')[2]}): start "
            "from one, or from scratch"
        )
    wanted = _kind(ModelCard.from_json(card.to_json(), trust=True))
    for name, known in _kind(before).items():
        if known != wanted[name]:
            raise SegprefError(
                f"{start} has another {name} than the model to be trained: start from a model of the "
                "same kind, or from scratch"
            )
    # Its own, for it tells more: mirrored views, and where the code of the network lies.
    ranges = card.spacing_range_mm
    if ranges is not None and before.spacing_range_mm is not None:
        ranges = tuple(
            (min(one), max(one))
            for one in (a + b for a, b in zip(ranges, before.spacing_range_mm, strict=False))
        )
    return replace(
        before,
        labelled=tuple(sorted({*card.labelled, *before.labelled})),
        orientation=before.orientation or card.orientation,
        spacing_range_mm=ranges or before.spacing_range_mm,
    )


def first_network(card: ModelCard, start: Path | None, seed: int) -> nn.Module:
    """The network before its first update; the seed draws its weights where there is no start."""
    if start is not None:
        return load_model(start)[0].network
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return card.network.build()


def _kind(card: ModelCard) -> dict[str, Any]:
    return {
        # Whatever folder its code is in: that is told by the card of the start.
        "network": (card.network.name, card.network.arguments),
        "label space": card.label_space,
        "preparation": card.preparation,
        # A bundle may call its channels by other names than the images do.
        "number of channels": len(card.channels),
    }
