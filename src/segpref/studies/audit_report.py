"""The answer of an audit in words, and its page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segpref.metrics.flips import FlipBin
from segpref.report.comparison import FEWEST_PATIENTS
from segpref.report.page import Cell, Page, Section, Table
from segpref.studies.auditing import Audit

__all__ = [
    "FAMILY_COLUMNS",
    "FLIP_COLUMNS",
    "JUDGE_FIGURES",
    "STRUCTURE_COLUMNS",
    "audit_page",
    "audit_verdict",
    "family_rows",
    "flip_rows",
    "labels_advice",
    "own_masks_verdict",
    "structure_rows",
]

JUDGE_FIGURES = (
    ("harm_top", "HarmTop", "how often its favourite is worse than the model's own mask"),
    ("harm_mag", "HarmMag", "by how much, in IoU, on average"),
    ("headroom", "Headroom", "what its favourite gains over the model's own mask"),
    ("regret", "Regret", "what the best candidate would have gained beyond that"),
    ("pair_flip", "PairFlip", "share of mined pairs that are the wrong way round"),
    ("kendall", "Kendall tau", "rank correlation with the truth; 1 is perfect, 0 is chance"),
)
"""Figures of a judge: their field, what tables call them, and what they say."""

STRUCTURE_COLUMNS = (
    "structure", "headroom", "HarmTop", "PairFlip", "pairs", "empty candidates", "empty labels",
    "slates", "judge abstains",
)  # fmt: skip
FAMILY_COLUMNS = ("family", "share", "mean gain", "better", "truly best", "judge's favourite")
FLIP_COLUMNS = ("by", "from", "to", "pairs", "flipped", "mean true gap")


def audit_verdict(found: Audit) -> tuple[bool, str]:
    """Whether the judge is worth using, and the sentence that says so, with interval and patients.

    It is where its favourite candidates are better than the model's own masks, patient by patient.
    """
    worth = found.worth
    if worth is None or not worth.patients:
        return False, (
            "Not known whether the judge is worth using: it can order the candidates of no labelled "
            "image."
        )
    few = worth.patients < FEWEST_PATIENTS
    more = f"; with fewer than {FEWEST_PATIENTS} patients nothing is shown" if few else ""
    verb, over = ("lose", "against") if worth.mean < 0 else ("gain", "over")
    told = f"its favourites {verb} IoU {worth.in_words} {over} the model's own masks{more}."
    if worth.word == "better":
        return True, f"The judge is worth using: {told}"
    if worth.word == "worse":
        return False, f"The judge does harm, use a better one: {told}"
    return False, f"The judge is not shown to be worth using: {told}"


def own_masks_verdict(found: Audit) -> str | None:
    """Whether the judge is the better segmenter; None where it draws nothing, or was not measured."""
    own = found.own
    if own is None or not own.patients:
        return None
    told = {
        "better": "are better than",
        "worse": "are worse than",
        "not shown": "are not shown to be better than",
    }[own.word]
    return f"The judge's own masks {told} the model's: IoU {own.in_words}."


def labels_advice(found: Audit) -> str | None:
    """What else the labels of a judge are good for; None where nothing is known of them.

    A hundred epochs on ACDC are behind it (docs/results/long): labels of patients that a model has not
    seen gained several times as much in its training as in that of its judge.
    """
    if found.unused:
        patients = f"{found.unused} patient{'' if found.unused == 1 else 's'}"
        return (
            f"The judge has learned from labels of {patients} that the model has not seen. Where these "
            "are at hand, train the model on them first: on ACDC, with a weak judge, that gained four "
            "times what an alignment by it did."
        )
    if found.own is not None and found.own.word == "better":
        return "Use the judge in the model's place, or let the model learn from its masks first."
    return None


def audit_page(found: Audit, lead: str = "") -> Page:
    """The page: the verdict, the judge's figures and each structure; slates and pairs folded below."""
    good, sentence = audit_verdict(found)
    judge = found.judge
    figures = tuple(
        (name, _number(getattr(judge, key)), Cell(text, long=True))
        for key, name, text in JUDGE_FIGURES
    )
    skipped = ", ".join(f"{why} {count}" for why, count in judge.skipped.items() if count)
    return Page(
        "Is the judge worth using?",
        sentence,
        good=good,
        evidence=(
            f"Mean IoU of the model's own masks {_number(found.base_quality)}, of the best candidates "
            f"{_number(found.best_quality)}: the most that any judge could select.",
            *filter(None, [own_masks_verdict(found), labels_advice(found)]),
        ),
        lead=lead,
        sections=[
            Section(
                "The judge",
                f"On {judge.slates} slates and {judge.pairs} pairs."
                + (f" Slates that were left out: {skipped}." if skipped else ""),
                Table(("Figure", "Value", "What it says"), figures),
            ),
            Section(
                "Structure by structure",
                table=Table(_headed(STRUCTURE_COLUMNS), tuple(structure_rows(found))),
            ),
        ],
        developer=[
            Section(
                "The slates",
                f"{found.distinct:.0%} of the candidates of a slate are distinct.",
                Table(_headed(FAMILY_COLUMNS), tuple(family_rows(found))),
            ),
            Section(
                "Pairs the wrong way round",
                f"Of {found.flips.pairs} random pairs {found.flips.flip_rate:.0%} are the wrong way "
                "round; by how far apart the judge's scores are, and by how much of the image differs.",
                Table(_headed(FLIP_COLUMNS), tuple(flip_rows(found))),
            ),
        ],
        terms=("IoU", "Judge", "Slate", "Pair", "PairFlip"),
    )


def _headed(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(one[:1].upper() + one[1:] for one in columns)


def structure_rows(found: Audit) -> list[tuple[str, ...]]:
    """A row per structure, of :data:`STRUCTURE_COLUMNS`."""
    rows = []
    for one in found.structures:
        figures = (f"{one.headroom:+.3f}", f"{one.harm_top:.0%}", f"{one.pair_flip:.0%}")
        silent = one.structure in found.abstains_on
        rows.append(
            (
                one.structure,
                *("–" if "nan" in figure else figure for figure in figures),
                str(one.pairs),
                f"{one.empty:.0%}",
                f"{one.empty_truth:.0%}",
                str(one.slates),
                "always" if silent else str(one.abstained),
            )
        )
    return rows


def family_rows(found: Audit) -> list[tuple[str, ...]]:
    """A row per proposal family, of :data:`FAMILY_COLUMNS`."""
    return [
        (one.family, f"{one.share:.0%}", f"{one.gain:+.3f}",
         *(f"{share:.0%}" for share in (one.better, one.top, one.chosen)))
        for one in found.families
    ]  # fmt: skip


def flip_rows(found: Audit) -> list[tuple[str, ...]]:
    """A row per bin of pairs, of :data:`FLIP_COLUMNS`."""
    curves: tuple[tuple[str, Sequence[FlipBin]], ...] = (
        ("judge's gap", found.flips.by_gap),
        ("|R|/|Ω|", found.flips.by_disagreement),
        ("gap, mined pairs", found.mined),
    )
    return [
        (by, f"{one.low:.3f}", f"{one.high:.3f}", str(one.count), f"{one.flip_rate:.0%}",
         f"{one.true_gap:+.3f}")
        for by, bins in curves
        for one in bins
    ]  # fmt: skip


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
