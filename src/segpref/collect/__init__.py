"""Votes: sets of candidates that people compare, what they said, and where it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.collect.answers import (
        Answer,
        Assignment,
        Conflict,
        NotYours,
        Progress,
        Rater,
        Refused,
        Stored,
        StoreFull,
        VoteIn,
        VoteRow,
    )
    from segpref.collect.comparisons import comparisons_of
    from segpref.collect.contents import Axes, Contents, DisplayInfo, Item, Mask, Mode, Pair
    from segpref.collect.contents_rows import contents_digest
    from segpref.collect.database import Database
    from segpref.collect.ratings import ratings_of
    from segpref.collect.rules import Rules
    from segpref.collect.slices import Axis, slice_count, slice_of
    from segpref.collect.vote_preferences import (
        CONFIDENCE,
        VotePreferences,
        preferences_from_votes,
    )
    from segpref.collect.vote_store import VoteStore
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "answers": (
                "Answer",
                "Assignment",
                "Conflict",
                "NotYours",
                "Progress",
                "Rater",
                "Refused",
                "StoreFull",
                "Stored",
                "VoteIn",
                "VoteRow",
            ),
            "comparisons": ("comparisons_of",),
            "contents": ("Axes", "Contents", "DisplayInfo", "Item", "Mask", "Mode", "Pair"),
            "contents_rows": ("contents_digest",),
            "database": ("Database",),
            "ratings": ("ratings_of",),
            "rules": ("Rules",),
            "slices": ("Axis", "slice_count", "slice_of"),
            "vote_preferences": ("CONFIDENCE", "VotePreferences", "preferences_from_votes"),
            "vote_store": ("VoteStore",),
        },
    )

__all__ = [
    "CONFIDENCE",
    "Answer",
    "Assignment",
    "Axes",
    "Axis",
    "Conflict",
    "Contents",
    "Database",
    "DisplayInfo",
    "Item",
    "Mask",
    "Mode",
    "NotYours",
    "Pair",
    "Progress",
    "Rater",
    "Refused",
    "Rules",
    "StoreFull",
    "Stored",
    "VoteIn",
    "VotePreferences",
    "VoteRow",
    "VoteStore",
    "comparisons_of",
    "contents_digest",
    "preferences_from_votes",
    "ratings_of",
    "slice_count",
    "slice_of",
]
