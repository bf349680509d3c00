"""Preferences: which candidate is better, as said by a judge or a person, and miners that make them."""

from __future__ import annotations

from segpref.preferences.miners import (
    Extremes,
    Mined,
    NestedPairs,
    RandomPair,
    Threshold,
    TopVsBase,
    TopVsRandom,
    mine,
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
