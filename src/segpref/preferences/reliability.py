"""How often a rater is wrong: from known answers, repeats and other raters, in one estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int64

from segpref.late import late
from segpref.preferences.rating import Estimate, Rating
from segpref.types import SegprefError

__all__ = ["Reliability", "first_is_better", "flip_rates", "reliabilities"]

stats = late("scipy.stats")

UNKNOWN = 0.2
"""Flip rate of a rater of whom nothing is known."""

PRIOR_VOTES = 10.0
"""So many answers weigh as much as :data:`UNKNOWN`."""

_STEPS = 500
_TOLERANCE = 1e-6
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a rater's preference points the wrong way.

    Args:
        flip_rate: from 0 to one half, with its interval over cases; ``count`` is of the answers that it
            was estimated from.
        informative: how many of these tell something: answers to questions that the rater or another
            one answered, too, or whose answer is known.
    """

    flip_rate: Estimate
    informative: int


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers that chose an option, as arrays; questions and raters are numbered."""

    raters: tuple[str, ...]
    rater: Int64[np.ndarray, " answer"]
    question: Int64[np.ndarray, " answer"]
    chosen: Int64[np.ndarray, " answer"]
    options: Int64[np.ndarray, " question"]
    right: Int64[np.ndarray, " question"]
    cases: tuple[str, ...] = field(default=())


def flip_rates(
    ratings: Sequence[Rating], *, unknown: float = UNKNOWN, prior_votes: float = PRIOR_VOTES
) -> dict[str, float]:
    """How often the preference of each rater points the wrong way, from 0 to one half.

    The estimate of :func:`reliabilities` without intervals: the ``flip_rate`` of robust and calibrated
    objectives.

    Args:
        ratings: all answers of all raters, also to questions with known answers, and repeats.
        unknown: flip rate of a rater of whom nothing is known.
        prior_votes: so many answers weigh as much as it.

    Raises:
        SegprefError: ``unknown`` is not from 0 to one half, or ``prior_votes`` is not above 0.
    """
    _check(unknown, prior_votes)
    answers = _gathered(ratings)
    found = _random_shares(answers, np.ones(len(answers.options)), unknown, prior_votes)
    return {name: float(share) / 2 for name, share in zip(answers.raters, found, strict=True)}


def reliabilities(
    ratings: Sequence[Rating],
    *,
    unknown: float = UNKNOWN,
    prior_votes: float = PRIOR_VOTES,
    resamples: int = 200,
    seed: int = 0,
) -> dict[str, Reliability]:
    """How often the preference of each rater points the wrong way, with intervals over cases.

    The model is that of Dawid and Skene (1979) with one number per rater: a question with ``K`` options
    has one right answer, at first equally likely each; with probability ``s`` the rater answers at
    random, else rightly. Of two options the wrong one is then chosen at the rate ``s / 2``, the flip
    rate; always at random is one half, and nothing is worse. The flip rate has a Beta prior that weighs
    as much as ``prior_votes`` answers; the estimate is the mode that expectation-maximisation finds.
    Known answers, repeats and other raters all count, each in its place: a repeat is one more answer to
    the same question. Answers that choose no option (ties, can't tell) tell nothing here.

    A rater who makes the same mistake twice looks reliable by repeats, and raters who share a mistake
    by their agreement: only questions with known answers show such mistakes. A question that is hard
    for all makes all look less reliable.

    Intervals come from drawing cases anew, and are never narrower than they would be with known answers
    in the place of those that tell something.

    Args:
        ratings: all answers of all raters.
        unknown: flip rate of a rater of whom nothing is known.
        prior_votes: so many answers weigh as much as it.
        resamples: how often cases are drawn for the intervals.
        seed: random seed of these.

    Raises:
        SegprefError: as :func:`flip_rates`.
    """
    _check(unknown, prior_votes)
    answers = _gathered(ratings)
    if not answers.raters:
        return {}
    shares = _random_shares(answers, np.ones(len(answers.options)), unknown, prior_votes)
    low, high = _intervals(answers, shares, unknown, prior_votes, resamples, seed)
    told = np.bincount(answers.question, minlength=len(answers.options))
    tells = (told[answers.question] > 1) | (answers.right[answers.question] >= 0)
    counts = np.bincount(answers.rater, minlength=len(answers.raters))
    informative = np.bincount(answers.rater, tells, minlength=len(answers.raters))
    # Few answers hardly move the estimate away from the prior, however they are drawn.
    weight = informative + prior_votes
    least, most = stats.beta.ppf(
        [[0.025], [0.975]], np.maximum(shares / 2 * weight, _LEAST), (1 - shares / 2) * weight
    )
    low = np.fmin(np.array(low) / 2, least)
    high = np.minimum(np.fmax(np.array(high) / 2, most), 0.5)
    return {
        name: Reliability(
            Estimate(float(shares[i]) / 2, float(low[i]), float(high[i]), int(counts[i])),
            int(informative[i]),
        )
        for i, name in enumerate(answers.raters)
    }


def first_is_better(chose_first: Sequence[bool], rates: Sequence[float]) -> float:
    """Probability that the first of two candidates is better, by what several raters chose.

    Args:
        chose_first: whether each answer chose the first one.
        rates: flip rate of the rater of each answer, from 0 to one half.

    Returns:
        A number strictly between 0 and 1; one half of no answers. The pair's own flip rate is it or 1
        minus it, whichever is lower.
    """
    odds = 0.0
    for first, rate in zip(chose_first, rates, strict=True):
        rate = min(max(rate, _LEAST), 0.5)
        odds += math.log((1 - rate) / rate) * (1 if first else -1)
    return 1 / (1 + math.exp(-max(min(odds, 30.0), -30.0)))


def _check(unknown: float, prior_votes: float) -> None:
    if not 0 <= unknown <= 0.5:
        raise SegprefError(
            f"unknown is the flip rate of an unknown rater, from 0 to 0.5, not {unknown}"
        )
    if not 0 < prior_votes < math.inf:
        raise SegprefError(f"prior_votes is a number above 0, not {prior_votes}")


def _gathered(ratings: Sequence[Rating]) -> _Answers:
    raters = {name: i for i, name in enumerate(dict.fromkeys(one.rater for one in ratings))}
    chose = [one for one in ratings if not isinstance(one.answer, str)]
    asked = {one.question: one for one in chose}
    number = {name: i for i, name in enumerate(asked)}
    return _Answers(
        tuple(raters),
        np.array([raters[one.rater] for one in chose], np.int64),
        np.array([number[one.question] for one in chose], np.int64),
        np.array([one.answer for one in chose], np.int64),
        np.array([one.options for one in asked.values()], np.int64),
        np.array([-1 if one.right is None else one.right for one in asked.values()], np.int64),
        tuple(one.case for one in asked.values()),
    )


def _random_shares(
    answers: _Answers,
    weights: Float[np.ndarray, " question"],
    unknown: float,
    prior: float,
    start: Float[np.ndarray, " rater"] | None = None,
    tolerance: float = _TOLERANCE,
) -> Float[np.ndarray, " rater"]:
    """How often each rater answers at random: the mode of the posterior."""
    most = int(answers.options.max(initial=2))
    options = answers.options[answers.question]
    weight = weights[answers.question]
    place = answers.question * most + answers.chosen
    allowed = np.arange(most) < answers.options[:, None]
    known = answers.right >= 0
    count = prior + np.bincount(answers.rater, weight, minlength=len(answers.raters))
    shares = np.full(len(answers.raters), max(2 * unknown, _LEAST)) if start is None else start
    for _ in range(_STEPS):
        of = shares[answers.rater]
        hit = 1 - of + of / options
        gain = np.log(hit) - np.log(of / options)
        told = np.bincount(place, gain, minlength=len(answers.options) * most).reshape(-1, most)
        told = np.where(allowed, told, -np.inf)
        right = np.exp(told - told.max(axis=1, keepdims=True))
        right /= right.sum(axis=1, keepdims=True)
        right[known] = np.arange(most) == answers.right[known, None]
        sure = right.reshape(-1)[place]
        lapsed = 1 - sure + sure * (of / options) / hit
        summed = np.bincount(answers.rater, weight * lapsed, minlength=len(answers.raters))
        # As if that many pairs with known answers had been answered before.
        before = prior * (unknown + (1 - unknown) * shares / (2 - shares))
        new: Float[np.ndarray, " rater"] = np.clip((before + summed) / count, _LEAST, 1.0)
        if np.abs(new - shares).max(initial=0.0) < tolerance:
            return new
        shares = new
    return shares


def _intervals(
    answers: _Answers,
    start: Float[np.ndarray, " rater"],
    unknown: float,
    prior: float,
    resamples: int,
    seed: int,
) -> tuple[list[float], list[float]]:
    names = {name: i for i, name in enumerate(dict.fromkeys(answers.cases))}
    if len(names) < 2:
        nothing = [math.nan] * len(answers.raters)
        return nothing, nothing
    case = np.array([names[one] for one in answers.cases])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    found = [
        _random_shares(answers, one[case].astype(float), unknown, prior, start, 1e-5)
        for one in drawn
    ]
    low, high = np.percentile(np.stack(found), (2.5, 97.5), axis=0)
    return low.tolist(), high.tolist()
