"""Mines pairs from a batch of slates, and counts why slates gave none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from segpref.metrics.slates import score_state
from segpref.types import Miner, Pairs, SegprefError, WeightedPairs

__all__ = ["Mined", "mine"]


@dataclass(frozen=True, slots=True)
class Mined:
    """The pairs of a batch, and what gave none.

    Args:
        pairs: sorted by image, then by field.
        fields: how many fields were looked at, over all images.
        skipped: how many of them gave no pair, by reason: ``abstained``, ``zero`` or ``tied``
            (:func:`segpref.metrics.score_state`), or ``undecided`` where the miner found no pair.
    """

    pairs: Pairs
    fields: int
    skipped: Mapping[str, int]


def mine(
    miner: Miner,
    scores: Sequence[Float[np.ndarray, "K field"]],
    rngs: Sequence[np.random.Generator],
) -> Mined:
    """Mine the slates of a batch, each with its own source of randomness.

    A field whose scores are all 0, all tied or all NaN is skipped and counted.

    Raises:
        SegprefError: scores are infinite or of the wrong shape, or the miner's pairs contradict
            the scores.
    """
    skipped = Counter[str](dict.fromkeys(("abstained", "zero", "tied", "undecided"), 0))
    found: list[Pairs] = []
    for case, (slate, rng) in enumerate(zip(scores, rngs, strict=True)):
        if slate.ndim != 2 or np.isinf(slate).any():
            raise SegprefError(
                f"the judge's scores of image {case} of the batch must be finite numbers (or NaN to "
                "abstain), one per candidate and field; fix the judge's score method"
            )
        for field, said in enumerate(slate.T):
            told = score_state(said)
            if told != "usable":
                skipped[told] += 1
                continue
            picked = miner(said, rng)
            if not len(picked):
                skipped["undecided"] += 1
                continue
            rows = picked.rows if isinstance(picked, WeightedPairs) else picked
            gap = said[rows[:, 0]] - said[rows[:, 1]]
            if not (gap > 0).all():
                raise SegprefError(
                    f"the miner {miner!r} returned a pair whose winner does not score above its "
                    "loser; fix the miner's __call__ method"
                )
            image, number = (np.full(len(rows), place, np.int64) for place in (case, field))
            pairs = Pairs(image, number, rows[:, 0], rows[:, 1], gap)
            if isinstance(picked, WeightedPairs):
                pairs = replace(pairs, weight=picked.weight, group=picked.group)
            found.append(pairs)
    fields = sum(slate.shape[1] for slate in scores)
    return Mined(_joined(found), fields=fields, skipped=dict(skipped))


def _joined(parts: Sequence[Pairs]) -> Pairs:
    """Pairs of several fields as one; groups of different fields stay apart."""
    pairs = Pairs(
        case=_column(parts, "case"),
        field=_column(parts, "field"),
        winner=_column(parts, "winner"),
        loser=_column(parts, "loser"),
        gap=_column(parts, "gap").astype(np.float64),
    )
    if all(part.group is None for part in parts):
        return pairs
    groups, next_group = [], 0
    for part in parts:
        own = (
            np.arange(len(part))
            if part.group is None
            else np.unique(part.group, return_inverse=True)[1]
        )
        groups.append(own + next_group)
        next_group += int(own.max()) + 1
    weights = [np.ones(len(part)) if part.weight is None else part.weight for part in parts]
    return replace(pairs, weight=np.concatenate(weights), group=np.concatenate(groups))


def _column(parts: Sequence[Pairs], name: str) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *(getattr(part, name) for part in parts)])
