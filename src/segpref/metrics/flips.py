"""Flip rates: how often a judge orders two candidates the wrong way round.

A pair of candidates flips where the judge prefers the one that is truly worse. Mining takes pairs with
large gaps; random pairs measure the judge over all gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from segpref.metrics.slates import NEAR_TIE, score_state
from segpref.types import IGNORE, Pairs, SegprefError

__all__ = ["FlipBin", "FlipCurves", "disagreement_fractions", "flip_curves", "mined_flips"]

_EXACT = 1e-9
"""True qualities closer than this are equal but for rounding."""


@dataclass(frozen=True, slots=True)
class FlipBin:
    """Pairs of about the same size, such as the judge's gap.

    Args:
        low: the smallest of them.
        high: the largest.
        count: how many pairs.
        flip_rate: share that the judge orders the wrong way round.
        true_gap: mean true quality of the judge's favourite minus that of the other.
    """

    low: float
    high: float
    count: int
    flip_rate: float
    true_gap: float

    @property
    def middle(self) -> float:
        """Halfway between the smallest and the largest."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class FlipCurves:
    """Flip rates over random pairs of candidates.

    Left out are pairs that the judge does not tell apart (scores closer than ``NEAR_TIE``, or none),
    and pairs that are equally good, on which no judge can be wrong.

    Args:
        flip_rate: share of all pairs. It is the ``flip_rate`` of
            :class:`~segpref.objectives.RobustDPO` only where learned pairs are drawn uniformly from all
            pairs of a slate, which none of the miners does (:class:`~segpref.preferences.RandomPair`
            draws a winner first): for a miner take PairFlip. NaN where there is no pair.
        pairs: how many pairs.
        by_gap: bins by the judge's gap, smallest first, of about the same count.
        by_disagreement: bins by ``|R| / |Omega|``, the share of the image on which the two differ.
    """

    flip_rate: float
    pairs: int
    by_gap: tuple[FlipBin, ...]
    by_disagreement: tuple[FlipBin, ...]


def flip_curves(
    scores: Sequence[Float[np.ndarray, "K field"]],
    qualities: Sequence[Float[np.ndarray, "K field"]],
    masks: Sequence[UInt8[np.ndarray, "K field *space"]],
    seed: int,
    pairs_per_slate: int = 200,
    bins: int = 8,
) -> FlipCurves:
    """Flip rates of random pairs, by the judge's gap and by the size of the disagreement.

    Pairs of one slate and field are drawn without repeats from all pairs of its candidates; fields of
    which the judge abstains are left out (:func:`~segpref.metrics.score_state`). Edges of bins are
    quantiles; equal values share a bin, so there may be fewer bins than asked for.

    Args:
        scores: the judge's, one array per slate; NaN abstains.
        qualities: the true qualities of the same candidates.
        masks: the candidates.
        seed: of the draw.
        pairs_per_slate: at most, per slate and field.
        bins: how many.
    """
    shapes = [array.shape for array in scores]
    if shapes != [array.shape for array in qualities] or shapes != [m.shape[:2] for m in masks]:
        raise SegprefError(
            "scores, true qualities and masks must be of the same slates, candidate by candidate"
        )
    parts: list[Float[np.ndarray, "3 n"]] = []
    for number, (judged, quality, slate) in enumerate(zip(scores, qualities, masks, strict=True)):
        for field in range(judged.shape[1]):
            if score_state(judged[:, field]) != "usable":
                continue
            rng = np.random.default_rng([seed, number, field])
            first, second = _draw(len(judged), pairs_per_slate, rng)
            gap = judged[first, field] - judged[second, field]
            true = (quality[first, field] - quality[second, field]) * np.sign(gap)
            kept = (np.abs(gap) >= NEAR_TIE) & (np.abs(true) > _EXACT)
            differs = disagreement_fractions(slate[:, field], first[kept], second[kept])
            parts.append(np.stack((np.abs(gap)[kept], true[kept], differs)))
    gap, true, differs = np.concatenate([np.zeros((3, 0)), *parts], axis=1)
    return FlipCurves(
        flip_rate=float((true < 0).mean()) if len(true) else np.nan,
        pairs=len(true),
        by_gap=_binned(gap, true, bins),
        by_disagreement=_binned(differs, true, bins),
    )


def mined_flips(
    qualities: Sequence[Float[np.ndarray, "K field"]], pairs: Sequence[Pairs], bins: int = 8
) -> tuple[FlipBin, ...]:
    """Flip rates of a miner's pairs by the judge's gap, in bins of about the same count.

    A judge's favourite is often one that it overrates, so mined pairs are wrong more often than random
    ones of the same gap. Pairs that are equally good are left out.

    Args:
        qualities: the true qualities of the candidates of every slate.
        pairs: what the miner made of the slates, once or several times.
        bins: how many; fewer where gaps are equal.
    """
    gap = np.concatenate([np.zeros(0), *(one.gap for one in pairs)])
    true = np.array(
        [
            qualities[case][winner, field] - qualities[case][loser, field]
            for one in pairs
            for case, field, winner, loser in zip(
                one.case, one.field, one.winner, one.loser, strict=True
            )
        ]
    )
    known = np.abs(true) > _EXACT
    return _binned(gap[known], true[known], bins)


def disagreement_fractions(
    masks: UInt8[np.ndarray, "K *space"],
    first: Int64[np.ndarray, " P"],
    second: Int64[np.ndarray, " P"],
) -> Float[np.ndarray, " P"]:
    """``|R| / |Omega|`` of pairs of candidates, for one field.

    Omega leaves out the pixels at which either is :data:`~segpref.types.IGNORE`; 0 where nothing is
    left of it.
    """
    flat = masks.reshape(len(masks), -1)
    # Where all agree no pair differs: such pixels, nearly all of a volume, are only counted.
    varied = np.zeros(flat.shape[1], bool)
    for mask in flat[1:]:
        varied |= mask != flat[0]
    agreed = np.count_nonzero(flat[0][~varied] != IGNORE)
    flat = np.ascontiguousarray(flat[:, varied])
    # Two values differ where a bit of them does; packed planes are compared 64 pixels at a time.
    bits = max(int(np.where(flat == IGNORE, 0, flat).max(initial=0)).bit_length(), 1)
    differs = np.zeros((len(first), _words(flat.shape[1])), np.uint64)
    for bit in range(bits):
        plane = _packed((flat >> bit) & 1 == 1)
        differs |= plane[first] ^ plane[second]
    known = flat != IGNORE
    if known.all():
        return np.asarray(_ones(differs) / max(flat.shape[1] + agreed, 1))
    packed = _packed(known)
    both = packed[first] & packed[second]
    return np.asarray(_ones(differs & both) / np.maximum(_ones(both) + agreed, 1))


def _draw(
    candidates: int, count: int, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]:
    first, second = np.triu_indices(candidates, 1)
    if len(first) > count:
        drawn = np.sort(rng.choice(len(first), count, replace=False))
        first, second = first[drawn], second[drawn]
    return first, second


def _binned(
    size: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"], bins: int
) -> tuple[FlipBin, ...]:
    if not len(size):
        return ()
    edges = np.unique(np.quantile(size, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, size, side="right")
    found = []
    for number in np.unique(place):
        here = place == number
        gains = true[here]
        found.append(
            FlipBin(
                low=float(size[here].min()),
                high=float(size[here].max()),
                count=len(gains),
                flip_rate=float((gains < 0).mean()),
                true_gap=float(gains.mean()),
            )
        )
    return tuple(found)


def _words(pixels: int) -> int:
    return -(-pixels // 64)


def _packed(planes: Bool[np.ndarray, "K pixel"]) -> np.ndarray:
    packed = np.packbits(planes, axis=1)
    spare = _words(planes.shape[1]) * 8 - packed.shape[1]
    return np.pad(packed, ((0, 0), (0, spare))).view(np.uint64)


def _ones(words: np.ndarray) -> Int64[np.ndarray, " P"]:
    return np.asarray(np.bitwise_count(words).sum(axis=1, dtype=np.int64))
