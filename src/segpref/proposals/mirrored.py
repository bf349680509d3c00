"""Test-time augmentation by mirroring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from segpref.checking import checked
from segpref.proposals.dropout import mean_mask
from segpref.proposals.proposal import ProposalContext, Proposed
from segpref.types import Policy, SegprefError, State

__all__ = ["MirroredViews"]


@checked(weight={"least": 0})
class MirroredViews:
    """The mean prediction over the image and its mirror images, then the prediction of each of these.

    For a network that was trained on mirrored images, as nnU-Net's are: what it says of each view is as
    good, and errs elsewhere. Not among the families that a slate has by default, as most networks of
    organs with a left and a right side were not. One network pass per mirror image: 3 in 2D, 7 in 3D.

    Args:
        axes: of the image to mirror along, from 0; all where None.
        weight: share of the slate.

    Raises:
        SegprefError: no axis, an axis twice, or one below 0.
    """

    family = "mirrored"

    def __init__(self, axes: Sequence[int] | None = None, weight: float = 8.0) -> None:
        if axes is not None and (not axes or len(set(axes)) < len(axes) or min(axes) < 0):
            raise SegprefError(
                f"MirroredViews needs distinct axes of the image, from 0, not {list(axes)}"
            )
        self.axes = None if axes is None else tuple(sorted(axes))
        self.weight = weight

    def views(self, dims: int) -> list[tuple[int, ...]]:
        """What each mirror image of an image with ``dims`` axes is mirrored along.

        Raises:
            SegprefError: the image has no such axis.
        """
        axes = tuple(range(dims)) if self.axes is None else self.axes
        if axes[-1] >= dims:
            raise SegprefError(
                f"MirroredViews mirrors along axis {axes[-1]}, but the images have the axes 0 to "
                f"{dims - 1}: correct its axes"
            )
        return [some for count in range(1, len(axes) + 1) for some in combinations(axes, count)]

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """``mirrored [B, V, field, *space]`` and ``mirrored-mean``; the image is not passed again."""
        space = policy.label_space
        samples = [state.logits.detach()]
        for axes in self.views(images.ndim - 2):
            turned = [axis + 2 for axis in axes]
            samples.append(policy.logits(images.flip(turned)).flip(turned))
        masks = [space.decode(sample) for sample in samples]
        return {
            "mirrored": torch.stack(masks[1:], dim=1),
            "mirrored-mean": mean_mask(samples, masks, space),
        }

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """Mean and views."""
        if "mirrored" not in context.predictions:
            return
        views = self.views(context.anchor.ndim - 1)
        yield {"views": 1 + len(views)}, context.predictions["mirrored-mean"]
        for axes, mask in zip(views, context.predictions["mirrored"], strict=True):
            yield {"along": "+".join(map(str, axes))}, mask
