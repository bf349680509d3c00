"""From a judge's scores to preference pairs (RN-DPO, Sec. 3.2), or to a ranking's groups of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.preferences.miners.mining import Mined, mine
    from segpref.preferences.miners.pairs import (
        Extremes,
        RandomPair,
        Threshold,
        TopVsBase,
        TopVsRandom,
    )
    from segpref.preferences.miners.ranked import NestedPairs
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "mining": ("Mined", "mine"),
            "pairs": ("Extremes", "RandomPair", "Threshold", "TopVsBase", "TopVsRandom"),
            "ranked": ("NestedPairs",),
        },
    )

__all__ = [
    "Extremes",
    "Mined",
    "NestedPairs",
    "RandomPair",
    "Threshold",
    "TopVsBase",
    "TopVsRandom",
    "mine",
]
