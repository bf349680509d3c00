"""Quality of a judge on slates whose true quality is known (Appendix A.4), and its harmful mass.

Everything is counted per slate and field: for multi-label images each structure has its own slate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from segpref.late import late
from segpref.types import Pairs, SegprefError

__all__ = [
    "NEAR_TIE",
    "HarmfulMass",
    "ScoreState",
    "SlateDiagnostics",
    "diagnose",
    "harmful_update_mass",
    "score_state",
]

stats = late("scipy.stats")

NEAR_TIE = 1e-4
"""Scores closer than this count as equal (Sec. 4.2)."""

ScoreState: TypeAlias = Literal["usable", "abstained", "zero", "tied"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlateDiagnostics:
    """A judge against the truth (Appendix A.4), as means over slates and fields; NaN over none.

    ``m`` is a candidate's true quality, *top* the judge's best, *base* the anchor.

    Args:
        harm_top: HarmTop, share of slates with ``m(top) < m(base)``.
        harm_mag: HarmMag, mean of ``max(m(base) - m(top), 0)``.
        headroom: Headroom, mean of ``m(top) - m(base)``.
        regret: Regret, mean of ``m(best) - m(top)``.
        pair_flip: PairFlip, share of mined pairs with ``m(winner) < m(loser)``.
        kendall: rank correlation (tau-b) of scores and ``m`` within a slate.
        spearman: the same after Spearman.
        slates: how many slates and fields the means are over.
        pairs: how many pairs PairFlip is over.
        skipped: how many were left out, by reason: ``abstained``, ``zero``, ``tied``, or
            ``unknown`` where the true quality is.
    """

    harm_top: float
    harm_mag: float
    headroom: float
    regret: float
    pair_flip: float
    kendall: float
    spearman: float
    slates: int
    pairs: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class HarmfulMass:
    """Harmful update mass of a set of pairs; 0 where there is no pair.

    Args:
        plain: Eq. 13 as printed.
        weighted: each pair also weighted by its disagreement fraction, as the caption of Fig. 3.
    """

    plain: float
    weighted: float


def score_state(scores: Float[np.ndarray, " K"]) -> ScoreState:
    """Whether the scores of one field are usable, or why not.

    ``abstained``: fewer than two candidates have a score; ``zero``: all scores are 0; ``tied``: best
    and worst are closer than :data:`NEAR_TIE`.
    """
    valid = scores[~np.isnan(scores)]
    if len(valid) < 2:
        return "abstained"
    if not valid.any():
        return "zero"
    return "usable" if valid.max() - valid.min() >= NEAR_TIE else "tied"


def diagnose(
    scores: Sequence[Float[np.ndarray, "K field"]],
    qualities: Sequence[Float[np.ndarray, "K field"]],
    pairs: Pairs,
) -> SlateDiagnostics:
    """Measure a judge on many slates.

    Fields of which the judge abstains are left out and counted, as in mining. The top is the
    highest score, of equal ones the first.

    Args:
        scores: the judge's scores, one array per slate; NaN abstains.
        qualities: the true qualities of the same candidates.
        pairs: what a miner made of the scores; ``pairs.case`` points into ``scores``.

    Raises:
        SegprefError: scores and qualities are not of the same slates.
    """
    shapes = [array.shape for array in scores]
    if shapes != [array.shape for array in qualities]:
        raise SegprefError(
            "a judge's scores and the true qualities must be of the same slates, candidate by "
            "candidate; score both on one list of slates"
        )
    skipped = Counter[str](dict.fromkeys(("abstained", "zero", "tied", "unknown"), 0))
    rows = []
    for judged, quality in zip(scores, qualities, strict=True):
        for field in range(judged.shape[1]):
            said, true = judged[:, field], quality[:, field]
            state = "unknown" if np.isnan(true).any() else score_state(said)
            if state == "usable":
                rows.append(_measure(said, true))
            else:
                skipped[state] += 1
    gain = _gains(qualities, pairs)
    gain = gain[~np.isnan(gain)]
    names = ("harm_top", "harm_mag", "headroom", "regret", "kendall", "spearman")
    columns = np.array(rows, dtype=float).reshape(-1, len(names)).T
    means = {name: _mean(column) for name, column in zip(names, columns, strict=True)}
    return SlateDiagnostics(
        pair_flip=_mean(gain < 0),
        slates=len(rows),
        pairs=len(gain),
        skipped=dict(skipped),
        **means,
    )


def harmful_update_mass(
    oracle_margin: Float[np.ndarray, " P"],
    strength: Float[np.ndarray, " P"],
    fraction: Float[np.ndarray, " P"],
) -> HarmfulMass:
    """How much wrong preference is applied: ``H = E[1[D < 0] (-D) w]`` (Eq. 13).

    Args:
        oracle_margin: ``D``, true quality of the winner minus that of the loser.
        strength: ``w``, the pull of each pair (:func:`segpref.objectives.update_strength`).
        fraction: ``|R| / |Omega|`` of each pair.
    """
    if not len(oracle_margin):
        return HarmfulMass(0.0, 0.0)
    harm = np.maximum(-oracle_margin, 0) * strength
    return HarmfulMass(float(harm.mean()), float((harm * fraction).mean()))


def _measure(said: Float[np.ndarray, " K"], true: Float[np.ndarray, " K"]) -> tuple[float, ...]:
    top, base = true[np.nanargmax(said)], true[0]
    kendall, spearman = _rank_correlations(said, true)
    return (top < base, max(base - top, 0.0), top - base, true.max() - top, kendall, spearman)


def _rank_correlations(
    said: Float[np.ndarray, " K"], true: Float[np.ndarray, " K"]
) -> tuple[float, float]:
    valid = ~np.isnan(said)
    said, true = said[valid], true[valid]
    if np.ptp(true) == 0:
        return np.nan, np.nan
    return (
        float(stats.kendalltau(said, true).statistic),
        float(stats.spearmanr(said, true).statistic),
    )


def _gains(
    qualities: Sequence[Float[np.ndarray, "K field"]], pairs: Pairs
) -> Float[np.ndarray, " P"]:
    return np.array(
        [
            qualities[case][winner, field] - qualities[case][loser, field]
            for case, field, winner, loser in zip(
                pairs.case, pairs.field, pairs.winner, pairs.loser, strict=True
            )
        ],
        dtype=float,
    )


def _mean(values: Float[np.ndarray, " n"]) -> float:
    valid = np.asarray(values, dtype=float)
    valid = valid[~np.isnan(valid)]
    return float(valid.mean()) if len(valid) else np.nan
