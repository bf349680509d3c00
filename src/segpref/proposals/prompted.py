"""Candidates of promptable models: their several masks per prompt, and masks of other prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.checking import checked
from segpref.prompts import Prompt, Promptable, Prompts, jittered
from segpref.proposals.proposal import ProposalContext, Proposed
from segpref.types import Policy, SegprefError, State

__all__ = ["MultimaskOutput", "OtherPrompts"]


@checked(weight={"least": 0})
class MultimaskOutput:
    """SAM's three masks per prompt, in the order of their predicted IoU.

    With several structures candidate k takes the k-th best mask of each.

    Args:
        weight: share of the slate.
    """

    family = "multimask"

    def __init__(self, weight: float = 3.0) -> None:
        self.weight = weight

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel H W"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """``multimask [B, M, field, *space]``; None where the policy takes no prompts."""
        model = _promptable(policy)
        if model is None:
            return None
        prompts = _asked_with(model, state, images)
        answer = model.ask(images, prompts, multimask=True, state=state)
        order = answer.quality.argsort(dim=1, descending=True, stable=True)
        place = order.reshape(*order.shape, *[1] * (answer.logits.ndim - 3))
        ranked = answer.logits.take_along_dim(place, dim=1)
        return {"multimask": (ranked > 0).to(torch.uint8)}

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """The masks; nothing where the policy takes no prompts."""
        for rank, mask in enumerate(context.predictions.get("multimask", ()), start=1):
            yield {"rank": rank}, np.asarray(mask)


@checked(weight={"least": 0})
class OtherPrompts:
    """Masks of perturbed prompts: moved boxes, other points, other texts.

    Every image has its own random generator. Points are drawn anew from the anchor, for that is
    what the policy takes for the structure.

    Args:
        samples: perturbed prompts per image; each costs one pass of the mask decoder.
        shift: standard deviation of each side of the box, as a share of its width or height.
        points: whether points are drawn anew.
        texts: for structures that have a text, what it is replaced by, in turn; none for no change.
        weight: share of the slate.

    Raises:
        SegprefError: no sample, or a negative shift.
    """

    family = "prompt"

    def __init__(
        self,
        samples: int = 4,
        shift: float = 0.1,
        points: bool = True,
        texts: Sequence[str] = (),
        weight: float = 4.0,
    ) -> None:
        if samples < 1 or shift < 0:
            raise SegprefError(
                f"other prompts need at least 1 sample and a shift from 0, not {samples} and {shift}"
            )
        self.samples = samples
        self.shift = shift
        self.points = points
        self.texts = tuple(texts)
        self.weight = weight

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel H W"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """``prompt [B, S, field, *space]``; None where the policy takes no prompts."""
        model = _promptable(policy)
        if model is None:
            return None
        prompts = _asked_with(model, state, images)
        anchors = (state.logits.detach() > 0).cpu().numpy()
        rngs = [np.random.default_rng(seed) for seed in seeds]
        masks = []
        for sample in range(self.samples):
            others = [
                [self._other(p, a, rng, sample) for p, a in zip(row, anchor, strict=True)]
                for row, anchor, rng in zip(prompts, anchors, rngs, strict=True)
            ]
            masks.append(model.ask(images, others, state=state).logits[:, 0] > 0)
        return {"prompt": torch.stack(masks, dim=1).to(torch.uint8)}

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """The masks; nothing where the policy takes no prompts."""
        for number, mask in enumerate(context.predictions.get("prompt", ()), start=1):
            yield {"sample": number}, np.asarray(mask)

    def _other(
        self, prompt: Prompt, anchor: np.ndarray, rng: np.random.Generator, sample: int
    ) -> Prompt:
        source = anchor if self.points else None
        other = jittered(prompt, anchor.shape, rng, self.shift, source)
        if self.texts and prompt.text is not None:
            other = replace(other, text=self.texts[sample % len(self.texts)])
        return other


def _promptable(policy: Policy) -> Promptable | None:
    """The policy, if it takes prompts: other policies simply have no such candidates."""
    return policy if isinstance(policy, Promptable) else None


def _asked_with(policy: Promptable, state: State, images: Tensor) -> Prompts:
    """The prompts that the state was made with, or else the policy's own."""
    prompts: Prompts | None = getattr(state, "prompts", None)
    return policy.prompts_for(images) if prompts is None else prompts
