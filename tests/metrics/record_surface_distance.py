"""Record what DeepMind's surface-distance says of some masks: ``surface_distance.json`` beside it.

Run once, in an environment of its own with numpy, scipy and surface-distance 0.1 (no dependency of
segpref)::

    python record_surface_distance.py

The package was written for earlier versions of numpy and scipy, so names that it asks for are given
back to them first.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import ndimage

np.inf, np.nan = np.inf, np.nan
ndimage.filters = ndimage.morphology = ndimage

import surface_distance  # noqa: E402

CASES = (
    ((17, 14), (1.0, 1.0)),
    ((17, 14), (1.5, 0.7)),
    ((9, 11, 7), (1.0, 1.0, 1.0)),
    ((9, 11, 7), (1.0, 0.6, 3.0)),
)
TOLERANCES = (0.5, 1.2, 2.0)


def mask(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A ragged mask with several components, some at the border of the image."""
    coarse = np.random.default_rng(seed).integers(0, 100, [-(-n // 3) for n in shape])
    for axis in range(len(shape)):
        coarse = coarse.repeat(3, axis)
    fine = np.random.default_rng([seed, 1]).integers(0, 60, shape)
    return coarse[tuple(map(slice, shape))] + fine > 95


def main() -> None:
    """Write the record."""
    found = []
    for shape, spacing in CASES:
        for seed in range(3):
            truth, prediction = mask(seed, shape), mask(seed + 100, shape)
            told = surface_distance.compute_surface_distances(truth, prediction, spacing)
            found.append(
                {
                    "shape": shape,
                    "spacing": spacing,
                    "truth": np.flatnonzero(truth).tolist(),
                    "prediction": np.flatnonzero(prediction).tolist(),
                    "areas": [float(told[f"surfel_areas_{name}"].sum()) for name in ("gt", "pred")],
                    "average": list(
                        map(float, surface_distance.compute_average_surface_distance(told))
                    ),
                    "hausdorff_95": float(surface_distance.compute_robust_hausdorff(told, 95)),
                    "hausdorff": float(surface_distance.compute_robust_hausdorff(told, 100)),
                    "surface_dice": {
                        str(at): float(surface_distance.compute_surface_dice_at_tolerance(told, at))
                        for at in TOLERANCES
                    },
                }
            )
    record = {"made_by": "record_surface_distance.py with surface-distance 0.1", "masks": found}
    text = json.dumps(record).replace('{"shape"', '\n{"shape"')
    Path(__file__).with_name("surface_distance.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
