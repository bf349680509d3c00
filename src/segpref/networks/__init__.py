"""Networks from outside: where their blocks end, dropout after each of them, hashes of weights."""

from __future__ import annotations

from segpref.networks.blocks import Block, find_blocks
from segpref.networks.dropout import DropoutKind, InjectedDropout
from segpref.networks.weights import weights_digest

__all__ = ["Block", "DropoutKind", "InjectedDropout", "find_blocks", "weights_digest"]
