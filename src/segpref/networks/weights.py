"""Hashes of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["weights_digest"]


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Hash of a network's weights, given as its ``state_dict()``."""
    whole = hashlib.blake2b(digest_size=16)
    for name, value in sorted(state.items()):
        whole.update(name.encode())
        whole.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
