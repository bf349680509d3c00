"""A weighted committee of judges of different kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.judges.whole_masks import WholeScores, whole_mask_scores
from segpref.judges.yaml_types import NamedJudge
from segpref.late import late
from segpref.types import Case, LabelSpace, PreparedJudge, SegprefError, Slate

__all__ = ["Committee", "trust_weights"]

stats = late("scipy.stats")


@checked(min_agreement={"least": -1, "most": 1})
class Committee:
    """Scores a candidate by the weighted mean of several judges' scores.

    Per slate and field, with weights ``w_j`` that are scaled to sum 1 over the judges who speak:

    - ``score``: ``s(k) = sum_j w_j s_j(k)``, for judges whose scores mean the same, such as IoUs;
    - ``rank``: ``s(k) = sum_j w_j (rank_j(k) - 1) / (K - 1)``, ranks from 1 for the worst, equal
      scores sharing their mean rank, for judges whose scores can't be compared. It lies in 0 ... 1.

    A judge with less than two scores does not speak on that field. A candidate that one of the
    speaking judges gives no score has none (NaN): a mean over other judges would be on another scale.
    With ``min_agreement`` the committee abstains on fields where the judges contradict each other:
    where the mean over pairs of judges of Spearman's rank correlation is below it. A judge who gives
    all candidates the same score has no ranking and no part in that mean.

    Judges that do not declare ``needs_label`` are shown cases without labels even where another
    member needs them.

    Args:
        judges: the members.
        by: ``score`` or ``rank``.
        weights: trust in each member, by hand or from :func:`trust_weights`; equal where None.
        min_agreement: below which the committee abstains, from -1 to 1; never where None.

    Raises:
        SegprefError: no member, members of different label spaces, weights that do not fit the members,
            or an unknown mean.
    """

    def __init__(
        self,
        judges: Sequence[NamedJudge],
        by: Literal["score", "rank"] = "rank",
        weights: Sequence[float] | None = None,
        min_agreement: float | None = None,
    ) -> None:
        if not judges:
            raise SegprefError("a committee needs at least one judge")
        if by not in ("score", "rank"):
            raise SegprefError(f"a committee takes the mean by score or by rank, not by {by!r}")
        weights = [1.0] * len(judges) if weights is None else list(weights)
        if len(weights) != len(judges) or min(weights) < 0 or not 0 < sum(weights) < np.inf:
            raise SegprefError(
                f"a committee of {len(judges)} judges needs as many weights from 0, not all of them "
                f"0; got {weights}"
            )
        # A judge with weight 0 is not asked, so that it can't make the others abstain.
        trusted = [pair for pair in zip(judges, weights, strict=True) if pair[1] > 0]
        self.judges = [judge for judge, _ in trusted]
        self.weights = np.array([weight for _, weight in trusted])
        self.by = by
        self.min_agreement = min_agreement
        self.needs_label = any(judge.needs_label for judge in self.judges)

    @property
    def in_workers(self) -> bool:
        """Whether all members score in worker processes, too."""
        return all(getattr(judge, "in_workers", False) for judge in self.judges)

    def prepare(self, dataset: Dataset) -> None:
        """Prepare all members."""
        for judge in self.judges:
            if isinstance(judge, PreparedJudge):
                judge.prepare(dataset)

    def digest(self) -> str:
        """Name of what the members learned, of those who can tell."""
        return " ".join(judge.digest() for judge in self.judges if hasattr(judge, "digest"))

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Mean of the members' scores."""
        hidden = replace(case, label=None, raters=None)
        each = [
            np.asarray(judge.score(case if judge.needs_label else hidden, slate), np.float64)
            for judge in self.judges
        ]
        if len({scores.shape for scores in each}) > 1:
            raise SegprefError(
                "a committee's members give scores of the shapes "
                f"{[scores.shape for scores in each]}: take judges of one label space"
            )
        said = np.stack(each)
        return np.stack([self._mean(said[:, :, n]) for n in range(said.shape[2])], axis=1)

    def whole_scores(
        self,
        cases: Sequence[Case],
        masks: UInt8[np.ndarray, "item field *space"],
        space: LabelSpace,
    ) -> WholeScores:
        """The weighted mean of what the members say of a volume's mask, whatever ``by`` is.

        One mask has no rank, so members should score alike (all by IoU) where this is asked.
        """
        hidden = [replace(case, label=None, raters=None) for case in cases]
        rows = [
            whole_mask_scores(judge, cases if judge.needs_label else hidden, masks, space).score
            for judge in self.judges
        ]
        return WholeScores.of(np.stack(rows), self.weights)

    def _mean(self, said: Float[np.ndarray, "judge K"]) -> Float[np.ndarray, " K"]:
        speaks = (~np.isnan(said)).sum(axis=1) >= 2
        nothing = np.full(said.shape[1], np.nan)
        if not speaks.any():
            return nothing
        valid = ~np.isnan(said[speaks]).any(axis=0)
        votes = said[speaks][:, valid]
        if votes.shape[1] < 2:
            return nothing
        ranks = stats.rankdata(votes, axis=1)
        if self.min_agreement is not None and _agreement(ranks) < self.min_agreement:
            return nothing
        if self.by == "rank":
            votes = (ranks - 1) / (votes.shape[1] - 1)
        result = nothing
        result[valid] = self.weights[speaks] @ votes / self.weights[speaks].sum()
        return result


def trust_weights(flip_rates: Sequence[float], least: float = 0.01) -> tuple[float, ...]:
    """Weights of a committee from the flip rates of an audit: ``max(log((1 - e) / e), 0)``.

    The weights with which a weighted majority of independent voters errs least (Nitzan & Paroush,
    1982). Who is wrong half of the time or more has none.

    Args:
        flip_rates: how often each judge orders two candidates the wrong way round
            (``flips.flip_rate`` of :func:`segpref.studies.auditing.audit`), in the committee's order.
        least: a lower rate counts as this one: no audit is so large that it could tell.
    """
    rates = np.clip(np.asarray(flip_rates, dtype=float), least, 1 - least)
    if np.isnan(rates).any():
        raise SegprefError("a judge without a flip rate can't be weighted: audit it on more cases")
    return tuple(np.maximum(np.log((1 - rates) / rates), 0).tolist())


def _agreement(ranks: Float[np.ndarray, "judge K"]) -> float:
    """Mean rank correlation of two judges; 1 where fewer than two rank at all."""
    ranking = [row for row in ranks if np.ptp(row) > 0]
    if len(ranking) < 2:
        return 1.0
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in combinations(ranking, 2)]))
