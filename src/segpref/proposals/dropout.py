"""Monte-Carlo dropout (Appendix A.2, family 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from segpref.proposals.draft import Draft, Proposed
from segpref.types import LabelSpace, Policy, SegprefError, State

__all__ = ["MonteCarloDropout", "decode_mean", "probabilities"]


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
        if samples < 1:
            raise SegprefError(f"MonteCarloDropout needs at least 1 sample, not {samples}")
        self.samples = samples
        self.rate = rate
        self.weight = weight

    def predict(
        self, policy: Policy, state: State, images: Float[Tensor, "B channel *space"], seed: int
    ) -> Mapping[str, Tensor] | None:
        """``dropout [B, S, field, *space]`` and ``dropout-mean``; None without a dropout layer."""
        logits = policy.dropout_logits(state, self.samples, self.rate, seed)
        if logits is None:
            return None
        space = policy.label_space
        masks = [space.decode(sample) for sample in logits]
        total = probabilities(logits[0], space)
        for sample in logits[1:]:
            total += probabilities(sample, space)
        return {
            "dropout": torch.stack(masks, dim=1),
            "dropout-mean": decode_mean(total, len(logits), space),
        }

    def __call__(self, draft: Draft) -> Iterator[Proposed]:
        """Mean and samples; nothing where the network has no dropout layer."""
        if "dropout" not in draft.predictions:
            return
        samples = draft.predictions["dropout"]
        yield {"mean": len(samples)}, draft.predictions["dropout-mean"]
        for number, mask in enumerate(samples, start=1):
            yield {"sample": number}, mask


def probabilities(
    logits: Float[Tensor, "B C *space"], label_space: LabelSpace
) -> Float[Tensor, "B C *space"]:
    """Softmax over classes, or sigmoid per structure, in float32."""
    logits = logits.detach().float()
    return logits.softmax(dim=1) if label_space.kind == "multi-class" else logits.sigmoid()


def decode_mean(total: Float[Tensor, "B C *space"], count: int, label_space: LabelSpace) -> Tensor:
    """The most likely mask under the mean of ``count`` probabilities, given their sum."""
    # This changes no argmax and moves a mean of 1/2 to 0, where structures are cut.
    return label_space.decode(total - count / 2)
