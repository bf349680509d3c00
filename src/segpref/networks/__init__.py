"""Networks from outside: where their blocks end, and dropout after each of them."""

from __future__ import annotations

from segpref.networks.blocks import Block, find_blocks
from segpref.networks.dropout import DropoutKind, InjectedDropout

__all__ = ["Block", "DropoutKind", "InjectedDropout", "find_blocks"]
