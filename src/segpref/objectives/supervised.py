"""The loss of stage 1, and of pseudo-labelling."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from segpref.types import IGNORE, LabelSpace, SegprefError

__all__ = ["SupervisedLoss"]


@dataclass(frozen=True, slots=True)
class SupervisedLoss:
    """Dice plus cross-entropy (multi-class) or Dice plus binary cross-entropy (multi-label).

    Dice is over the foreground only, as a mean over structures; cross-entropy is over all classes
    with the background, as a mean over pixels. Pixels that are :data:`~segpref.types.IGNORE` take
    no part in either; a batch in which all pixels are ignored has the loss 0. A structure that is
    absent from a Dice sum's masks has a Dice loss of 1 for any sizeable prediction of it and 0 for
    none (smoothing 1e-5).

    Args:
        label_space: what the values of the targets mean.
        batch_dice: sum overlaps over the batch before the ratio, so that a slice without a
            structure does not count as a failure; otherwise per image.
    """

    label_space: LabelSpace
    batch_dice: bool = True
    _dice: DiceLoss = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_dice", DiceLoss(batch=self.batch_dice))

    def __call__(
        self,
        logits: Float[Tensor, "B C *space"],
        targets: UInt8[Tensor, "B field *space"],
    ) -> Float[Tensor, ""]:
        """Loss of a batch, float32.

        Raises:
            SegprefError: logits and targets do not fit each other or the label space.
        """
        space = self.label_space
        wanted = (len(targets), space.channels, *targets.shape[2:])
        if tuple(logits.shape) != wanted or targets.shape[1] != space.fields:
            raise SegprefError(
                f"targets of shape {tuple(targets.shape)} with {space.fields} field(s) need logits "
                f"of shape {wanted}, but the network gives {tuple(logits.shape)}; check its number "
                "of outputs and its size"
            )
        z, known = logits.float(), targets != IGNORE
        pixels = known.sum().clamp(min=1)
        if space.kind == "multi-class":
            values = torch.arange(1, space.channels, device=targets.device, dtype=targets.dtype)
            held = targets == values.reshape(-1, *[1] * (targets.ndim - 2))
            likely = z.softmax(1)[:, 1:]
            labels = targets.squeeze(1).long()
            entropy = functional.cross_entropy(z, labels, ignore_index=IGNORE, reduction="sum")
        else:
            held = targets == 1
            likely = z.sigmoid()
            entropy = functional.binary_cross_entropy_with_logits(
                z, held.float(), weight=known.float(), reduction="sum"
            )
        # MONAI's own masked losses mask before the activation, which turns 0 into a half.
        dice = self._dice(likely * known, held.float())
        dice = torch.where(known.any(), dice, 0.0)
        return dice + entropy / pixels
