"""How well many samples of one image match the masks of its raters (TDG-DiffDPO, Appendix A.3).

Every measure but combined sensitivity is a function of the overlaps between all masks of an image,
samples and raters alike. They are counted once, on masks packed into bits: for 16 samples and 4 raters
several times faster than the product of the flattened masks with its transpose, and exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from math import lcm

import numpy as np
from jaxtyping import Float, Int64, UInt8, UInt64

from segpref.late import late
from segpref.types import SegprefError

__all__ = ["AmbiguityScores", "ambiguity_scores", "pairwise_overlap"]

optimize = late("scipy.optimize")

_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class AmbiguityScores:
    """One number per image; ``mean()`` is what tables show.

    Args:
        ged: Generalised Energy Distance with d = 1 - Dice. As everywhere in this field the name stands
            for the *square* of Eq. 14: ``2 E[d(X, Y)] - E[d(X, X')] - E[d(Y, Y')]``, expectations over
            all ordered pairs, a mask with itself among them. 0 to 2, lower is better.
        ged_iou: the same with d = 1 - IoU, as in most other work.
        combined_sensitivity: ``S_c = |union of samples and union of raters| / |union of raters|``
            (Eq. 11); NaN where no rater marks anything.
        d_max: mean over raters of the best Dice of any sample (Eq. 12).
        diversity_agreement: ``1 - (|dV_min| + |dV_max|) / 2`` (Eq. 13), where V_min and V_max are the
            least and greatest 1 - Dice of two *different* masks of a set and dV is their difference
            between samples and raters; both are 0 for a set of one.
        ci: Collective Insight, the harmonic mean of S_c, D_max and DA (Eq. 15) of this image; 0 where
            one of them is 0, NaN where S_c is.
        average_dice: mean over all pairs of a sample and a rater.
        average_iou: the same for IoU.
        matched_iou: mean IoU of the best one-to-one matching (Hungarian) of samples and raters, each
            repeated so often that both are lcm(N, R) many (Kohl et al., 2019).
    """

    ged: Float[np.ndarray, " image"]
    ged_iou: Float[np.ndarray, " image"]
    combined_sensitivity: Float[np.ndarray, " image"]
    d_max: Float[np.ndarray, " image"]
    diversity_agreement: Float[np.ndarray, " image"]
    ci: Float[np.ndarray, " image"]
    average_dice: Float[np.ndarray, " image"]
    average_iou: Float[np.ndarray, " image"]
    matched_iou: Float[np.ndarray, " image"]

    def mean(self) -> Mapping[str, float]:
        """Mean of every measure over the images in which it is defined; NaN where in none."""
        return {f.name: _mean(getattr(self, f.name)) for f in fields(self)}


def ambiguity_scores(
    samples: Sequence[UInt8[np.ndarray, "N *space"]],
    raters: Sequence[UInt8[np.ndarray, "R *space"]],
) -> AmbiguityScores:
    """All measures of a number of images.

    Dice and IoU of two empty masks are 1, so that a sample that is empty where a rater drew nothing is
    right.

    Args:
        samples: masks of one structure per image, 0 and 1; an array ``[image, N, *space]`` or a
            sequence of arrays.
        raters: the masks of its raters; their number may differ between images.

    Raises:
        SegprefError: no mask, values other than 0 and 1, or masks that do not lie on one grid.
    """
    if len(samples) != len(raters):
        raise SegprefError(
            f"samples of {len(samples)} images cannot be compared with raters of {len(raters)}: give "
            "both of the same images, in the same order"
        )
    measured = [np.empty((len(fields(AmbiguityScores)), 0))]
    # Images of one kind together, but so few that their bits stay in the processor's cache.
    for _, run in groupby(range(len(samples)), lambda i: (samples[i].shape, raters[i].shape)):
        alike = list(run)
        for first in range(0, len(alike), _TOGETHER):
            few = alike[first : first + _TOGETHER]
            measured.append(_measure([samples[i] for i in few], [raters[i] for i in few]))
    return AmbiguityScores(*np.concatenate(measured, axis=1))


def pairwise_overlap(
    masks: UInt8[np.ndarray, "M *space"],
) -> tuple[Float[np.ndarray, "M M"], Float[np.ndarray, "M M"]]:
    """Dice and IoU between all masks, 0 and 1; 1 for two empty ones."""
    dice, iou = _overlap(_words(_bits(masks)[None]))
    return dice[0], iou[0]


def _measure(
    samples: Sequence[UInt8[np.ndarray, "N *space"]],
    raters: Sequence[UInt8[np.ndarray, "R *space"]],
) -> Float[np.ndarray, "measure B"]:
    ours_shape, theirs_shape = samples[0].shape, raters[0].shape
    n = ours_shape[0]
    if not n or not theirs_shape[0] or ours_shape[1:] != theirs_shape[1:]:
        raise SegprefError(
            f"samples of shape {ours_shape} cannot be compared with raters of shape {theirs_shape}: "
            "give at least one mask of either, on one grid"
        )
    highest = max(masks.max(initial=0) for masks in (*samples, *raters))
    if highest > 1:
        raise SegprefError(
            f"a mask holds the value {highest} where 0 and 1 are expected: cut masks of one "
            f"structure, and "
            "leave out raters who did not annotate the image"
        )
    both = zip(samples, raters, strict=True)
    packed = _words(np.stack([np.concatenate([_bits(s), _bits(g)]) for s, g in both]))
    dice, iou = _overlap(packed)
    ours, theirs, between = dice[:, :n, :n], dice[:, n:, n:], dice[:, :n, n:]
    sensitivity = _combined_sensitivity(packed[:, :n], packed[:, n:])
    d_max = between.max(axis=1).mean(axis=1)
    agreement = _diversity_agreement(ours, theirs)
    return np.stack(
        [
            _energy_distance(dice, n),
            _energy_distance(iou, n),
            sensitivity,
            d_max,
            agreement,
            _harmonic_mean(np.stack([sensitivity, d_max, agreement])),
            between.mean(axis=(1, 2)),
            iou[:, :n, n:].mean(axis=(1, 2)),
            np.array([_matched(one) for one in iou[:, :n, n:]]),
        ]
    )


def _bits(masks: UInt8[np.ndarray, "M *space"]) -> UInt8[np.ndarray, "M byte"]:
    return np.packbits(masks.reshape(len(masks), -1), axis=-1)


def _words(packed: UInt8[np.ndarray, "B M byte"]) -> UInt64[np.ndarray, "B M word"]:
    """Eight bytes at a time; without those in which no mask marks anything, which add nothing."""
    somewhere = np.flatnonzero(np.bitwise_or.reduce(packed, axis=(0, 1)))
    marked = np.take(packed, somewhere, axis=-1)
    spare = -marked.shape[-1] % 8
    whole = np.pad(marked, ((0, 0), (0, 0), (0, spare))) if spare else marked
    words: UInt64[np.ndarray, "B M word"] = np.ascontiguousarray(whole).view(np.uint64)
    return words


def _ones(packed: UInt64[np.ndarray, "*n word"]) -> Int64[np.ndarray, "*n"]:
    return np.asarray(np.bitwise_count(packed).sum(axis=-1, dtype=np.int64))


def _overlap(
    packed: UInt64[np.ndarray, "B M word"],
) -> tuple[Float[np.ndarray, "B M M"], Float[np.ndarray, "B M M"]]:
    """Dice and IoU between all masks of each image."""
    images, count = packed.shape[:2]
    both = np.zeros((images, count, count), dtype=np.int64)
    # One mask against all at a time: all pairs at once would need room for M copies of the masks.
    for row in range(count):
        both[:, row, row:] = _ones(packed[:, row, None] & packed[:, row:])
        both[:, row:, row] = both[:, row, row:]
    sizes = np.diagonal(both, axis1=1, axis2=2)
    total = sizes[:, :, None] + sizes[:, None, :]
    return _ratio(2 * both, total), _ratio(both, total - both)


def _energy_distance(overlap: Float[np.ndarray, "B M M"], n: int) -> Float[np.ndarray, " B"]:
    # Distances are 1 - overlap; the ones cancel, which is Proposition 1.
    ours, theirs, between = overlap[:, :n, :n], overlap[:, n:, n:], overlap[:, :n, n:]
    within = ours.mean(axis=(1, 2)) + theirs.mean(axis=(1, 2))
    return np.asarray(within - 2 * between.mean(axis=(1, 2)))


def _combined_sensitivity(
    samples: UInt64[np.ndarray, "B N word"], raters: UInt64[np.ndarray, "B R word"]
) -> Float[np.ndarray, " B"]:
    marked = np.bitwise_or.reduce(raters, axis=1)
    wanted = _ones(marked)
    found = _ones(np.bitwise_or.reduce(samples, axis=1) & marked)
    return np.where(wanted > 0, found / np.maximum(wanted, 1), np.nan)


def _diversity_agreement(
    ours: Float[np.ndarray, "B N N"], theirs: Float[np.ndarray, "B R R"]
) -> Float[np.ndarray, " B"]:
    return np.asarray(1 - np.abs(_range(ours) - _range(theirs)).sum(axis=0) / 2)


def _range(dice: Float[np.ndarray, "B n n"]) -> Float[np.ndarray, "2 B"]:
    """Least and greatest dissimilarity of two different masks."""
    rows, columns = np.triu_indices(dice.shape[1], 1)
    if not len(rows):
        return np.zeros((2, len(dice)))
    different = 1 - dice[:, rows, columns]
    return np.stack([different.min(axis=1), different.max(axis=1)])


def _harmonic_mean(parts: Float[np.ndarray, "part B"]) -> Float[np.ndarray, " B"]:
    """NaN where a part is NaN, 0 where one is 0."""
    inverse = (1 / np.where(parts == 0, 1, parts)).sum(axis=0)
    return np.asarray(np.where((parts == 0).any(axis=0), 0.0 * inverse, len(parts) / inverse))


def _matched(iou: Float[np.ndarray, "N R"]) -> float:
    count = lcm(*iou.shape)
    repeated = np.repeat(np.repeat(iou, count // len(iou), 0), count // iou.shape[1], 1)
    return float(repeated[optimize.linear_sum_assignment(repeated, maximize=True)].mean())


def _ratio(
    part: Int64[np.ndarray, "*n"], whole: Int64[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n"]:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def _mean(values: Float[np.ndarray, " image"]) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else float("nan")
