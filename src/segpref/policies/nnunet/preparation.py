"""nnU-Net's own preprocessing: transpose, crop to what is not zero, normalise, resample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.data.prepared import Prepared
from segpref.policies.nnunet.library import Managers, managers, nnunet
from segpref.types import IGNORE, Case, SegprefError, Sliceable, known_spacing

if TYPE_CHECKING:
    from segpref.policies.nnunet.prediction import NnUNetPrediction
    from segpref.policies.tunable import TunablePolicy

__all__ = ["NnUNetPreparation"]

_REVERSED = ("SimpleITKIO", "NibabelIO")
"""Readers that give (z, y, x) where nibabel gives (x, y, z)."""
_PICTURES = ("NaturalImage2DIO",)
_BETWEEN_PICTURES = 999.0
"""What nnU-Net takes for the distance of the one slice of a picture from the next."""


@dataclass(frozen=True)
class NnUNetPreparation:
    """A :class:`~segpref.data.Preparation` that is nnU-Net's preprocessor.

    The grid is nnU-Net's: axes as ``transpose_forward`` orders them, cropped to where the image is
    not zero, resampled to the configuration's spacing. Volumes keep sizes of their own, so a network
    sees patches of them. A configuration in 2D gives one item per slice.

    Args:
        plans: content of ``plans.json``.
        dataset: content of ``dataset.json``.
        configuration: such as ``3d_fullres``.
    """

    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    configuration: str

    size = None
    crop = None

    @property
    def managers(self) -> Managers:
        """nnU-Net's managers of plans, configuration and labels."""
        return managers(self.plans, self.dataset, self.configuration)

    @property
    def patch(self) -> tuple[int, ...]:
        """Voxels of what the network sees at once."""
        return tuple(int(n) for n in self.managers.configuration.patch_size)

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.patch)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel size of the grid, in the order of its axes."""
        return tuple(float(step) for step in self.managers.configuration.spacing)

    def as_key(self) -> dict[str, Any]:
        """What identifies the preparation in the cache and in a model file."""
        return asdict(self)

    def outside(self, image: np.ndarray | Sliceable) -> Float[np.ndarray, " channel"]:
        """What a prepared image is padded with, as nnU-Net does: zeros."""
        return np.zeros(image.shape[0], np.float32)

    @classmethod
    def from_key(cls, key: Mapping[str, Any]) -> NnUNetPreparation:
        """The preparation back from :meth:`as_key`."""
        return cls(**key)

    def apply(self, case: Case) -> Prepared:
        """Network inputs of a whole case, equal to what nnU-Net makes of its files.

        Labels: what nnU-Net ignores is :data:`~segpref.types.IGNORE`; what it marks as outside the
        image (-1) is background, as in its training.

        Raises:
            SegprefError: the plans read images with a class that turns or scales them.
        """
        known = self.managers
        image, spacing = self.as_read(case.image, case)
        label = None
        if case.label is not None:
            ignored = known.labels.ignore_label
            label = self.as_read(case.label.astype(np.float32), case)[0]
            if ignored is not None:
                label[label == IGNORE] = ignored
        preprocessor = known.configuration.preprocessor_class(verbose=False)
        data, masks, _ = preprocessor.run_case_npy(
            image, label, {"spacing": spacing}, known.plans, known.configuration, dict(self.dataset)
        )
        return Prepared(
            images=np.ascontiguousarray(self._items(np.asarray(data, np.float32))),
            labels=None if label is None else self._items(_masks(masks, known.labels)),
            spacing_mm=None if case.spacing_mm is None else self.spacing_mm,
        )

    def restore(
        self, logits: Float[Tensor, "item C *grid"], case: Case, outside: Float[Tensor, " C"]
    ) -> Float[Tensor, "C *space"]:
        """Logits on the case's own voxels; ``outside`` is what lies beyond the crop."""
        known = self.managers
        image, spacing = self.as_read(case.image, case)
        order = [int(axis) for axis in known.plans.transpose_forward]
        image = image.transpose(0, *(axis + 1 for axis in order))
        spacing = [spacing[axis] for axis in order]
        cropped, _, box = nnunet("preprocessing.cropping.cropping").crop_to_nonzero(image)
        now = self.spacing_mm if self.dims == len(spacing) else (spacing[0], *self.spacing_mm)
        grid = logits.movedim(0, 1) if self.dims == 2 else logits[0]
        resampled = known.configuration.resampling_fn_probabilities(
            grid.float().cpu().numpy(), cropped.shape[1:], list(now), spacing
        )
        whole = outside.reshape(-1, 1, 1, 1).repeat(1, *image.shape[1:])
        whole[:, *(slice(*side) for side in box)] = torch.as_tensor(resampled).to(whole.dtype)
        whole = whole.permute(0, *(int(axis) + 1 for axis in known.plans.transpose_backward))
        return torch.from_numpy(self.as_stored(whole.numpy(), case))

    def prediction(
        self,
        models: Sequence[TunablePolicy],
        mirroring: Sequence[int] = (),
        overlap: float = 0.5,
    ) -> NnUNetPrediction:
        """Whole volumes by nnU-Net's own sliding windows, averaged over the models' logits."""
        # Imported late: prediction itself needs this module.
        from segpref.policies.nnunet.prediction import NnUNetPrediction

        return NnUNetPrediction(self, models, mirroring, 1 - overlap)

    def as_stored(self, array: np.ndarray, case: Case) -> np.ndarray:
        """Back from ``[channel, z, y, x]`` to the axes of the case: the inverse of :meth:`as_read`."""
        if case.image.ndim == 3:
            array = array[:, 0]
        if self._reader in _PICTURES:
            return array
        return np.ascontiguousarray(array.transpose(0, *range(array.ndim - 1, 0, -1)))

    @property
    def _reader(self) -> str:
        return str(self.plans["image_reader_writer"])

    def as_read(self, array: np.ndarray, case: Case) -> tuple[np.ndarray, list[float]]:
        """As nnU-Net's reader gives it: ``[channel, z, y, x]`` and the spacing in that order."""
        axes = case.image.ndim - 1
        spacing = list(case.spacing_mm or (1.0,) * axes)
        if len(known_spacing(spacing)) < min(axes, self.dims):
            raise SegprefError(
                f"{case.id} states its voxel size along some axes only, and this configuration of "
                "nnU-Net resamples along all: use files with a voxel size, or a 2d configuration"
            )
        # Along an axis that is not resampled any size will do.
        spacing = [1.0 if math.isnan(size) else size for size in spacing]
        if self._reader in _PICTURES:
            if array.ndim == 3:
                return array[:, None], [_BETWEEN_PICTURES, 1.0, 1.0]
        elif self._reader in _REVERSED:
            # In the memory's order, too: the last bits of a mean depend on it.
            array = np.ascontiguousarray(array.transpose(0, *range(array.ndim - 1, 0, -1)))
            spacing = spacing[::-1]
            if array.ndim == 4:
                return array, spacing
            return array[:, None], [_BETWEEN_PICTURES * max(spacing), *spacing]
        raise SegprefError(
            f"{case.id} has {array.ndim - 1} axes and should be read by nnU-Net's {self._reader}: "
            f"only plans with {', '.join(_REVERSED)} or (2D pictures) {', '.join(_PICTURES)} are "
            "supported"
        )

    def _items(self, volume: np.ndarray) -> np.ndarray:
        """``[item, channel, *grid]`` of ``[channel, z, y, x]``."""
        return np.ascontiguousarray(np.moveaxis(volume, 1, 0)) if self.dims == 2 else volume[None]


def _masks(masks: np.ndarray, labels: Any) -> UInt8[np.ndarray, "1 *grid"]:
    clean = np.where(masks < 0, 0, masks)
    if labels.has_ignore_label:
        clean = np.where(masks == labels.ignore_label, IGNORE, clean)
    return clean.astype(np.uint8)
