"""What a model says of its own masks: how sure it is, and how far it disagrees with itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

__all__ = ["OwnOpinion", "SelfAssessment", "confidence_of", "pairwise_disagreement"]

_BATCH = 8
"""Slices, or windows, that go through the network at once."""


@dataclass(frozen=True)
class OwnOpinion:
    """What a model says of its masks of a volume.

    Args:
        confidence: how sure it is; see :func:`confidence_of`.
        disagreement: one minus the mean pairwise Dice of several predictions; 0 where all are empty,
            NaN where there is one alone.
    """

    confidence: Float[np.ndarray, " structure"]
    disagreement: Float[np.ndarray, " structure"]


class SelfAssessment:
    """How sure a model is of each structure, and how far several of its predictions agree.

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
        self._count = reruns
        members = opened.policies()
        self._members: list[Policy] = [
            whole_images([one], self._preparation, opened.mirroring) for one in members
        ]
        self._single = members[0]

    def __call__(self, volume: Volume, items: Sequence[int]) -> OwnOpinion:
        """What the model says of a prepared volume."""
        rounds: list[list[np.ndarray]] = []
        plain: list[Tensor] = []
        for start in range(0, len(items), _BATCH):
            some = items[start : start + _BATCH]
            images = torch.from_numpy(np.asarray(volume.images[list(some)]))
            own = [one.logits(images) for one in self._members]
            # Folds of nnU-Net predict by the mean of their logits.
            plain.append(torch.stack([logits.float().cpu() for logits in own]).mean(dim=0))
            several = own if len(own) > 1 else self._reruns_of(images, volume, some)
            rounds.append([self._masks(logits) for logits in several])
        each = [np.concatenate(parts) for parts in zip(*rounds, strict=True)]
        return OwnOpinion(
            confidence_of(torch.cat(plain), self._space), pairwise_disagreement(each, self._space)
        )

    def _reruns_of(self, images: Tensor, volume: Volume, items: Sequence[int]) -> list[Tensor]:
        found = []
        for number in range(self._count):
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


def confidence_of(
    logits: Float[Tensor, "item C *space"], space: LabelSpace
) -> Float[np.ndarray, " structure"]:
    """Mean probability of the most likely answer over the voxels that are given to a structure.

    The probability is the largest of the softmax, or that of the structure where structures are
    independent. 0 where nothing is given to the structure: an empty mask has no voxel to be sure of.
    """
    parts = space.structure_masks(space.decode(logits).numpy(), field_axis=1).swapaxes(0, 1)
    if space.kind == "multi-label":
        each = torch.sigmoid(logits).numpy().swapaxes(0, 1)
    else:
        largest = torch.softmax(logits, dim=1).amax(dim=1).numpy()
        each = np.broadcast_to(largest, parts.shape)
    return np.array(
        [one[part].mean() if part.any() else 0.0 for one, part in zip(each, parts, strict=True)]
    )


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
