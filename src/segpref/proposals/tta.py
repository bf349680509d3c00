"""Test-time augmentation of the intensities (Appendix A.2, family 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from segpref.checking import checked
from segpref.proposals.dropout import mean_mask
from segpref.proposals.proposal import ProposalContext, Proposed
from segpref.types import Policy, SegprefError, State

__all__ = ["IntensityTTA", "IntensityViews", "intensity_views"]


def intensity_views(
    images: Float[Tensor, "B channel *space"],
    gammas: Sequence[float],
    brightness: Sequence[float],
    contrasts: Sequence[float],
) -> Iterator[Float[Tensor, "B channel *space"]]:
    """The images under one change of intensity at a time, whatever their normalisation.

    With ``u = (x - min) / (max - min)`` per image and channel: ``u^gamma``, ``u + brightness`` and
    ``mean(u) + contrast (u - mean(u))``, mapped back to the range of x. A constant channel keeps
    its value under gamma and contrast.
    """
    space = tuple(range(2, images.ndim))
    low, high = images.amin(space, keepdim=True), images.amax(space, keepdim=True)
    width = high - low
    unit = (images - low).div_(torch.where(width > 0, width, 1.0))
    for gamma in gammas:
        yield unit.pow(gamma).mul_(width).add_(low)
    for shift in brightness:
        yield images + width * shift
    mean = images.mean(space, keepdim=True)
    for contrast in contrasts:
        yield (images - mean).mul_(contrast).add_(mean)


class _ChangedIntensity:
    """What families have in common that pass copies of changed intensity."""

    def _take(
        self,
        gammas: Sequence[float],
        brightness: Sequence[float],
        contrasts: Sequence[float],
        weight: float,
    ) -> None:
        self.gammas, self.brightness, self.contrasts = gammas, brightness, contrasts
        self.weight = weight
        if not self.views:
            name = type(self).__name__
            raise SegprefError(f"{name} needs at least one gamma, brightness or contrast")

    @property
    def views(self) -> int:
        """Number of network passes."""
        return len(self._changes)

    @property
    def _changes(self) -> list[tuple[str, float]]:
        """In the order of the passes."""
        named = {
            "gamma": self.gammas, "brightness": self.brightness, "contrast": self.contrasts,
        }  # fmt: skip
        return [(name, size) for name, sizes in named.items() for size in sizes]

    def _logits(
        self, policy: Policy, images: Float[Tensor, "B channel *space"]
    ) -> Iterator[Float[Tensor, "B C *space"]]:
        for view in intensity_views(images, self.gammas, self.brightness, self.contrasts):
            yield policy.logits(view)


@checked(weight={"least": 0}, gammas={"above": 0})
class IntensityTTA(_ChangedIntensity):
    """The mean prediction over the image and changed copies of it; one network pass per change.

    Args:
        gammas: exponents of the intensity scaled to 0 ... 1.
        brightness: shifts, relative to the image's range.
        contrasts: factors of the distance to the image's mean.
        weight: share of the slate.

    Raises:
        SegprefError: no change is asked for.
    """

    family = "intensity-tta"

    def __init__(
        self,
        gammas: Sequence[float] = (0.8, 1.25),
        brightness: Sequence[float] = (0.1,),
        contrasts: Sequence[float] = (0.9,),
        weight: float = 3.0,
    ) -> None:
        self._take(gammas, brightness, contrasts, weight)

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """``tta [B, field, *space]``; the unchanged image is not passed again."""
        samples = [state.logits.detach(), *self._logits(policy, images)]
        masks = [policy.label_space.decode(sample) for sample in samples]
        return {"tta": mean_mask(samples, masks, policy.label_space)}

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """The one mean prediction."""
        if "tta" in context.predictions:
            yield {"views": 1 + self.views}, context.predictions["tta"]


@checked(weight={"least": 0}, gammas={"above": 0})
class IntensityViews(_ChangedIntensity):
    """The prediction of each changed copy of the image; one network pass per change.

    A strong change of gamma is another look at the image, so its prediction can hold what edits of the
    anchor can't. Shifts and changes of contrast, which instance normalisation evens out, changed next
    to nothing where they were tried, so there is none by default (docs/results/candidates).

    Args:
        gammas: exponents of the intensity scaled to 0 ... 1.
        brightness: shifts, relative to the image's range.
        contrasts: factors of the distance to the image's mean.
        weight: share of the slate.

    Raises:
        SegprefError: no change is asked for.
    """

    family = "intensity"

    def __init__(
        self,
        gammas: Sequence[float] = (0.5, 2.0),
        brightness: Sequence[float] = (),
        contrasts: Sequence[float] = (),
        weight: float = 6.0,
    ) -> None:
        self._take(gammas, brightness, contrasts, weight)

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """``intensity [B, view, field, *space]``."""
        masks = [policy.label_space.decode(logits) for logits in self._logits(policy, images)]
        return {self.family: torch.stack(masks, dim=1)}

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per change."""
        if self.family in context.predictions:
            masks = context.predictions[self.family]
            for (name, size), mask in zip(self._changes, masks, strict=True):
                yield {name: size}, mask
