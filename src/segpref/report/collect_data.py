"""What the votes of a study show: raters, masks, judges, and base or tuned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from segpref.collect import VoteRow, comparisons_of, ratings_of
from segpref.preferences import (
    BetweenRaters,
    BradleyTerry,
    Estimate,
    Rating,
    Reliability,
    Repeats,
    VoteTimes,
    between_raters,
    bradley_terry,
    exact_share,
    gold_accuracy,
    reliabilities,
    repeats,
    side_share,
    vote_times,
)
from segpref.report.collect_judges import (
    ALL_STRUCTURES,
    JudgeFigures,
    Preferred,
    Scores,
    accepted,
    judge_figures,
    preferred,
)

__all__ = [
    "CollectFigures",
    "RaterFigures",
    "StructureFigures",
    "collect_figures",
]


@dataclass(frozen=True, slots=True)
class RaterFigures:
    """What is known of a rater."""

    votes: int
    taken_back: int
    answers: Mapping[str, int]
    days: Mapping[str, int]
    repeats: Repeats
    side: Estimate
    gold: Estimate
    times: VoteTimes
    reliability: Reliability | None


@dataclass(frozen=True, slots=True)
class StructureFigures:
    """What was said about a structure."""

    votes: int
    decided: Estimate
    same: Estimate
    alpha: Estimate
    gold: Estimate


@dataclass(frozen=True, slots=True)
class CollectFigures:
    """All figures of a study of votes.

    Args:
        mode: what was asked.
        votes: that count, without practice.
        wanted: how many normal votes the study asks for; None where that is not known.
        normal: how many of them there are.
        images: that were voted on.
        patients: of these images.
        raters: by pseudonym.
        between: agreement of raters with each other.
        structures: by name.
        families: strengths by proposal family; None where nothing was compared.
        models: strengths by model; None where there is one model.
        judges: agreement with automatic judges.
        preferred: base or tuned; None where that was not asked.
        accepted: share of masks that were accepted; None where that was not asked.
    """

    mode: str
    votes: int
    normal: int
    images: int
    patients: int
    raters: Mapping[str, RaterFigures]
    between: BetweenRaters
    structures: Mapping[str, StructureFigures]
    families: BradleyTerry | None
    models: BradleyTerry | None
    judges: Sequence[JudgeFigures] = ()
    preferred: Preferred | None = None
    accepted: Estimate | None = None
    wanted: int | None = None
    ratings: Sequence[Rating] = field(default=(), repr=False)


def collect_figures(
    rows: Iterable[VoteRow],
    *,
    scores: Scores | None = None,
    tuned: str | None = None,
    wanted: int | None = None,
    resamples: int = 1000,
) -> CollectFigures:
    """Measure what the votes show.

    Args:
        rows: all votes of the study, also those that were taken back.
        scores: of further judges.
        tuned: digest of the tuned model, where the study asks for base or tuned and its masks do not
            say so by their family.
        wanted: how many normal votes the study asks for.
        resamples: how often cases or patients are drawn for intervals; fewer where it takes long.
    """
    rows = list(rows)
    counted = [
        row for row in rows if row.counts and row.choice != "undo" and row.pair.use != "practice"
    ]
    ratings = ratings_of(counted)
    trust = reliabilities(ratings, resamples=min(resamples, 200))
    fewer = min(resamples, 200)
    families = comparisons_of(counted, lambda mask: mask.family)
    models = comparisons_of(counted, lambda mask: mask.model[:8] or "unknown", apart=True)
    judged = [row for row in counted if row.pair.mode == "accept-reject"]
    asked = [row for row in counted if row.pair.mode == "base-or-tuned"]
    rates = {name: one.flip_rate.value for name, one in trust.items()}
    return CollectFigures(
        mode=Counter(row.pair.mode for row in counted).most_common(1)[0][0] if counted else "pair",
        votes=len(counted),
        normal=sum(row.pair.use == "normal" and row.repeat_of is None for row in counted),
        images=len({row.item.id for row in counted}),
        patients=len({row.item.patient for row in counted}),
        raters=_raters(rows, ratings, trust, resamples),
        between=between_raters(ratings, resamples),
        structures=_structures(ratings, resamples),
        families=bradley_terry(families, resamples=fewer) if families else None,
        models=bradley_terry(models, resamples=fewer) if models else None,
        judges=judge_figures(counted, scores or {}, rates, resamples),
        preferred=preferred(asked, tuned, resamples) if asked else None,
        accepted=accepted(judged) if judged else None,
        wanted=wanted,
        ratings=ratings,
    )


def _raters(
    rows: Sequence[VoteRow],
    ratings: Sequence[Rating],
    trust: Mapping[str, Reliability],
    resamples: int,
) -> dict[str, RaterFigures]:
    found = {}
    undone = Counter(row.rater for row in rows if row.choice == "undo")
    for name in sorted({one.rater for one in ratings}):
        own = [one for one in ratings if one.rater == name]
        days = Counter(one.time.date().isoformat() for one in own if one.time is not None)
        found[name] = RaterFigures(
            votes=len(own),
            taken_back=undone[name],
            answers=_answers(own),
            days=dict(sorted(days.items())),
            repeats=repeats(own, resamples),
            side=side_share(own),
            gold=gold_accuracy(own),
            times=vote_times(own),
            reliability=trust.get(name),
        )
    return found


def _answers(ratings: Sequence[Rating]) -> dict[str, int]:
    counts = Counter(
        one.answer if isinstance(one.answer, str)
        else ("accept", "reject")[one.answer] if one.mode == "accept-reject"
        else "decided"
        for one in ratings
    )  # fmt: skip
    return dict(counts.most_common())


def _structures(ratings: Sequence[Rating], resamples: int) -> dict[str, StructureFigures]:
    names = sorted({one.structure or ALL_STRUCTURES for one in ratings})
    found = {}
    for name in names:
        own = [one for one in ratings if (one.structure or ALL_STRUCTURES) == name]
        decided = sum(not isinstance(one.answer, str) for one in own)
        found[name] = StructureFigures(
            votes=len(own),
            decided=exact_share(decided, len(own)),
            same=_same(own, resamples),
            alpha=between_raters(own, resamples).alpha,
            gold=gold_accuracy(own),
        )
    return found


def _same(ratings: Sequence[Rating], resamples: int) -> Estimate:
    """Repeats of all raters together; each rater is compared with that rater alone."""
    own = [
        Rating(
            question=f"{one.rater}\n{one.question}", case=one.case, patient=one.patient, rater="",
            answer=one.answer, repeat=one.repeat,
        )
        for one in ratings
    ]  # fmt: skip
    return repeats(own, resamples).same
