"""Networks from outside: where their blocks end, dropout after each of them, hashes of weights."""

from __future__ import annotations

from segpref.networks.blocks import Block, find_blocks
from segpref.networks.chance import ImageChance, dropout_places, keyed_dropout
from segpref.networks.dropout import DropoutKind, InjectedDropout
from segpref.networks.weights import weights_digest

__all__ = [
    "Block",
    "DropoutKind",
    "ImageChance",
    "InjectedDropout",
    "dropout_places",
    "find_blocks",
    "keyed_dropout",
    "weights_digest",
]
