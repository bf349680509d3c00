"""The loss that SAM is trained with: focal and Dice, 20 to 1."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from segpref.checking import checked
from segpref.types import IGNORE, SegprefError

__all__ = ["FocalDiceLoss", "quality_loss"]


@checked()
@dataclass(frozen=True, slots=True)
class FocalDiceLoss:
    """``20 focal + 1 Dice`` per mask (Kirillov et al., 2023; Konwer et al., 2025, Sec. 4).

    Focal (Lin et al., 2017): ``-a_t (1 - p_t)^gamma log p_t`` as a mean over Omega, with ``a_t`` alpha
    on the structure and ``1 - alpha`` beside it. Dice: ``1 - (2 sum p y + 1) / (sum p + sum y + 1)``,
    so a structure that is absent and not predicted costs nothing. Pixels that are
    :data:`~segpref.types.IGNORE` take no part; a mask without known pixels costs 0.

    Args:
        focal: weight of the focal loss.
        dice: weight of the Dice loss.
        gamma: how much pixels that are right already are left alone.
        alpha: weight of pixels on the structure.
    """

    focal: float = 20.0
    dice: float = 1.0
    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        if min(self.focal, self.dice, self.gamma) < 0 or not 0 < self.alpha < 1:
            raise SegprefError(
                "focal and Dice have weights and a gamma from 0 and an alpha between 0 and 1, not "
                f"{self.focal}, {self.dice}, {self.gamma} and {self.alpha}"
            )

    def __call__(
        self, logits: Float[Tensor, "B C *space"], targets: UInt8[Tensor, "B C *space"]
    ) -> Float[Tensor, "B C"]:
        """Loss of every mask, float32.

        Raises:
            SegprefError: logits and targets of different shapes.
        """
        known, held = _known(logits, targets)
        z, y = logits.float().flatten(2), held.flatten(2).float()
        omega = known.flatten(2)
        p = z.sigmoid() * omega
        entropy = functional.binary_cross_entropy_with_logits(z, y, reduction="none")
        wrong = (p - y).abs() ** self.gamma
        share = self.alpha * y + (1 - self.alpha) * (1 - y)
        pixels = omega.sum(-1).clamp(min=1)
        focal = (share * wrong * entropy * omega).sum(-1) / pixels
        overlap = (2 * (p * y).sum(-1) + 1) / (p.sum(-1) + y.sum(-1) + 1)
        return self.focal * focal + self.dice * (1 - overlap)


def quality_loss(
    quality: Float[Tensor, "B C"],
    logits: Float[Tensor, "B C *space"],
    targets: UInt8[Tensor, "B C *space"],
) -> Float[Tensor, "B C"]:
    """Squared error of the predicted IoU (Kirillov et al., 2023); of empty against empty it is 1."""
    known, held = _known(logits, targets)
    drawn = (logits.detach() > 0) & known
    common = (drawn & held).flatten(2).sum(-1)
    either = (drawn | held).flatten(2).sum(-1)
    truth = (common / either.clamp(min=1)).where(either > 0, 1.0)
    return (quality.float() - truth) ** 2


def _known(logits: Tensor, targets: Tensor) -> tuple[Bool[Tensor, "..."], Bool[Tensor, "..."]]:
    if logits.shape != targets.shape:
        raise SegprefError(
            f"targets of shape {tuple(targets.shape)} do not fit logits of {tuple(logits.shape)}: a "
            "promptable model draws one binary mask per structure"
        )
    return targets != IGNORE, targets == 1
