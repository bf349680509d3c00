"""From the network's output to masks on a case's own voxels, and what is refused on the way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.policies import ModelCard
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["check_case", "decoded", "finite", "restored"]


def finite(logits: Float[Tensor, "item C *grid"], name: object) -> Float[Tensor, "item C *grid"]:
    """The same logits; refuses those that are NaN or infinite, by the name of their image."""
    if not bool(torch.isfinite(logits).all()):
        raise SegprefError(
            f"the network's output for {name} is NaN or infinite: look for extreme values in the "
            "image, or train the model again with a lower learning rate"
        )
    return logits


def check_case(card: ModelCard, case: Case) -> None:
    """Refuse an image with other channels than the model's, or without the voxel size that it needs."""
    wanted, spacing = card.channels, card.preparation.spacing_mm
    if len(case.image) != len(wanted):
        raise SegprefError(
            f"{case.id} has {len(case.image)} channels but the model takes {len(wanted)} "
            f"({', '.join(wanted)}): use images as the model was trained on"
        )
    if spacing is not None and case.spacing_mm is None:
        raise SegprefError(
            f"{case.id} does not state its voxel size, but the model resamples to "
            f"{' x '.join(f'{step:g}' for step in spacing)} mm: use a file with a voxel size (NIfTI or "
            "DICOM)"
        )


def restored(
    logits: Float[Tensor, "item C *grid"], card: ModelCard, case: Case
) -> Iterator[Float[Tensor, " *space"]]:
    """Logits on the case's own voxels, one channel at a time: all of a large scan's may not fit."""
    # As far from the decision as the logits are on average, so that resampling leaves the edge of the
    # crop where it is.
    strength = float(logits.abs().mean()) or 1.0
    for channel in range(logits.shape[1]):
        background = card.label_space.kind == "multi-class" and channel == 0
        outside = torch.tensor([strength if background else -strength])
        yield card.preparation.restore(logits[:, channel : channel + 1], case, outside)[0]


def decoded(
    channels: Iterator[Float[Tensor, " *space"]], space: LabelSpace
) -> UInt8[np.ndarray, "field *space"]:
    """:meth:`LabelSpace.decode` of channels that come one by one."""
    if space.kind == "multi-label":
        return np.stack([(logits > 0).numpy().astype(np.uint8) for logits in channels])
    best = next(channels).clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8)
    for value, logits in enumerate(channels, start=1):
        # Of equal logits the first wins, as in argmax.
        labels[logits > best] = value
        torch.maximum(best, logits, out=best)
    return labels.numpy()[None]
