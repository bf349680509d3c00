"""Preferences: which candidate is better, as said by a judge or a person, and miners that make them."""

from __future__ import annotations

from segpref.preferences.exchange import from_trl, read_trl, to_trl, write_trl
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
from segpref.preferences.record import Choice, Preference, Question
from segpref.preferences.store import PreferenceFile, PreferenceStore, Where, distinct, latest

__all__ = [
    "Choice",
    "Extremes",
    "Mined",
    "NestedPairs",
    "Preference",
    "PreferenceFile",
    "PreferenceStore",
    "Question",
    "RandomPair",
    "Threshold",
    "TopVsBase",
    "TopVsRandom",
    "Where",
    "distinct",
    "from_trl",
    "latest",
    "mine",
    "read_trl",
    "to_trl",
    "write_trl",
]
