"""Monte-Carlo dropout (Appendix A.2, family 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.checking import checked
from segpref.proposals.proposal import ProposalContext, Proposed
from segpref.types import LabelSpace, Policy, State

__all__ = ["MonteCarloDropout", "mean_mask"]

HAIR = 0.01
"""A lead in logits that outweighs all rounding of a sum of probabilities.

Of equal sums the lower value wins, so where a value leads by less, its lead may be rounded away.
"""


@checked(weight={"least": 0}, samples={"least": 1}, rate={"least": 0, "below": 1})
class MonteCarloDropout:
    """The mean of several predictions under dropout, then the predictions themselves.

    Args:
        samples: number of stochastic passes of the network's last stage.
        rate: dropout rate; None keeps the network's own.
        weight: share of the slate.

    Raises:
        SegprefError: no sample is asked for.
    """

    family = "dropout"

    def __init__(self, samples: int = 6, rate: float | None = None, weight: float = 5.0) -> None:
        self.samples = samples
        self.rate = rate
        self.weight = weight

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """``dropout [B, S, field, *space]`` and ``dropout-mean``; None without a dropout layer."""
        logits = policy.dropout_logits(state, self.samples, self.rate, seeds)
        if logits is None:
            return None
        space = policy.label_space
        samples = logits.unbind()
        masks = [space.decode(sample) for sample in samples]
        return {
            "dropout": torch.stack(masks, dim=1),
            "dropout-mean": mean_mask(samples, masks, space),
        }

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """Mean and samples; nothing where the network has no dropout layer."""
        if "dropout" not in context.predictions:
            return
        samples = context.predictions["dropout"]
        yield {"mean": len(samples)}, context.predictions["dropout-mean"]
        for number, mask in enumerate(samples, start=1):
            yield {"sample": number}, mask


def mean_mask(
    samples: Sequence[Float[Tensor, "B C *space"]],
    masks: Sequence[UInt8[Tensor, "B field *space"]],
    label_space: LabelSpace,
) -> UInt8[Tensor, "B field *space"]:
    """The most likely mask under the mean of several predictions' probabilities.

    ``argmax_c sum_s softmax(z_s)_c``, or ``mean_s sigmoid(z_s) > 1/2`` per structure. Where all
    predictions have the same answer the mean has it too, so probabilities are needed only where
    they differ (and where the common answer leads by no more than :data:`HAIR`).

    Args:
        samples: logits of every prediction.
        masks: what each of them decodes to.
        label_space: what the values mean.
    """
    mean = masks[0].clone(memory_format=torch.contiguous_format)
    disputed = label_space.decode(samples[0], lead=HAIR) != mean
    for mask in masks[1:]:
        disputed |= mask != mean
    multi_class = label_space.kind == "multi-class"
    if mean.device.type != "cpu":
        # A device would be waited for to know how many there are; it has all probabilities sooner.
        total = torch.zeros(samples[0].shape, device=mean.device)
        for sample in samples:
            logits = sample.detach().float()
            total += logits.softmax(dim=1) if multi_class else logits.sigmoid()
        return torch.where(disputed, label_space.decode(total - len(samples) / 2), mean)
    where = disputed.flatten().nonzero().squeeze(1)
    if not len(where):
        return mean
    # Filled up to whole vectors: torch rounds the last few values of an array in another way.
    where = torch.cat([where, where[:1].expand(-len(where) % 64)])
    index = where.unsqueeze(0)
    if multi_class:
        pixels = mean[0].numel()
        classes = torch.arange(label_space.channels, device=where.device).unsqueeze(1)
        index = (where // pixels * label_space.channels + classes) * pixels + where % pixels
    total = torch.zeros(index.shape, device=where.device)
    for sample in samples:
        logits = sample.detach().take(index).float()
        total += logits.softmax(dim=0) if multi_class else logits.sigmoid()
    # The shift changes no argmax and moves a mean of 1/2 to 0, where structures are cut.
    decided = label_space.decode(total - len(samples) / 2, channel_dim=0)
    mean.view(-1)[where] = decided[0]
    return mean
