"""Preferences: which candidate is better, as said by a judge or a person, and miners that make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.preferences.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
    from segpref.preferences.candidates import (
        AbstainingJudge,
        Candidates,
        PolicyPass,
        ProposeSlates,
        ScoredSlate,
        Scoring,
        StandingJudge,
        content_id,
        content_ids,
    )
    from segpref.preferences.davidson import BradleyTerry, Compared, bradley_terry
    from segpref.preferences.exchange_folder import (
        PreferenceFolder,
        save_mask,
        write_preferences,
    )
    from segpref.preferences.exchange_rows import (
        Form,
        read_table,
        table_file,
        time_of_text,
        time_text,
        write_table,
    )
    from segpref.preferences.filters import Where, distinct, in_random_order, latest
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
    from segpref.preferences.patches import RoundPatches
    from segpref.preferences.rater_figures import (
        BetweenRaters,
        Repeats,
        VoteTimes,
        between_raters,
        gold_accuracy,
        repeats,
        side_share,
        vote_times,
    )
    from segpref.preferences.rating import Estimate, Rating, exact_share, interval_over
    from segpref.preferences.record import Choice, Preference, Question
    from segpref.preferences.record_pairs import (
        KeepPairs,
        RecordedPairs,
        pairs_from,
        preferences_of,
    )
    from segpref.preferences.reliability import (
        Reliability,
        first_is_better,
        flip_rates,
        reliabilities,
    )
    from segpref.preferences.round_slates import MakeSlates, RoundBatch, RoundPart, RoundSlates
    from segpref.preferences.slate_workers import SlateWorkers
    from segpref.preferences.store import PreferenceFile, PreferenceStore
    from segpref.preferences.whole_slates import (
        SparseScored,
        SparseSlate,
        WholeSlates,
        write_sparse_slates,
        write_whole_slates,
    )
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "agreement": ("cohen_kappa", "fleiss_kappa", "krippendorff_alpha"),
            "davidson": ("BradleyTerry", "Compared", "bradley_terry"),
            "candidates": (
                "AbstainingJudge",
                "Candidates",
                "PolicyPass",
                "ProposeSlates",
                "ScoredSlate",
                "Scoring",
                "StandingJudge",
                "content_id",
                "content_ids",
            ),
            "exchange_folder": ("PreferenceFolder", "save_mask", "write_preferences"),
            "exchange_rows": (
                "Form",
                "read_table",
                "table_file",
                "time_of_text",
                "time_text",
                "write_table",
            ),
            "filters": ("Where", "distinct", "in_random_order", "latest"),
            "miners": (
                "Extremes",
                "Mined",
                "NestedPairs",
                "RandomPair",
                "Threshold",
                "TopVsBase",
                "TopVsRandom",
                "mine",
            ),
            "patches": ("RoundPatches",),
            "rater_figures": (
                "BetweenRaters",
                "Repeats",
                "VoteTimes",
                "between_raters",
                "gold_accuracy",
                "repeats",
                "side_share",
                "vote_times",
            ),
            "rating": ("Estimate", "Rating", "exact_share", "interval_over"),
            "record": ("Choice", "Preference", "Question"),
            "record_pairs": ("KeepPairs", "RecordedPairs", "pairs_from", "preferences_of"),
            "reliability": ("Reliability", "first_is_better", "flip_rates", "reliabilities"),
            "slate_workers": ("SlateWorkers",),
            "round_slates": ("MakeSlates", "RoundBatch", "RoundPart", "RoundSlates"),
            "store": ("PreferenceFile", "PreferenceStore"),
            "whole_slates": (
                "SparseScored",
                "SparseSlate",
                "WholeSlates",
                "write_sparse_slates",
                "write_whole_slates",
            ),
        },
    )

__all__ = [
    "AbstainingJudge",
    "BetweenRaters",
    "BradleyTerry",
    "Candidates",
    "Choice",
    "Compared",
    "Estimate",
    "Extremes",
    "Form",
    "KeepPairs",
    "MakeSlates",
    "Mined",
    "NestedPairs",
    "PolicyPass",
    "Preference",
    "PreferenceFile",
    "PreferenceFolder",
    "PreferenceStore",
    "ProposeSlates",
    "Question",
    "RandomPair",
    "Rating",
    "RecordedPairs",
    "Reliability",
    "Repeats",
    "RoundBatch",
    "RoundPart",
    "RoundPatches",
    "RoundSlates",
    "ScoredSlate",
    "Scoring",
    "SlateWorkers",
    "SparseScored",
    "SparseSlate",
    "StandingJudge",
    "Threshold",
    "TopVsBase",
    "TopVsRandom",
    "VoteTimes",
    "Where",
    "WholeSlates",
    "between_raters",
    "bradley_terry",
    "cohen_kappa",
    "content_id",
    "content_ids",
    "distinct",
    "exact_share",
    "first_is_better",
    "fleiss_kappa",
    "flip_rates",
    "gold_accuracy",
    "in_random_order",
    "interval_over",
    "krippendorff_alpha",
    "latest",
    "mine",
    "pairs_from",
    "preferences_of",
    "read_table",
    "reliabilities",
    "repeats",
    "save_mask",
    "side_share",
    "table_file",
    "time_of_text",
    "time_text",
    "vote_times",
    "write_preferences",
    "write_sparse_slates",
    "write_table",
    "write_whole_slates",
]
