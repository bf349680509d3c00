"""Ambiguity measures of many samples against several raters: ours against loops over pairs.

Two loops stand beside ours. One takes every measure as its formula is written, masks two by two; the
other looks at each pair of masks once and shares its overlap. Ours counts the overlaps of a batch of
images on packed bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from itertools import combinations, product
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment

from segpref.metrics import AmbiguityScores, ambiguity_scores

__all__ = ["main"]

IMAGES, SAMPLES, RATERS, SIZE = 1000, 16, 4, 128
ROUNDS, LOOPED = 5, 20
TARGET = 50

Overlap: TypeAlias = Callable[[int, int], tuple[float, float]]
"""Dice and IoU of two masks of an image, by their places."""


def main() -> None:
    """Print the time per image of all three, and how many times faster ours is."""
    masks = _masks(np.random.default_rng(0))
    samples, raters = masks[:, :SAMPLES], masks[:, SAMPLES:]
    taken = []
    for number in range(ROUNDS):
        some = slice(number * LOOPED, (number + 1) * LOOPED)
        start = time.perf_counter()
        found = ambiguity_scores(samples, raters)
        times = [(time.perf_counter() - start) / IMAGES]
        for shared in (False, True):
            start = time.perf_counter()
            expected = [_looped(one.astype(bool), shared) for one in masks[some]]
            times.append((time.perf_counter() - start) / LOOPED)
            _equal(found, expected, number * LOOPED)
        taken.append(times)
    print(
        f"ambiguity measures: {IMAGES} images of {SIZE} x {SIZE}, {SAMPLES} samples, {RATERS} raters; "
        f"loops on {LOOPED} of them; medians of {ROUNDS}, equal to 1e-6"
    )
    print(f"{'':28}{'per image':>12}{'ours faster':>14}{'at least':>10}")
    ours = np.array(taken)[:, 0]
    names = ("ours", "loops, as formulas are", "loops, each pair once")
    for name, times in zip(names, np.transpose(taken), strict=True):
        told = f"{np.median(times) * 1e3:9.3f} ms"
        if name != "ours":
            told += f"{np.median(times / ours):14.1f}" + f"{TARGET if 'as' in name else '':>10}"
            told += f"   ({min(times / ours):.1f} to {max(times / ours):.1f})"
        print(f"{name:28}{told}")


def _looped(masks: UInt8[np.ndarray, "M row column"], shared: bool) -> list[float]:
    """All measures of one image, in the order of ``AmbiguityScores``."""

    def overlap(a: int, b: int) -> tuple[float, float]:
        both = np.count_nonzero(masks[a] & masks[b])
        total = np.count_nonzero(masks[a]) + np.count_nonzero(masks[b])
        return (2 * both / total, both / (total - both)) if total else (1.0, 1.0)

    once = cache(overlap)
    pair: Overlap = (lambda a, b: once(min(a, b), max(a, b))) if shared else overlap
    ours, theirs = range(SAMPLES), range(SAMPLES, SAMPLES + RATERS)
    marked = masks[SAMPLES:].any(axis=0)
    covered = (masks[:SAMPLES].any(axis=0) & marked).sum() / marked.sum()
    best = np.mean([max(pair(a, b)[0] for a in ours) for b in theirs])
    (low, high), (least, greatest) = _apart(pair, ours), _apart(pair, theirs)
    agreement = 1 - (abs(low - least) + abs(high - greatest)) / 2
    below = covered * best + best * agreement + covered * agreement
    matched = np.repeat([[pair(a, b)[1] for b in theirs] for a in ours], SAMPLES // RATERS, axis=1)
    return [
        _ged(pair, 0),
        _ged(pair, 1),
        covered,
        float(best),
        agreement,
        3 * covered * best * agreement / below if below else 0.0,
        float(np.mean([pair(a, b)[0] for a, b in product(ours, theirs)])),
        float(np.mean([pair(a, b)[1] for a, b in product(ours, theirs)])),
        matched[linear_sum_assignment(matched, maximize=True)].mean(),
    ]


def _ged(pair: Overlap, measure: int) -> float:
    ours, theirs = range(SAMPLES), range(SAMPLES, SAMPLES + RATERS)
    between, within, among = (
        np.mean([1 - pair(a, b)[measure] for a, b in product(*sets)])
        for sets in ((ours, theirs), (ours, ours), (theirs, theirs))
    )
    return float(2 * between - within - among)


def _apart(pair: Overlap, places: range) -> tuple[float, float]:
    different = [1 - pair(a, b)[0] for a, b in combinations(places, 2)]
    return min(different), max(different)


def _equal(found: AmbiguityScores, expected: list[list[float]], first: int) -> None:
    names = AmbiguityScores.__slots__
    ours = np.stack([getattr(found, name)[first : first + len(expected)] for name in names], axis=1)
    np.testing.assert_allclose(ours, expected, atol=1e-6, rtol=0)


def _masks(rng: np.random.Generator) -> UInt8[np.ndarray, "image mask row column"]:
    """Blobs of an image that agree in their middle; every fifth mask is empty, as raters' are."""
    masks = np.zeros((IMAGES, SAMPLES + RATERS, SIZE, SIZE), np.uint8)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    noise = gaussian_filter(rng.standard_normal((64, SIZE, SIZE)), (0, 5, 5))
    noise /= noise.std()
    for image in masks:
        for mask in image:
            if rng.random() > 0.2:
                edge = rng.uniform(8, 30) + 4 * noise[rng.integers(len(noise))]
                mask[:] = np.hypot(y, x) < edge
        # Where nobody marks anything there is nothing to cover.
        if not image[SAMPLES:].any():
            image[-1, SIZE // 2, SIZE // 2] = 1
    return masks


if __name__ == "__main__":
    main()
