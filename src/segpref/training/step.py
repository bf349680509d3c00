"""One step of stage 2, from the images to the loss (RN-DPO, Figure 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from segpref.data.dataset import Dataset
from segpref.data.patches import within_image
from segpref.metrics import slate_iou
from segpref.policies import TunablePolicy
from segpref.preferences import Candidates, PolicyPass, ScoredSlate, Scoring, SlateWorkers
from segpref.proposals import SlateProposals
from segpref.runtime import moved
from segpref.seeds import derive_seed, generators, image_seeds
from segpref.training.augmenting import StrongAugmentation
from segpref.training.image_sizes import explain_image_size
from segpref.training.loop import StepResult
from segpref.training.margins import LogitMargins
from segpref.training.signals import ScoredBatch, Signal
from segpref.types import (
    IGNORE,
    Case,
    Judge,
    LabelSpace,
    Slate,
    State,
)

__all__ = [
    "DrawPatches",
    "PreferenceStep",
    "Reference",
    "ScoredSlates",
    "SlateSource",
    "StepSlates",
    "scored",
]

Reference = Callable[[Sequence[Case], Tensor], Tensor]
"""(cases, their images) -> logits of the frozen start."""

DrawPatches = Callable[[Sequence[Case], Sequence[int], int, int], list[Case]]
"""(cases, their places in the pool, epoch, step) -> the patch of each that the step is about."""


class ScoredSlates(NamedTuple):
    """Slates of a batch, what the judge says of them, and the reference's logits.

    Args:
        slates: one per image.
        scores: the judge's, per image.
        reference: logits of the reference.
        uncertainty: the judge's uncertainty of each score; None if it is not computed.
    """

    slates: Sequence[Slate]
    scores: Sequence[Float[np.ndarray, "K field"]]
    reference: Float[Tensor, "B C *space"]
    uncertainty: Sequence[Float[np.ndarray, "K field"]] | None = None


class SlateSource(Protocol):
    """Where the slates of a step come from."""

    def __call__(
        self,
        indices: Sequence[int],
        cases: Sequence[Case],
        images: Tensor,
        state: State,
        epoch: int,
        number: int,
    ) -> ScoredSlates:
        """Scored slates of these cases of the pool, which the policy's one pass has just seen."""
        ...


@dataclass(frozen=True, slots=True)
class StepSlates:
    """Slates of the current policy, made and scored again at every step.

    Args:
        policy: what is tuned.
        reference: logits of the frozen start.
        judge: scores candidates, prepared for the pool; sees labels only if it declares them.
        proposals: make the slates.
        seed: of the slates, together with epoch and step.
        unsure: whether the judge's uncertainty is computed.
        workers: edit and score; this process does where None.
        precision: ``bf16`` for the passes that only propose; ``no`` for the policy's.
    """

    policy: TunablePolicy
    reference: Reference
    judge: Judge
    proposals: SlateProposals
    seed: int
    unsure: bool = False
    workers: SlateWorkers | None = None
    precision: str = "no"

    def __call__(
        self,
        indices: Sequence[int],
        cases: Sequence[Case],
        images: Tensor,
        state: State,
        epoch: int,
        number: int,
    ) -> ScoredSlates:
        """Scored slates from the policy's one pass."""
        key = derive_seed(self.seed, epoch, number)
        slates = self.begin(self.policy, cases, PolicyPass(images, state), key)
        return scored(slates, self.reference(cases, images))

    def begin(
        self, policy: TunablePolicy, cases: Sequence[Case], passed: PolicyPass, key: int
    ) -> Callable[[], list[ScoredSlate]]:
        """Scored slates of a policy's pass, whose edits and scores need not be there yet."""
        workers = self.workers or SlateWorkers(self.proposals, Scoring(self.judge, self.unsure))
        made = Candidates(policy, self.proposals, self.precision)
        drafts = made.drafts(cases, key, passed=passed)
        return workers.begin(cases, drafts)


def scored(slates: Callable[[], list[ScoredSlate]], reference: Tensor) -> ScoredSlates:
    """Slates of a step when they are there."""
    found = slates()
    doubts = [one.uncertainty for one in found if one.uncertainty is not None]
    return ScoredSlates(
        [one.slate for one in found],
        [one.scores for one in found],
        reference,
        doubts or None,
    )


@dataclass(frozen=True, slots=True)
class PreferenceStep:
    """One step of stage 2 up to its loss: Figure 1 from the image to the preference.

    Args:
        policy: what is tuned; its network is set to evaluation mode.
        pool: unlabelled images; labels reach only figures and a signal that declares them.
        slates: where scored slates come from.
        signal: what is learned from them.
        seed: of pairs and views, together with epoch and step.
        view: changes the image that the update is made on; None for the image itself.
        patches: draws the patch of each image that the step is about; None for whole images.
    """

    policy: TunablePolicy
    pool: Dataset
    slates: SlateSource
    signal: Signal
    seed: int
    view: StrongAugmentation | None = None
    patches: DrawPatches | None = None

    def __call__(self, indices: list[int], epoch: int, number: int) -> StepResult:
        """Loss and figures of the images at these places in the pool.

        Raises:
            SegprefError: the network can't take images of that size.
        """
        cases = [self.pool[i] for i in indices]
        key = derive_seed(self.seed, epoch, number)
        if self.patches is not None:
            cases = self.patches(cases, indices, epoch, number)
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        space = self.policy.label_space
        self.policy.network.eval()

        # Without a view the slates share the one pass of the update.
        with (
            torch.set_grad_enabled(self.view is None),
            explain_image_size(images, self.policy.logits),
        ):
            state = self.policy.forward(images)
        found = self.slates(indices, cases, images, state, epoch, number)
        logits = state.logits
        if self.view is not None:
            rngs = generators(image_seeds([case.id for case in cases], key))
            logits = self.policy.viewed(self.view(images, rngs), state).logits
        needs_label = getattr(self.signal, "needs_label", False)
        reference = moved(found.reference, logits.device)
        batch = ScoredBatch(
            margins=LogitMargins(logits, reference, space),
            slates=found.slates,
            scores=found.scores,
            truth=_truth(cases, found.slates, self.pool),
            # By image, so that it does not matter which process an image falls to.
            rngs=[np.random.default_rng([key, i]) for i in indices],
            uncertainty=found.uncertainty,
            labels=_labels(cases, space.fields) if needs_label else None,
            cases=[case.id for case in cases],
        )
        result = self.signal(batch)
        drift = self._volume_drift(cases, state.logits.detach(), reference)
        return StepResult(result.loss, result.terms, {**result.logs, **drift})

    def _volume_drift(
        self, cases: Sequence[Case], logits: Tensor, reference: Tensor
    ) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Predicted volume of each structure relative to the reference's, as sums over the epoch.

        Of both, what lies beyond the image does not count. Counted where the logits are.
        """
        space, inside = self.policy.label_space, _inside(cases)
        if inside is not None:
            inside = moved(inside, logits.device)
        now, before = (_voxels(space.decode(one), inside, space) for one in (logits, reference))
        return {
            f"volume_ratio_{name}": (after, old)
            for name, after, old in zip(space.structures, now, before, strict=True)
        }


def _labels(cases: Sequence[Case], fields: int) -> UInt8[Tensor, "B field *space"]:
    """Labels of a batch; all pixels of a case without one are ignored."""
    unknown = [
        np.full((fields, *case.image.shape[1:]), IGNORE, np.uint8) if case.label is None
        else case.label
        for case in cases
    ]  # fmt: skip
    return torch.from_numpy(np.stack(unknown))


def _inside(cases: Sequence[Case]) -> Bool[Tensor, "B *space"] | None:
    """The part of patches that lies within their images; None where all of it does."""
    shape = cases[0].image.shape[1:]
    whole = [np.zeros((1, 1, *shape), np.uint8)] * len(cases)
    parts = [within_image(mask, case)[0, 0] == 0 for mask, case in zip(whole, cases, strict=True)]
    return None if all(part.all() for part in parts) else torch.from_numpy(np.stack(parts))


def _voxels(
    masks: UInt8[Tensor, "B field *space"],
    inside: Bool[Tensor, "B *space"] | None,
    space: LabelSpace,
) -> list[Int64[Tensor, ""]]:
    """How many voxels of a batch each structure has."""
    if space.kind == "multi-label":
        parts = [mask == 1 for mask in masks.unbind(1)]
    else:
        labels = masks[:, 0]
        parts = [
            reduce(torch.logical_or, (labels == value for value in values))
            for values in space.structure_values
        ]
    return [torch.count_nonzero(part if inside is None else part & inside) for part in parts]


def _truth(
    cases: Sequence[Case], slates: Sequence[Slate], pool: Dataset
) -> Callable[[int, Sequence[int]], np.ndarray] | None:
    """IoU of candidates with the ground truth: for figures, never for the update."""
    if any(case.label is None for case in cases):
        return None
    space = pool.label_space  # which knows what labels say nothing of
    counted = space.labelled

    def truth(image: int, candidates: Sequence[int]) -> np.ndarray:
        label = np.asarray(cases[image].label)
        return slate_iou(slates[image].masks, label, space, only=candidates, counted=counted)

    return truth
