"""Samples of the test images, and the files that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from segpref.data.checksummed_tensors import read_checksummed, write_checksummed
from segpref.disk import Damaged
from segpref.types import SegprefError

__all__ = ["REFERENCE", "SampleSet", "keep_arrays", "kept_arrays", "plain_name"]

REFERENCE = "AmbiSeg"


@dataclass(frozen=True)
class SampleSet:
    """Samples of the test images.

    Args:
        model: name of the reference, a method, a variant or a peer.
        seed: of its training and of the noise, which models of one seed share.
        w: where on the way from the reference (0) to the method (1).
        described: name of the description that replaces the images' own prompts.
    """

    model: str
    seed: int
    w: float = 1.0
    described: str | None = None

    @property
    def name(self) -> str:
        """What progress calls it."""
        parts = [self.model, f"seed {self.seed}"]
        parts += [] if self.w == 1 else [f"w {self.w:g}"]
        parts += [] if self.described is None else [self.described]
        return ", ".join(parts)


def keep_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays into one file with a checksum."""
    write_checksummed(
        path, {name: torch.from_numpy(one) for name, one in arrays.items()}, "note", {}
    )


def kept_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read them back.

    Raises:
        SegprefError: they are not what was written.
    """
    try:
        tensors, _ = read_checksummed(path, "note")
    except Damaged as error:
        raise SegprefError(
            f"{path} is not what was written ({error}): delete it, and the same command draws its "
            f"samples again"
        ) from error
    return {name: one.numpy() for name, one in tensors.items()}


def plain_name(name: str) -> str:
    """A name as part of a folder's."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())
