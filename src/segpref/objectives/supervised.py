"""The supervised loss of stage 1 and of pseudo-labelling, or any other loss in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from segpref.checking import checked
from segpref.late import late
from segpref.runtime import in_step, moved, runtime
from segpref.types import IGNORE, LabelSpace, SegprefError

__all__ = ["OneHotLoss", "SupervisedLoss", "supervised_loss"]

losses = late("monai.losses")


@checked()
@dataclass(frozen=True, slots=True)
class SupervisedLoss:
    """Dice plus cross-entropy (multi-class) or Dice plus binary cross-entropy (multi-label).

    Dice is over the foreground only, as a mean over structures; cross-entropy is over all classes
    with the background, as a mean over pixels. Pixels that are :data:`~segpref.types.IGNORE` take
    no part in either; a batch in which all pixels are ignored has the loss 0. A structure that is
    absent from a Dice sum's masks has a Dice loss of 1 for any sizeable prediction of it and 0 for
    none (smoothing 1e-5).

    In a training of several processes the batch is that of the step, whichever process an image falls
    to: overlaps and pixels are summed over all of them, and a process that weights this loss with its
    images, as a step does, has its part of the gradient.

    Args:
        label_space: what the values of the targets mean.
        batch_dice: sum overlaps over the batch before the ratio, so that a slice without a
            structure does not count as a failure; otherwise per image.
    """

    label_space: LabelSpace
    batch_dice: bool = True
    _dice: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_dice", losses.DiceLoss(batch=self.batch_dice))

    def __call__(
        self,
        logits: Float[Tensor, "B C *space"],
        targets: UInt8[Tensor, "B field *space"],
    ) -> Float[Tensor, ""]:
        """Loss of a batch, float32, or float64 where the logits are float64.

        Targets may be on the host.

        Raises:
            SegprefError: logits and targets do not fit each other or the label space.
        """
        space = self.label_space
        if not _fit(logits, targets, space):
            raise _misfit(logits, targets, space)
        targets = moved(targets, logits.device)
        z, known = logits if logits.dtype == torch.float64 else logits.float(), targets != IGNORE
        pixels = known.sum()
        if space.kind == "multi-class":
            held = _one_hot(targets, space)[:, 1:]
            likely = z.softmax(1)[:, 1:]
            labels = targets.squeeze(1).long()
            entropy = functional.cross_entropy(z, labels, ignore_index=IGNORE, reduction="sum")
        else:
            held = targets == 1
            likely = z.sigmoid()
            entropy = functional.binary_cross_entropy_with_logits(
                z, held.to(z.dtype), weight=known.to(z.dtype), reduction="sum"
            )
        # MONAI's own masked losses mask before the activation, which turns 0 into a half.
        likely, held = likely * known, held.to(z.dtype)
        if in_step():
            return self._of_step(likely, held, entropy, pixels)
        dice = torch.where(known.any(), self._dice(likely, held), 0.0)
        return dice + entropy / pixels.clamp(min=1)

    def _of_step(self, likely: Tensor, held: Tensor, entropy: Tensor, pixels: Tensor) -> Tensor:
        """The same of the step's whole batch, whose other images other processes have."""
        here, images = runtime(), len(likely)
        axes = (0, *range(2, likely.ndim)) if self.batch_dice else tuple(range(2, likely.ndim))
        common, sizes = (likely * held).sum(axes), likely.sum(axes) + held.sum(axes)
        if self.batch_dice:
            common, sizes = here.summed(torch.stack((common, sizes)))
        dice = 1 - (2 * common + self._dice.smooth_nr) / (sizes + self._dice.smooth_dr)
        pixels = here.summed(pixels)
        total = here.total(images)
        value = dice.mean() if self.batch_dice else here.summed(dice.mean(1).sum()) / total
        value = torch.where(pixels > 0, value, 0.0) + here.summed(entropy) / pixels.clamp(min=1)
        # All processes have the value of the whole; the step weights it with the share of its images.
        return value.detach() + (value - value.detach()) * (total / images)


@dataclass(frozen=True, slots=True)
class OneHotLoss:
    """A loss of logits and one-hot masks, as MONAI and torch have them, on masks of a label space.

    Args:
        label_space: what the values of the targets mean.
        loss: of logits and 0/1 targets, both ``[B, C, *space]``, such as ``monai.losses.FocalLoss``;
            with the background's channel where the label space is multi-class.
    """

    label_space: LabelSpace
    loss: Callable[[Tensor, Tensor], Tensor]

    def __call__(
        self,
        logits: Float[Tensor, "B C *space"],
        targets: UInt8[Tensor, "B field *space"],
    ) -> Float[Tensor, ""]:
        """Loss of a batch, float32.

        Targets may be on the host, where looking for pixels that are left open waits for no device.

        Raises:
            SegprefError: logits and targets do not fit each other or the label space, or targets hold
                :data:`~segpref.types.IGNORE`, which such a loss does not know.
        """
        space = self.label_space
        if not _fit(logits, targets, space):
            raise _misfit(logits, targets, space)
        if (targets == IGNORE).any():
            raise SegprefError(
                f"{type(self.loss).__name__} can't leave out the pixels that the labels leave open "
                f"({IGNORE}): take the default loss"
            )
        targets = moved(targets, logits.device)
        held = _one_hot(targets, space) if space.kind == "multi-class" else targets == 1
        return self.loss(logits.float(), held.float())


def supervised_loss(
    label_space: LabelSpace, loss: Callable[[Tensor, Tensor], Tensor] | None = None
) -> SupervisedLoss | OneHotLoss:
    """Dice + cross-entropy, or another loss of logits and one-hot masks."""
    return SupervisedLoss(label_space) if loss is None else OneHotLoss(label_space, loss)


def _one_hot(targets: UInt8[Tensor, "B 1 *space"], space: LabelSpace) -> Bool[Tensor, "B C *space"]:
    values = torch.arange(space.channels, device=targets.device, dtype=targets.dtype)
    return targets == values.reshape(-1, *[1] * (targets.ndim - 2))


def _fit(logits: Tensor, targets: Tensor, space: LabelSpace) -> bool:
    wanted = (len(targets), space.channels, *targets.shape[2:])
    return tuple(logits.shape) == wanted and targets.shape[1] == space.fields


def _misfit(logits: Tensor, targets: Tensor, space: LabelSpace) -> SegprefError:
    wanted = (len(targets), space.channels, *targets.shape[2:])
    return SegprefError(
        f"targets of shape {tuple(targets.shape)} with {space.fields} field(s) need logits of shape "
        f"{wanted}, but the network gives {tuple(logits.shape)}; check its number of outputs and its "
        "size"
    )
