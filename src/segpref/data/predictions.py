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
from segpref.data.compact_logits import LogitFormat, packed_logits, unpacked_logits
from segpref.data.dataset import Dataset, Volume, item_of, part_of
from segpref.data.known_volumes import KnownVolumes, Place
from segpref.data.patches import foreground_places
from segpref.types import IGNORE, Case, LabelSpace, Predictor, SegprefError

__all__ = ["PredictionStore", "predict_ahead"]


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """What another process knows of a network whose predictions it finds in the cache."""

    label_space: LabelSpace

    def logits(self, images: Tensor) -> Tensor:
        """Nothing: there is no network here."""
        raise SegprefError("a prediction is gone from the cache while it is used: run it again")


class PredictionStore:
    """Logits, masks, or places in the foreground, by a frozen predictor, per case.

    Logits are kept in float32 unless said otherwise, so that the margin of an untouched policy is
    exactly zero. Of a case that is a patch, logits and masks are the patch's; masks are
    :data:`~segpref.types.IGNORE` where it reaches beyond the image.

    Args:
        predictor: the frozen network.
        what: ``logits [C, *space]``, ``masks [field, *space]``, or ``places [place, axis]``: voxels
            that patches are centred on (:func:`~segpref.data.patches.foreground_places`).
        cache: where they are kept.
        batch_size: cases per network pass.
        kept_as: in how many bits logits are kept (:mod:`~segpref.data.compact_logits`).
    """

    def __init__(
        self,
        predictor: Predictor,
        what: Literal["logits", "masks", "places"],
        cache: Cache,
        batch_size: int = 8,
        kept_as: LogitFormat = "float32",
    ) -> None:
        self.predictor = predictor
        self.what = what
        self._cache = cache
        self._batch_size = batch_size
        self._kept_as: LogitFormat = kept_as
        self._weights = ""
        self._known = KnownVolumes()
        self._arrays: dict[str, tuple[Place, dict[str, StoredArray]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads what was predicted (predict_ahead), and has no network.
        return {**vars(self), "predictor": _Elsewhere(self.predictor.label_space)}

    def prepare(self, dataset: Dataset) -> None:
        """Take in a dataset: each image is predicted, or found in the cache, when it is asked for.

        So a run that sees a part of a large pool does not wait for all of it to be predicted. The first
        image is predicted here: what the network can't take is found before any long work.
        """
        self._weights = self.predictor.digest()
        self._known.add(dataset)
        if dataset:
            self._of(dataset[0].volume)

    def __getitem__(self, case: Case) -> np.ndarray:
        """The array of one case; its dataset must have been prepared."""
        arrays = self._of(case.volume)
        if self._kept_as != "float32":
            found = unpacked_logits(arrays, item_of(case), self._kept_as)
            return found if case.window is None else case.window.cut(found, 0)
        array = arrays[self.what]
        if self.what == "places":
            return array[item_of(case)]
        return part_of(array, case, IGNORE if self.what == "masks" else 0)

    def predict(self, cases: Sequence[Case]) -> None:
        """Predict these cases now, so that they are in the cache."""
        for case in cases:
            self._of(case.volume)

    def batch(self, cases: Sequence[Case], images: Tensor) -> Tensor:
        """The arrays of several cases; their images are not looked at."""
        return torch.from_numpy(np.stack([self[case] for case in cases]))

    def _of(self, name: str) -> dict[str, StoredArray]:
        """The arrays of a volume; that of the other processes of a training is found in the cache."""
        place = self._known.place(name)
        known, arrays = self._arrays.get(name, (None, {}))
        # Another dataset may have an image of the same name.
        if known != place:
            volume = place.volume
            key = {"what": self.what, "weights": self._weights, "input": volume.key}
            if self._kept_as != "float32":
                key["as"] = self._kept_as
            arrays = self._cache.entry(key, partial(self._compute, volume))
            self._arrays[name] = place, arrays
        return arrays

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
        whole = np.concatenate(parts)
        return packed_logits(whole, self._kept_as) if self.what == "logits" else {self.what: whole}


def predict_ahead(judge: Any, cases: Sequence[Case]) -> None:
    """Have a judge predict images now, so that another process finds that in the cache.

    Judges predict an image when they first score it. Those that do have a method ``predict``, and those
    within others (``judge``, ``judges``) are asked, too.

    Args:
        judge: prepared for the images; one that predicts nothing is left as it is.
        cases: which.
    """
    if hasattr(judge, "predict"):
        judge.predict(cases)
    for one in getattr(judge, "judges", [judge.judge] if hasattr(judge, "judge") else []):
        predict_ahead(one, cases)
