"""How far a model disagrees with itself: its folds, or its reruns with dropout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.data.dataset import Volume
from segpref.inference.sliding import WindowedNetwork
from segpref.inference.windows import whole_images
from segpref.metrics import dice, overlap_counts
from segpref.policies import TunablePolicy
from segpref.policies.model_formats import OpenModel
from segpref.types import LabelSpace, Policy

__all__ = ["SelfDisagreement", "pairwise_disagreement"]

_BATCH = 8
"""Slices, or windows, that go through the network at once."""


class SelfDisagreement:
    """One minus the mean pairwise Dice of several predictions of a model, per structure.

    The predictions are those of its folds where it has several; else reruns with the network's own
    dropout, each from a seed of image and number. A network without dropout layers in its last stage
    tells nothing (NaN). Pairwise Dice is the score that Zenk et al. (Medical Image Analysis 101, 2025)
    found best for the detection of failures, there of ensembles.

    Args:
        opened: the model.
        reruns: with dropout, at least 2.
    """

    def __init__(self, opened: OpenModel, reruns: int) -> None:
        self._preparation, self._space = opened.card.preparation, opened.card.label_space
        self._reruns = reruns
        members = opened.policies()
        self._folds: list[Policy] = []
        self._single = members[0]
        if len(members) > 1:
            mirroring = opened.mirroring
            self._folds = [whole_images([one], self._preparation, mirroring) for one in members]

    def __call__(self, volume: Volume, items: Sequence[int]) -> Float[np.ndarray, " structure"]:
        """Of a prepared volume; 0 where all predictions are empty, NaN where there is one alone."""
        rounds: list[list[np.ndarray]] = []
        for start in range(0, len(items), _BATCH):
            some = items[start : start + _BATCH]
            images = torch.from_numpy(np.asarray(volume.images[list(some)]))
            rounds.append([self._masks(logits) for logits in self._logits(images, volume, some)])
        each = [np.concatenate(parts) for parts in zip(*rounds, strict=True)]
        return pairwise_disagreement(each, self._space)

    def _logits(self, images: Tensor, volume: Volume, items: Sequence[int]) -> list[Tensor]:
        if self._folds:
            return [fold.logits(images) for fold in self._folds]
        found = []
        for number in range(self._reruns):
            seeds = [crc32(f"{volume.source.id} {item} {number}".encode()) for item in items]
            logits = self._rerun(images, seeds)
            if logits is None:
                return []
            found.append(logits)
        return found

    def _rerun(self, images: Tensor, seeds: Sequence[int]) -> Tensor | None:
        model, fixed = self._single, self._preparation.size or self._preparation.crop
        if fixed and self._preparation.patch is None:
            state = model.forward(images)
            logits = model.dropout_logits(state, 1, None, seeds)
            return None if logits is None else logits[0]
        run = _Rerun(model, seeds[0])
        logits = WindowedNetwork(run, self._preparation, batch_size=_BATCH)(images)
        return None if run.silent else logits

    def _masks(self, logits: Tensor) -> UInt8[np.ndarray, "item field *space"]:
        return self._space.decode(logits).cpu().numpy()


class _Rerun:
    """A model with dropout whose masks are those of a seed and of the number of the pass."""

    def __init__(self, model: TunablePolicy, seed: int) -> None:
        self.label_space = model.label_space
        self.silent = False
        self._model, self._seed = model, seed

    def logits(self, images: Tensor) -> Tensor:
        seeds = [self._seed + place for place in range(len(images))]
        self._seed += len(images)
        state = self._model.forward(images)
        found = self._model.dropout_logits(state, 1, None, seeds)
        self.silent = found is None
        return state.logits if found is None else found[0]

    def digest(self) -> str:
        return self._model.digest()


def pairwise_disagreement(
    each: Sequence[UInt8[np.ndarray, "item field *space"]], space: LabelSpace
) -> Float[np.ndarray, " structure"]:
    """One minus the mean Dice of two of several masks of a volume; NaN below two.

    Empty against empty is 1, so where all lack a structure they agree.
    """
    if len(each) < 2:
        return np.full(len(space.structures), np.nan)
    flat = [mask.swapaxes(0, 1) for mask in each]
    found = [dice(overlap_counts(a[None], b, space))[0] for a, b in combinations(flat, 2)]
    return np.asarray(1 - np.mean(found, axis=0))
