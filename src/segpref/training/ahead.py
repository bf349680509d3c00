"""Slates that are made one step ahead, so that they are edited and scored while the device updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy, deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from segpref.data.dataset import Dataset
from segpref.policies import TunablePolicy
from segpref.preferences import PolicyPass, ScoredSlate
from segpref.seeds import derive_seed
from segpref.training.loop import Following
from segpref.training.step import DrawPatches, ScoredSlates, StepSlates, scored
from segpref.types import Case, State

__all__ = ["SlatesAhead", "weights_before"]


def weights_before(network: nn.Module) -> nn.Module:
    """A copy of a network for the weights before its last update; what is frozen is shared."""
    frozen = {id(one): one for one in network.parameters() if not one.requires_grad}
    return deepcopy(network, frozen)


class SlatesAhead:
    """Slates of the policy as it was one step ago, made anew at every step.

    The passes of step t + 1 are made in step t, before its update: workers edit and score these
    slates while the device computes gradients. The slates of the first step are of the start. Margins
    are those of the current policy as ever; only the candidates are one update old.

    Args:
        slates: of a step.
        policy: what is tuned.
        network: its network, not wrapped.
        before: :func:`weights_before` of it; a part of what a resumed run restores.
        pool: the images.
        patches: draws the patch of each image; None for whole images.
        following: the step after a step.
    """

    def __init__(
        self,
        slates: StepSlates,
        policy: TunablePolicy,
        network: nn.Module,
        before: nn.Module,
        pool: Dataset,
        patches: DrawPatches | None,
        following: Following,
    ) -> None:
        self._slates, self._pool = slates, pool
        self._network, self._before = network, before
        self._old = copy(policy)
        self._old.network = before.eval()
        self._patches, self._following = patches, following
        self._begun: dict[tuple[int, int], Callable[[], list[ScoredSlate]]] = {}

    def __call__(
        self,
        indices: Sequence[int],
        cases: Sequence[Case],
        images: Tensor,
        state: State,
        epoch: int,
        number: int,
    ) -> ScoredSlates:
        """Slates that were begun in the step before; those of the next step are begun."""
        # At a start, or where a run goes on, the weights before are those that were there then.
        slates = self._begun.pop((epoch, number), None) or self._begin(indices, epoch, number)
        with torch.no_grad():
            now = self._network.state_dict()
            for name, weight in self._before.state_dict().items():
                weight.copy_(now[name])
        following = self._following(epoch, number)
        if following is not None:
            self._begun = {following[1:]: self._begin(*following)}
        reference = self._slates.reference(cases, images)
        return scored(slates, reference)

    def _begin(
        self, indices: Sequence[int], epoch: int, number: int
    ) -> Callable[[], list[ScoredSlate]]:
        cases = [self._pool[i] for i in indices]
        if self._patches is not None:
            cases = self._patches(cases, indices, epoch, number)
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        with torch.no_grad():
            passed = PolicyPass(images, self._old.forward(images))
        key = derive_seed(self._slates.seed, epoch, number)
        return self._slates.begin(self._old, cases, passed, key)
