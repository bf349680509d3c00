"""How strong each of several methods is, from comparisons of two with ties and sides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from segpref.late import late
from segpref.preferences.rating import Estimate
from segpref.types import SegprefError

__all__ = ["BradleyTerry", "Compared", "bradley_terry"]

csgraph = late("scipy.sparse.csgraph")

Outcome = Literal["first", "second", "tie"]

_OUTCOMES = ("first", "second", "tie")
_HELD = 0.1
"""Precision of the normal prior on log-strengths where the data alone have no finite estimate."""

_STEPS = 100


@dataclass(frozen=True, slots=True)
class Compared:
    """Who was compared with whom, and what came of it.

    Args:
        first: name of the one, which was on the left.
        second: name of the other.
        outcome: which was better, or a tie.
        group: what is drawn for intervals, such as the patient.
        sided: whether the first one was on the left, the second on the right; False where there were
            no sides.
    """

    first: str
    second: str
    outcome: Outcome
    group: str
    sided: bool = True


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """The fitted model.

    Args:
        strength: log-strength of each name, with its interval; their mean is 0. Counts are of
            comparisons.
        side: log-odds of the left one to be chosen between two equals; 0 is no bias.
        tie: share of ties between two equals.
        comparisons: how many there were.
        statement: what the numbers can't say, in sentences; empty where nothing is amiss.
    """

    strength: Mapping[str, Estimate]
    side: Estimate
    tie: Estimate
    comparisons: int
    statement: str = ""

    def chance(self, first: str, second: str) -> float:
        """Probability that the first is better than the second where it is no tie, without a side."""
        gap = self.strength[first].value - self.strength[second].value
        return 1 / (1 + math.exp(-gap))


@dataclass(frozen=True, slots=True)
class _Counts:
    """Comparisons by (first, second, whether there were sides), and what came of them."""

    first: np.ndarray
    second: np.ndarray
    sided: np.ndarray
    outcomes: Float[np.ndarray, "kind 3"]


def bradley_terry(
    comparisons: Sequence[Compared], *, resamples: int = 200, seed: int = 0
) -> BradleyTerry:
    """Fit Davidson's Bradley-Terry model with a term for the side.

    Of a comparison of *i* on the left with *j* on the right, *i*, *j* and a tie have odds::

        exp(l_i + d / 2) : exp(l_j - d / 2) : v exp((l_i + l_j) / 2)

    (Davidson, 1970, with the order effect of Davidson and Beaver, 1977, in its symmetric form). The
    log-likelihood is concave and is maximised by Newton's method. Comparisons of a name with itself
    count for the side and ties.

    Strengths are finite only if, however the names are split in two, each part won at least once
    against the other or had a tie with it (Ford, 1957). Where they are not, or all answers lie on one
    side, a normal prior with variance 10 on each log-strength, the side and the log of ``v`` keeps them
    finite, and the statement says so. Where there are no ties, ``v`` is 0.

    Args:
        comparisons: what was said.
        resamples: how often groups are drawn for intervals; 0 gives none.
        seed: random seed of these.

    Raises:
        SegprefError: an outcome is none of first, second and tie.
    """
    if strange := [one.outcome for one in comparisons if one.outcome not in _OUTCOMES]:
        raise SegprefError(f"outcome is one of {', '.join(_OUTCOMES)}, not {strange[0]!r}")
    names = sorted({name for one in comparisons for name in (one.first, one.second)})
    nothing = Estimate(math.nan, math.nan, math.nan, 0)
    if not comparisons:
        return BradleyTerry({}, nothing, nothing, 0, "Nothing was compared.")
    kinds, by_group = _tabulated(comparisons, names)
    outcomes = by_group.sum(axis=0)
    counts = _Counts(kinds[:, 0], kinds[:, 1], kinds[:, 2], outcomes)
    statement, held = _statement(counts, names)
    found = _fit(counts, len(names), held)
    drawn = _drawn(counts, by_group, len(names), held, resamples, seed)
    low, high = _ends(drawn, len(found))
    appears = {name: sum(name in (one.first, one.second) for one in comparisons) for name in names}
    return BradleyTerry(
        {n: Estimate(found[i], low[i], high[i], appears[n]) for i, n in enumerate(names)},
        Estimate(found[-2], low[-2], high[-2], int(outcomes[counts.sided == 1].sum())),
        Estimate(found[-1], low[-1], high[-1], len(comparisons)),
        len(comparisons),
        statement,
    )


def _tabulated(
    comparisons: Sequence[Compared], names: Sequence[str]
) -> tuple[np.ndarray, Float[np.ndarray, "group kind 3"]]:
    number = {name: i for i, name in enumerate(names)}
    groups = {name: i for i, name in enumerate(dict.fromkeys(one.group for one in comparisons))}
    kinds: dict[tuple[int, int, int], int] = {}
    places = []
    for one in comparisons:
        kind = (number[one.first], number[one.second], int(one.sided))
        places.append(
            (groups[one.group], kinds.setdefault(kind, len(kinds)), _OUTCOMES.index(one.outcome))
        )
    table = np.zeros((len(groups), len(kinds), 3))
    np.add.at(table, tuple(np.array(places).T), 1)
    return np.array(list(kinds)), table


def _statement(counts: _Counts, names: Sequence[str]) -> tuple[str, bool]:
    """What the data can't tell, and whether a prior must keep the estimates finite."""
    size = len(names)
    wins = np.zeros((size, size))
    other = counts.first != counts.second
    first, second, outcomes = counts.first[other], counts.second[other], counts.outcomes[other]
    np.add.at(wins, (first, second), outcomes[:, 0] + outcomes[:, 2])
    np.add.at(wins, (second, first), outcomes[:, 1] + outcomes[:, 2])
    said = []
    parts, _ = csgraph.connected_components(wins > 0, directed=False)
    strong, _ = csgraph.connected_components(wins > 0, directed=True, connection="strong")
    if parts > 1:
        said.append(
            f"The {size} names fall into {parts} groups that were never compared with each other: "
            "strengths of different groups can't be set side by side."
        )
    elif strong > 1:
        said.append(
            "Some always won against the others, so that their strength has no upper end: a weak "
            "prior keeps it finite, and only the order is to be trusted."
        )
    sided = counts.outcomes[counts.sided == 1].sum(axis=0)
    one_side = sided[:2].sum() > 0 and min(sided[:2]) == 0
    if one_side:
        said.append(
            f"All answers chose the {'left' if sided[0] else 'right'} side: the side and what was "
            "shown there can't be told apart."
        )
    total = counts.outcomes.sum(axis=0)
    if not total[:2].sum():
        said.append("All answers were ties.")
    return " ".join(said), parts > 1 or strong > 1 or bool(one_side) or not total[:2].sum()


def _fit(counts: _Counts, size: int, held: bool) -> Float[np.ndarray, " parameter"]:
    """Log-strengths with mean 0, the side and the share of ties between equals."""
    kinds = len(counts.first)
    outcomes = counts.outcomes
    ties, sides = outcomes[:, 2].sum() > 0, outcomes[counts.sided == 1].sum() > 0
    design = np.zeros((kinds, 3, size + 2))
    row = np.arange(kinds)
    design[row, 0, counts.first] = design[row, 1, counts.second] = 1.0
    design[:, 2, :size] = (design[:, 0, :size] + design[:, 1, :size]) / 2
    design[:, 0, size], design[:, 1, size] = counts.sided / 2, -counts.sided / 2
    design[:, 2, size + 1] = 1.0
    flat = design.reshape(3 * kinds, -1)
    free = np.array([True] * size + [bool(sides), bool(ties)])
    shut = np.array([0.0, 0.0, 0.0 if ties else -math.inf])
    # The mean of log-strengths is free: as much as changes nothing else.
    hold = np.full(size + 2, _HELD if held else 1e-10)
    beta = np.zeros(size + 2)
    n = outcomes.sum(axis=1)

    def objective(at: Float[np.ndarray, " parameter"]) -> tuple[float, np.ndarray]:
        odds = design @ at + shut
        odds -= odds.max(axis=1, keepdims=True)
        log = odds - np.log(np.exp(odds).sum(axis=1, keepdims=True))
        seen = outcomes > 0
        return float((outcomes[seen] * log[seen]).sum() - 0.5 * (hold * at**2).sum()), np.exp(log)

    value, shares = objective(beta)
    slack = 1e-12 * (1 + n.sum())
    for _ in range(_STEPS):
        expected = n[:, None] * shares
        gradient = flat.T @ (outcomes - expected).reshape(-1) - hold * beta
        mean = (shares[:, :, None] * design).sum(axis=1)
        hessian = (flat.T * expected.reshape(-1)) @ flat - (mean.T * n) @ mean + np.diag(hold)
        step = np.zeros(size + 2)
        step[free] = np.linalg.lstsq(hessian[np.ix_(free, free)], gradient[free], rcond=1e-14)[0]
        scale = 1.0
        while scale > 1e-6 and objective(beta + scale * step)[0] < value - slack:
            scale /= 2
        beta = beta + scale * step
        value, shares = objective(beta)
        if np.abs(scale * step).max() < 1e-8:
            break
    beta[:size] -= beta[:size].mean()
    tied = math.exp(beta[-1]) if ties else 0.0
    # Between equals with the side's odds: e^(d/2) + e^(-d/2) against v.
    beta[-1] = tied / (tied + 2 * math.cosh(beta[-2] / 2))
    return beta


def _drawn(
    counts: _Counts,
    by_group: Float[np.ndarray, "group kind 3"],
    size: int,
    held: bool,
    resamples: int,
    seed: int,
) -> list[Float[np.ndarray, " parameter"]]:
    groups = len(by_group)
    if groups < 2 or not resamples:
        return []
    weights = np.random.default_rng(seed).multinomial(
        groups, np.full(groups, 1 / groups), size=resamples
    )
    found = []
    for one in weights:
        outcomes = np.tensordot(one, by_group, axes=1)
        sample = _Counts(counts.first, counts.second, counts.sided, outcomes)
        # A sample may lack what the whole has: its estimates are kept finite in the same way.
        found.append(_fit(sample, size, held or _statement(sample, _numbered(size))[1]))
    return found


def _numbered(size: int) -> list[str]:
    """Stand-ins for names, where only their number matters."""
    return [str(i) for i in range(size)]


def _ends(
    drawn: Sequence[Float[np.ndarray, " parameter"]], count: int
) -> tuple[list[float], list[float]]:
    if not drawn:
        nothing = [math.nan] * count
        return nothing, nothing
    low, high = np.percentile(np.stack(drawn), (2.5, 97.5), axis=0)
    return low.tolist(), high.tolist()
