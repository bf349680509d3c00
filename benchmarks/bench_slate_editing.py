"""Editing a slate: everything shared and on crops, against the same edits one candidate at a time.

The usual version makes every candidate from the anchor and the logits alone: components and holes by
MONAI's transforms, distances by SciPy, area quantiles by NumPy. It is told the settings that ours
chose, and both must end with the same masks. Network passes are no part of either.
"""

from __future__ import annotations

import time

import numpy as np
from monai.transforms import FillHoles, KeepLargestConnectedComponent
from scipy import ndimage

from segpref.proposals import (
    AreaQuantile,
    CleanedExtremes,
    CleanedOffset,
    HoleFilling,
    LargestComponent,
    ProposalContext,
    UniformOffset,
    draw,
    lean_families,
)
from segpref.types import Candidate, LabelSpace

__all__ = ["main"]

IMAGES, K = 5, 32
NO_LIMIT = 1e9
AT_LEAST = 10.0
CHEST = LabelSpace(
    "multi-label", ("left lung", "right lung", "heart", "left clavicle", "right clavicle")
)
CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
# Without limits a hole means the same as in MONAI.
FAMILIES = (
    HoleFilling(relative=(NO_LIMIT,), cap=1.0),
    LargestComponent(fractions=(1.0,), relative=NO_LIMIT, cap=1.0),
    AreaQuantile(),
    UniformOffset(),
    CleanedOffset(),
    CleanedExtremes(),
)
LARGEST = KeepLargestConnectedComponent(
    applied_labels=range(len(CHEST.names)), is_onehot=True, independent=True
)
FILL = FillHoles(applied_labels=range(1, len(CHEST.names) + 1), connectivity=1)


def main() -> None:
    """Print the medians of both and their ratio, and the time of a whole slate at 256 x 256."""
    rng = np.random.default_rng(0)
    ours, usual = [], []
    for number in range(IMAGES):
        logits = chest_logits(rng)
        anchor = (logits > 0).astype(np.uint8)
        start = time.perf_counter()
        slate, _ = draw(
            ProposalContext(logits, anchor, CHEST, rng=np.random.default_rng(number)), FAMILIES, K
        )
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        masks = np.stack([one_at_a_time(logits, anchor, made) for made in slate.candidates])
        usual.append(time.perf_counter() - start)
        np.testing.assert_array_equal(slate.masks, masks)
    fast, slow = np.median(ours), np.median(usual)
    print(
        f"slate editing: K = {K}, 512 x 512 x {CHEST.fields} structures, identical masks, medians"
    )
    print(f"{'':14}{'ours':>12}{'usual':>12}{'ratio':>9}{'at least':>9}")
    print(f"{'time':14}{fast * 1e3:9.1f} ms{slow * 1e3:9.1f} ms{slow / fast:9.1f}{AT_LEAST:9.1f}")
    taken = [_seconds_of_a_label_map(rng) for _ in range(4 * IMAGES)]
    print(
        f"all families, K = {K}, 256 x 256, {CARDIAC.channels} classes: "
        f"{np.median(taken) * 1e3:.1f} ms an image"
    )


def one_at_a_time(logits: np.ndarray, anchor: np.ndarray, made: Candidate) -> np.ndarray:
    """One candidate from the anchor, the logits and its settings, by MONAI, SciPy and NumPy."""
    settings = {name: float(value) for name, value in made.settings.items()}
    match made.family:
        case "anchor":
            return anchor
        case "hole-filling":
            return _filled(anchor)
        case "largest-component":
            return _filled(_largest(anchor))
        case "area-quantile":
            return _scaled(logits, anchor, settings["scale"])
        case "uniform-offset":
            return _moved(anchor, settings["offset_voxels"])
        case "topology+offset":
            return _moved(_cleaned(anchor), settings["offset_voxels"])
        case "extreme+topology" if "scale" in settings:
            return _cleaned(_scaled(logits, anchor, settings["scale"]))
        case "extreme+topology":
            return _cleaned(_moved(anchor, settings["offset_voxels"]))
    raise AssertionError(made.family)


def _largest(mask: np.ndarray) -> np.ndarray:
    # It works in place.
    return np.asarray(LARGEST(mask.copy()), np.uint8)


def _filled(mask: np.ndarray) -> np.ndarray:
    # MONAI takes channel 0 for the background and leaves it alone.
    return np.asarray(FILL(np.concatenate([np.zeros_like(mask[:1]), mask])), np.uint8)[1:]


def _cleaned(mask: np.ndarray) -> np.ndarray:
    """As in the compositions, where holes have limits: 0.5 of the structure, 0.02 of the image."""
    kept = _largest(mask)
    filled = _filled(kept)
    for before, after in zip(kept, filled, strict=True):
        holes, _ = ndimage.label(after != before)
        sizes = np.bincount(holes.ravel())
        large = sizes > min(0.5 * np.count_nonzero(before), 0.02 * before.size)
        large[0] = False
        after[large[holes]] = 0
    return filled


def _scaled(logits: np.ndarray, anchor: np.ndarray, scale: float) -> np.ndarray:
    masks = []
    for logit, mask in zip(logits, anchor, strict=True):
        count = min(max(1, round(scale * np.count_nonzero(mask))), mask.size)
        masks.append(logit >= np.partition(logit, -count, axis=None)[-count])
    return np.stack(masks).astype(np.uint8)


def _moved(mask: np.ndarray, distance: float) -> np.ndarray:
    moved = []
    for structure in mask:
        if distance > 0:
            moved.append(ndimage.distance_transform_edt(structure == 0) <= distance)
        else:
            moved.append(ndimage.distance_transform_edt(structure) > -distance)
    return np.stack(moved).astype(np.uint8)


def chest_logits(rng: np.random.Generator, size: int = 512) -> np.ndarray:
    """Five overlapping ellipses under smooth noise, which tears holes and leaves fragments."""
    rows, columns = np.mgrid[:size, :size] / size
    ellipses = (
        (0.5, 0.7, 0.32, 0.15),
        (0.5, 0.3, 0.32, 0.15),
        (0.62, 0.55, 0.16, 0.15),
        (0.2, 0.68, 0.03, 0.14),
        (0.2, 0.32, 0.03, 0.14),
    )
    clean = [
        4 - 4 * np.hypot((rows - y) / height, (columns - x) / width)
        for y, x, height, width in ellipses + rng.normal(0, 0.01, (5, 4)) * (1, 1, 0, 0)
    ]
    return _with_noise(np.stack(clean), rng, size / 50, 0.9)


def cardiac_logits(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """Background, right ventricle, ring and left ventricle under smooth noise."""
    rows, columns = np.mgrid[:size, :size] / size
    y, x = 0.5 + rng.normal(0, 0.03, 2)
    radius = np.hypot(rows - y, columns - x)
    right = 0.08 - 1.2 * np.hypot(rows - y, columns - x + 0.15)
    clean = np.stack([np.zeros_like(radius), right, 0.015 - np.abs(radius - 0.085), 0.07 - radius])
    return _with_noise(120 * clean, rng, size / 64, 1.2)


def _with_noise(
    clean: np.ndarray, rng: np.random.Generator, sigma: float, strength: float
) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(clean.shape), (0, sigma, sigma))
    return (clean + strength * noise / noise.std()).astype(np.float32)


def _seconds_of_a_label_map(rng: np.random.Generator) -> float:
    """A slate of all families; the passes of dropout and augmentation are made up and not timed."""
    logits = cardiac_logits(rng)
    passes = [_with_noise(logits, rng, 4.0, 1.0).argmax(0)[None].astype(np.uint8) for _ in range(8)]
    predictions = {"dropout": np.stack(passes[:6]), "dropout-mean": passes[6], "tta": passes[7]}
    anchor = logits.argmax(0)[None].astype(np.uint8)
    start = time.perf_counter()
    draw(
        ProposalContext(logits, anchor, CARDIAC, (1.5, 1.5), predictions, rng),
        lean_families(CARDIAC),
        K,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
