"""Reverse classification accuracy: a candidate is as good as what can be learned from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.judges.undrawn_structures import UndrawnStructures
from segpref.late import late
from segpref.metrics import iou, overlap_counts
from segpref.types import IGNORE, Case, LabelSpace, SegprefError, Slate

__all__ = ["ReverseClassificationJudge"]

ndimage = late("scipy.ndimage")

_SCALES = (0.0, 1 / 64, 1 / 16)
"""Widths of the Gaussians that smooth the intensities, as shares of the image's longest side."""


@checked(cases={"least": 1}, pixels={"least": 1}, features={"least": 1}, ridge={"above": 0})
class ReverseClassificationJudge:
    """Scores a candidate by how well a classifier that learned from it alone segments other images.

    For every candidate a classifier is made from (image, candidate) and applied to a reference set
    with labels; ``s(k) = max_r IoU(classifier_k(x_r), y_r)`` per structure (Valindria et al., 2017,
    who take the maximum over references, for the candidate's image resembles only some of them).

    Valindria et al. learn atlas forests, register atlases or train networks. Ours is lighter: a ridge
    regression on random Fourier features (Rahimi & Recht, 2007) of each pixel's intensity at three
    scales and its position. The features do not depend on the candidate, so all K classifiers are one
    linear system with K right-hand sides. A pixel belongs to the structure where the regression is
    above the level that as many pixels of the candidate's own image reach as the candidate holds.
    Images must be prepared alike, for positions are relative to the frame.

    Only references that hold the structure count, and never those of the case's own patient. Per
    field; of a multi-class mask the mean over the foreground structures that any candidate and any
    reference holds. A candidate without a structure that others hold scores 0 on it. Where no
    candidate holds it, or no reference can decide, all score NaN: reverse classification cannot tell
    whether a structure is rightly absent. Structures that no reference at all holds are named
    (:func:`~segpref.judges.note_undrawn_structures`). float32, counts exact.

    Args:
        reference: cases of which the labelled ones are taken, evenly over the set.
        patients: whose cases may be taken; all where None.
        cases: how many of them at most.
        pixels: how many pixels of an image are looked at, on a regular grid.
        features: number of random features.
        ridge: strength of the regularisation, relative to the features' mean square.
        over: ``best`` (the maximum over references) or ``mean``.

    Raises:
        SegprefError: no reference has a label, or a number that must be above 0 is not.
    """

    needs_label = False

    def __init__(
        self,
        reference: Dataset,
        patients: Sequence[str] | None = None,
        cases: int = 16,
        pixels: int = 4096,
        features: int = 96,
        ridge: float = 1e-3,
        over: Literal["best", "mean"] = "best",
    ) -> None:
        allowed = reference if patients is None else reference.of_patients(patients)
        labelled = allowed.labelled()
        if not len(labelled):
            raise SegprefError(
                "reverse classification needs references with labels, and none has one: name "
                "labelled cases"
            )
        self.label_space = reference.label_space
        self.ridge = ridge
        self.over = over
        self._pixels = pixels
        # Structures are learned one by one, whether or not they exclude each other.
        self._single = LabelSpace("multi-label", self.label_space.structures)
        chosen = np.linspace(0, len(labelled) - 1, min(cases, len(labelled))).round().astype(int)
        self._taken = labelled.take([int(i) for i in chosen])
        taken = list(self._taken)
        rng = np.random.default_rng(0)
        width = len(_SCALES) * taken[0].image.shape[0] + taken[0].image.ndim - 1
        self._frequencies = rng.standard_normal((width, features), dtype=np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, features).astype(np.float32)
        self._references = [
            _Reference(
                case.patient,
                self._describe(case.image),
                self._structures(np.asarray(case.label)[None])[0],
            )
            for case in taken
        ]
        self.labelled = tuple(sorted({case.patient for case in taken}))
        self._silence = UndrawnStructures(self.label_space)

    def digest(self) -> str:
        """Name of the references' images and labels."""
        return self._taken.digest()

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        return self._silence.structures

    def find_silence(self, dataset: Dataset) -> bool:
        """Find the structures that no reference holds; other images play no part in it."""
        held = np.array([(one.label == 1).any(axis=1) for one in self._references]).sum(axis=0)
        self._silence.conclude(found=held[None], due=held[None])
        return True

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Best overlap that each candidate's classifier reaches on the references."""
        masks = self._structures(slate.masks)
        held = (masks == 1).any(axis=(0, 2))
        found = self._overlaps(case, masks)
        if self.label_space.kind == "multi-label":
            return np.where(held, found, np.nan)
        valid = held & ~np.isnan(found[0])
        if not valid.any():
            return np.full((len(slate), 1), np.nan)
        return np.asarray(found[:, valid].mean(axis=1, keepdims=True))

    def _overlaps(
        self, case: Case, masks: UInt8[np.ndarray, "K structure pixel"]
    ) -> Float[np.ndarray, "K structure"]:
        """Reverse accuracy of every structure; NaN where no reference holds it."""
        features = self._describe(case.image)
        weights, level = self._learn(features, (masks == 1).reshape(-1, masks.shape[-1]))
        rows = []
        for reference in self._references:
            if reference.patient == case.patient:
                continue
            answer = weights @ reference.features.T >= level
            predicted = answer.reshape(*masks.shape[:2], -1).astype(np.uint8)
            counts = overlap_counts(predicted, reference.label, self._single)
            rows.append(np.where(counts.true > 0, iou(counts), np.nan))
        if not rows:
            return np.full(masks.shape[:2], np.nan)
        each = np.stack(rows)
        valid = ~np.isnan(each)
        known = valid.any(axis=0)
        if self.over == "best":
            return np.where(known, np.where(valid, each, -1).max(axis=0), np.nan)
        return np.where(
            known, np.where(valid, each, 0).sum(0) / np.maximum(valid.sum(0), 1), np.nan
        )

    def _learn(
        self,
        features: Float[np.ndarray, "pixel feature"],
        targets: Bool[np.ndarray, "target pixel"],
    ) -> tuple[Float[np.ndarray, "target feature"], Float[np.ndarray, "target 1"]]:
        """Weights of all classifiers, and the level above which a pixel belongs."""
        pixels = len(features)
        gram = (features.T @ features).astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.ridge * np.trace(gram) / len(gram)
        moments = targets.astype(np.float32) @ features
        weights = np.linalg.solve(gram, moments.T.astype(np.float64)).T.astype(np.float32)
        ranked = np.sort(weights @ features.T, axis=1)
        held = targets.sum(axis=1, keepdims=True)
        level = np.take_along_axis(ranked, np.minimum(pixels - held, pixels - 1), axis=1)
        return weights, np.where(held > 0, level, np.inf)

    def _describe(
        self, image: Float[np.ndarray, "channel *space"]
    ) -> Float[np.ndarray, "pixel feature"]:
        """Random Fourier features of the pixels on the grid, and a constant."""
        grid = self._grid(image.shape[1:])
        longest = max(image.shape[1:])
        columns = []
        for channel in np.asarray(image, dtype=np.float32):
            scaled = (channel - channel.mean()) / max(float(channel.std()), 1e-6)
            for width in _SCALES:
                smooth = ndimage.gaussian_filter(scaled, width * longest) if width else scaled
                columns.append(smooth[grid].ravel())
        # Positions spread as widely as the intensities: variance 1 over the frame.
        sides = [
            np.linspace(-1, 1, n, dtype=np.float32)[step]
            for n, step in zip(image.shape[1:], grid, strict=True)
        ]
        columns += [
            axis.ravel() * np.float32(3**0.5) for axis in np.meshgrid(*sides, indexing="ij")
        ]
        phases = np.stack(columns, axis=1) @ self._frequencies + self._phases
        return np.concatenate([np.cos(phases), np.ones_like(phases[:, :1])], axis=1)

    def _structures(
        self, masks: UInt8[np.ndarray, "K field *space"]
    ) -> UInt8[np.ndarray, "K structure pixel"]:
        """Binary masks of the structures on the grid; :data:`~segpref.types.IGNORE` stays."""
        grid = (slice(None), slice(None), *self._grid(masks.shape[2:]))
        sampled = masks[grid].reshape(*masks.shape[:2], -1)
        single = self.label_space.structure_masks(sampled, field_axis=1).astype(np.uint8)
        return np.where(sampled == IGNORE, np.uint8(IGNORE), single)

    def _grid(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        step = max(1, round((np.prod(shape) / self._pixels) ** (1 / len(shape))))
        return (slice(step // 2, None, step),) * len(shape)


@dataclass(frozen=True, slots=True)
class _Reference:
    patient: str
    features: Float[np.ndarray, "pixel feature"]
    label: UInt8[np.ndarray, "structure pixel"]
