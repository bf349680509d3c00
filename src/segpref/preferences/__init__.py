"""Preferences: which candidate is better, as said by a judge or a person, and miners that make them."""

from __future__ import annotations

from segpref.preferences.candidates import (
    Candidates,
    Passed,
    ProposeSlates,
    ScoredSlate,
    Scoring,
    Unjudged,
    content_id,
    content_ids,
)
from segpref.preferences.exchange import from_trl, read_trl, to_trl, write_trl
from segpref.preferences.filters import Where, distinct, latest
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
from segpref.preferences.patches import StandingPatches
from segpref.preferences.record import Choice, Preference, Question
from segpref.preferences.recorded import KeepPairs, RecordedPairs, pairs_from, preferences_of
from segpref.preferences.standing import MakeSlates, Standing, StandingSlates
from segpref.preferences.store import PreferenceFile, PreferenceStore

__all__ = [
    "Candidates",
    "Choice",
    "Extremes",
    "KeepPairs",
    "MakeSlates",
    "Mined",
    "NestedPairs",
    "Passed",
    "Preference",
    "PreferenceFile",
    "PreferenceStore",
    "ProposeSlates",
    "Question",
    "RandomPair",
    "RecordedPairs",
    "ScoredSlate",
    "Scoring",
    "Standing",
    "StandingPatches",
    "StandingSlates",
    "Threshold",
    "TopVsBase",
    "TopVsRandom",
    "Unjudged",
    "Where",
    "content_id",
    "content_ids",
    "distinct",
    "from_trl",
    "latest",
    "mine",
    "pairs_from",
    "preferences_of",
    "read_trl",
    "to_trl",
    "write_trl",
]
