"""Predictions of a frozen network for every case, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from segpref.data.array_files import StoredArray
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset, Volume, item_of, part_of
from segpref.data.patches import foreground_places
from segpref.progress import track
from segpref.runtime import runtime
from segpref.types import IGNORE, Case, LabelSpace, Predictor

__all__ = ["PredictionStore"]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What another process knows of a network whose predictions were made before."""

    label_space: LabelSpace


class PredictionStore:
    """Logits, masks, or places in the foreground, by a frozen predictor, per case.

    Logits are kept in float32, so that the margin of an untouched policy is exactly zero. Of a case
    that is a patch, logits and masks are the patch's; masks are :data:`~segpref.types.IGNORE` where it
    reaches beyond the image.

    Args:
        predictor: the frozen network.
        what: ``logits [C, *space]``, ``masks [field, *space]``, or ``places [place, axis]``: voxels
            that patches are centred on (:func:`~segpref.data.patches.foreground_places`).
        cache: where they are kept.
        batch_size: cases per network pass.
    """

    def __init__(
        self,
        predictor: Predictor,
        what: Literal["logits", "masks", "places"],
        cache: Cache,
        batch_size: int = 8,
    ) -> None:
        self.predictor = predictor
        self.what = what
        self._cache = cache
        self._batch_size = batch_size
        self._arrays: dict[str, tuple[dict[str, Any], StoredArray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads what was prepared, and has no network.
        return {**vars(self), "predictor": _Prepared(self.predictor.label_space)}

    def prepare(self, dataset: Dataset) -> None:
        """Compute what is missing for all volumes of the dataset."""
        digest = self.predictor.digest()
        # Another dataset may have an image of the same name: the key distinguishes them.
        wanted = [(volume, self._key(volume, digest)) for volume, _ in dataset.by_volume()]
        missing = [
            (volume, key)
            for volume, key in wanted
            if self._arrays.get(volume.source.id, ({}, None))[0] != key
        ]
        todo = sum(not self._cache.has(key) for _, key in missing)
        # Of several processes each predicts its part, and finds that of the others in the cache.
        turns = runtime().own_first(missing)
        steps = track(turns, f"predicting {self.what}", len(missing)) if todo else turns
        for volume, key in steps:
            found = self._cache.entry(key, partial(self._compute, volume))
            self._arrays[volume.source.id] = key, found[self.what]

    def __getitem__(self, case: Case) -> np.ndarray:
        """The array of one case; its dataset must have been prepared."""
        _, array = self._arrays[case.volume]
        if self.what == "places":
            return array[item_of(case)]
        return part_of(array, case, IGNORE if self.what == "masks" else 0)

    def batch(self, cases: Sequence[Case], images: Tensor) -> Tensor:
        """The arrays of several cases; their images are not looked at."""
        return torch.from_numpy(np.stack([self[case] for case in cases]))

    def _key(self, volume: Volume, digest: str) -> dict[str, Any]:
        return {"what": self.what, "weights": digest, "input": volume.key}

    def _compute(self, volume: Volume) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(volume.images), self._batch_size):
            images = torch.from_numpy(np.array(volume.images[start : start + self._batch_size]))
            logits = self.predictor.logits(images)
            if self.what == "logits":
                parts.append(logits.float().cpu().numpy())
                continue
            masks = self.predictor.label_space.decode(logits).cpu().numpy()
            if self.what == "places":
                space = self.predictor.label_space
                masks = np.stack([foreground_places(mask, space) for mask in masks])
            parts.append(masks)
        return {self.what: np.concatenate(parts)}
