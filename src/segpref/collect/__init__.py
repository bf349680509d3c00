"""Votes: sets of candidates that people compare, what they said, and where it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.collect.answers import (
        Asking,
        Assignment,
        Conflict,
        NotAnAnswer,
        NotYours,
        Progress,
        Rater,
        Refused,
        Stored,
        StoreFull,
        Unavailable,
        VoteIn,
        VoteRow,
    )
    from segpref.collect.builder import ShownImage, StudyBuilder, native_mask, shown_image
    from segpref.collect.choices import OPTIONS, Answer, Option, choices_of, right_answer
    from segpref.collect.comparisons import comparisons_of
    from segpref.collect.config import CollectConfig
    from segpref.collect.contents import Axes, Contents, DisplayInfo, Item, Mask, Mode, Pair
    from segpref.collect.contents_file import contents_from_json, contents_to_json, is_opaque
    from segpref.collect.contents_rows import contents_digest
    from segpref.collect.database import Database
    from segpref.collect.display import Layout, layout_of, packed_mask
    from segpref.collect.displays import Display, write_display
    from segpref.collect.erasing import Erased
    from segpref.collect.kept_sets import SlatesByCase, cases_named, joined, kept_set
    from segpref.collect.native import Native, default_window, native_of
    from segpref.collect.one_structure import one_structure_slate
    from segpref.collect.opening import check_same_study, open_store, without
    from segpref.collect.packing import PackedArray, pack, unpack
    from segpref.collect.ratings import ratings_of
    from segpref.collect.remaining import other_files, patients_of, was_trained_on
    from segpref.collect.rules import Rules
    from segpref.collect.selection import (
        PairSelection,
        compared,
        differing_voxels,
        information,
        margin_doubt,
        preference_chance,
        score_scale,
        share_preferring,
    )
    from segpref.collect.slices import Axis, slice_count, slice_of
    from segpref.collect.standing import StandingSet, drop_cases, kept_cases
    from segpref.collect.study import DATABASE, StudyFolder, StudyNote
    from segpref.collect.study_votes import StudyVotes, read_studies
    from segpref.collect.tables import TABLES
    from segpref.collect.vote_preferences import (
        CONFIDENCE,
        VotePreferences,
        preferences_from_votes,
    )
    from segpref.collect.vote_store import VoteStore
    from segpref.collect.votes_judge import VotesJudge
    from segpref.collect.voting import check_vote
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "answers": (
                "Asking",
                "Assignment",
                "Conflict",
                "NotAnAnswer",
                "NotYours",
                "Progress",
                "Rater",
                "Refused",
                "StoreFull",
                "Stored",
                "Unavailable",
                "VoteIn",
                "VoteRow",
            ),
            "builder": ("ShownImage", "StudyBuilder", "native_mask", "shown_image"),
            "choices": ("OPTIONS", "Answer", "Option", "choices_of", "right_answer"),
            "config": ("CollectConfig",),
            "comparisons": ("comparisons_of",),
            "contents": ("Axes", "Contents", "DisplayInfo", "Item", "Mask", "Mode", "Pair"),
            "contents_file": ("contents_from_json", "contents_to_json", "is_opaque"),
            "contents_rows": ("contents_digest",),
            "database": ("Database",),
            "display": ("Layout", "layout_of", "packed_mask"),
            "erasing": ("Erased",),
            "kept_sets": ("SlatesByCase", "cases_named", "joined", "kept_set"),
            "native": ("Native", "default_window", "native_of"),
            "one_structure": ("one_structure_slate",),
            "opening": ("check_same_study", "open_store", "without"),
            "displays": ("Display", "write_display"),
            "packing": ("PackedArray", "pack", "unpack"),
            "ratings": ("ratings_of",),
            "remaining": ("other_files", "patients_of", "was_trained_on"),
            "rules": ("Rules",),
            "selection": (
                "PairSelection",
                "compared",
                "differing_voxels",
                "information",
                "margin_doubt",
                "preference_chance",
                "score_scale",
                "share_preferring",
            ),
            "slices": ("Axis", "slice_count", "slice_of"),
            "standing": ("drop_cases", "kept_cases", "StandingSet"),
            "study": ("DATABASE", "StudyFolder", "StudyNote"),
            "study_votes": ("StudyVotes", "read_studies"),
            "tables": ("TABLES",),
            "vote_preferences": ("CONFIDENCE", "VotePreferences", "preferences_from_votes"),
            "vote_store": ("VoteStore",),
            "votes_judge": ("VotesJudge",),
            "voting": ("check_vote",),
        },
    )

__all__ = [
    "CONFIDENCE",
    "DATABASE",
    "OPTIONS",
    "TABLES",
    "Answer",
    "Asking",
    "Assignment",
    "Axes",
    "Axis",
    "CollectConfig",
    "Conflict",
    "Contents",
    "Database",
    "Display",
    "DisplayInfo",
    "Erased",
    "Item",
    "Layout",
    "Mask",
    "Mode",
    "Native",
    "NotAnAnswer",
    "NotYours",
    "Option",
    "PackedArray",
    "Pair",
    "PairSelection",
    "Progress",
    "Rater",
    "Refused",
    "Rules",
    "ShownImage",
    "SlatesByCase",
    "StandingSet",
    "StoreFull",
    "Stored",
    "StudyBuilder",
    "StudyFolder",
    "StudyNote",
    "StudyVotes",
    "Unavailable",
    "VoteIn",
    "VotePreferences",
    "VoteRow",
    "VoteStore",
    "VotesJudge",
    "cases_named",
    "check_same_study",
    "check_vote",
    "choices_of",
    "compared",
    "comparisons_of",
    "contents_digest",
    "contents_from_json",
    "contents_to_json",
    "default_window",
    "differing_voxels",
    "drop_cases",
    "information",
    "is_opaque",
    "joined",
    "kept_cases",
    "kept_set",
    "layout_of",
    "margin_doubt",
    "native_mask",
    "native_of",
    "one_structure_slate",
    "open_store",
    "other_files",
    "pack",
    "packed_mask",
    "patients_of",
    "preference_chance",
    "preferences_from_votes",
    "ratings_of",
    "read_studies",
    "right_answer",
    "score_scale",
    "share_preferring",
    "shown_image",
    "slice_count",
    "slice_of",
    "unpack",
    "was_trained_on",
    "without",
    "write_display",
]
