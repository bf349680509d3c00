"""Patches of images that are larger than what a network sees at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32, UInt8

from segpref.checking import checked
from segpref.data.dataset import stored
from segpref.data.prepared import ImagePreparation
from segpref.types import IGNORE, Case, LabelSpace, SegprefError, Slate, Window

__all__ = ["LabelPlaces", "PatchDraw", "foreground_places", "slates_within", "within_image"]

PLACES = 1024
"""Voxels that are remembered of an image, shared evenly by its structures."""


@checked()
@dataclass(frozen=True)
class PatchDraw:
    """Draws one patch of every image, as the field does: often around foreground, else anywhere.

    Patches lie within the image where it is large enough, and around it where it is not: labels are
    :data:`~segpref.types.IGNORE` there.

    Args:
        preparation: of the images; its ``patch`` is the size.
        places: voxels ``[place, axis]`` in the foreground of a whole case, -1 where it has none.
        foreground: share of the patches that are centred on such a place, drawn by structure.
        mirroring: axes along which a random half of the patches is mirrored: those of a model that is
            used on mirrored views too, and must stay as good at them.
    """

    preparation: ImagePreparation
    places: Callable[[Case], Int32[np.ndarray, "place axis"]]
    foreground: float = 2 / 3
    mirroring: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.foreground <= 1:
            raise SegprefError(
                f"the share of patches around foreground must be from 0 to 1, not {self.foreground}"
            )

    def __call__(self, cases: Sequence[Case], keys: Sequence[int], seed: int) -> list[Case]:
        """One patch of each case; seed and the case's key determine where it lies."""
        return [
            self._patch(case, np.random.default_rng([seed, key]))
            for case, key in zip(cases, keys, strict=True)
        ]

    def _patch(self, case: Case, rng: np.random.Generator) -> Case:
        assert self.preparation.patch is not None
        # Of a large volume no more is read than the patch.
        image, label, raters = stored(case, "image"), stored(case, "label"), stored(case, "raters")
        assert image is not None
        window = self._window(case, image.shape[1:], rng, self.preparation.patch)
        beyond = any(n > full for n, full in zip(window.size, window.grid, strict=True))
        level = self.preparation.outside(image) if beyond else np.zeros(len(image))
        return replace(
            case,
            image=window.cut(image, level.reshape(-1, *[1] * len(window.size))),
            label=None if label is None else window.cut(label, IGNORE),
            raters=None if raters is None else window.cut(raters, IGNORE),
            affine=None,
            window=window,
        )

    def _window(
        self,
        case: Case,
        grid: tuple[int, ...],
        rng: np.random.Generator,
        size: tuple[int, ...],
    ) -> Window:
        bounds = [(min(0, full - n), max(0, full - n)) for full, n in zip(grid, size, strict=True)]
        start = [int(rng.integers(low, high + 1)) for low, high in bounds]
        if rng.random() < self.foreground:
            place = self.places(case)[rng.integers(PLACES)]
            if place.min() >= 0:
                start = [int(at) - n // 2 for at, n in zip(place, size, strict=True)]
        inner = [min(max(at, low), high) for at, (low, high) in zip(start, bounds, strict=True)]
        mirrored = tuple(axis for axis in self.mirroring if rng.random() < 0.5)
        return Window(tuple(inner), tuple(size), tuple(grid), mirrored)


def within_image(
    masks: UInt8[np.ndarray, "n field *space"], case: Case
) -> UInt8[np.ndarray, "n field *space"]:
    """Masks of a patch with what lies beyond the image out of Omega; of a whole case as they are."""
    window = case.window
    if window is None or all(
        part == slice(0, n) for part, n in zip(window.inside, window.size, strict=True)
    ):
        return masks
    kept = np.full_like(masks, IGNORE)
    kept[:, :, *window.inside] = masks[:, :, *window.inside]
    return kept


def slates_within(slates: Sequence[Slate], cases: Sequence[Case]) -> list[Slate]:
    """Slates with what lies beyond their images out of Omega."""
    return [
        replace(slate, masks=within_image(slate.masks, case))
        for slate, case in zip(slates, cases, strict=True)
    ]


class LabelPlaces:
    """Places in the foreground of the labels, looked for once per image.

    Args:
        label_space: what the labels mean.
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self._label_space = label_space
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, case: Case) -> Int32[np.ndarray, "place axis"]:
        """Voxels of the structures in a whole case's label."""
        if case.id not in self._known:
            assert case.label is not None
            self._known[case.id] = foreground_places(np.asarray(case.label), self._label_space)
        return self._known[case.id]


def foreground_places(
    mask: UInt8[np.ndarray, "field *space"], label_space: LabelSpace
) -> Int32[np.ndarray, "place axis"]:
    """Voxels of the structures of a mask, as many of each, with repeats; -1 where it is empty."""
    rng = np.random.default_rng(PLACES)
    # One structure at a time: all together may take more memory than the mask itself.
    found = [np.flatnonzero(part) for part in _structures(mask, label_space)]
    there = [voxels for voxels in found if len(voxels)]
    if not there:
        return np.full((PLACES, mask.ndim - 1), -1, np.int32)
    shares = np.arange(PLACES) % len(there)
    flat = np.array([there[share][rng.integers(len(there[share]))] for share in shares])
    return np.stack(np.unravel_index(flat, mask.shape[1:]), axis=1).astype(np.int32)


def _structures(mask: np.ndarray, space: LabelSpace) -> Iterator[np.ndarray]:
    if space.kind == "multi-label":
        yield from (field == 1 for field in mask)
    elif space.regions:
        yield from (np.isin(mask[0], region.values) for region in space.regions)
    else:
        yield from (mask[0] == value for value in range(1, len(space.names)))
