"""Patches of images that are kept for a round of epochs, with their slates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segpref.data.patches import PatchDraw
from segpref.seeds import derive_seed
from segpref.types import Case

__all__ = ["RoundPatches"]

PATCHES = 4
"""Most patches of an image that are kept for a round."""


@dataclass(frozen=True, slots=True)
class RoundPatches:
    """Patches that stay for a round: a few of every image, which its epochs take in turn.

    Args:
        draw: draws them.
        images: how many the pool has.
        every: epochs per round.
        seed: of the patches, together with the round.
    """

    draw: PatchDraw
    images: int
    every: int
    seed: int

    @property
    def count(self) -> int:
        """Patches of a round."""
        return self.images * min(self.every, PATCHES)

    def rows(self, indices: Sequence[int], epoch: int) -> list[int]:
        """Which patches the epoch takes of these images."""
        turn = epoch % self.every % min(self.every, PATCHES)
        return [turn * self.images + i for i in indices]

    def cut(self, cases: Sequence[Case], rows: Sequence[int], number: int) -> list[Case]:
        """These patches of a round, from the cases that they are of."""
        return self.draw(cases, rows, derive_seed(self.seed, number, 0))

    def __call__(
        self, cases: Sequence[Case], indices: Sequence[int], epoch: int, step: int
    ) -> list[Case]:
        """The patches of the epoch's round that are its turn, whatever the step."""
        return self.cut(cases, self.rows(indices, epoch), epoch // self.every)
