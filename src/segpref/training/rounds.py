"""Slates of a policy with logits that are kept for a round of epochs (MAPO, Sec. 3.3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segpref.data.dataset import Dataset
from segpref.policies import TunablePolicy
from segpref.preferences import Candidates, RoundPatches, RoundSlates
from segpref.proposals import SlateProposals
from segpref.training.step import Reference, ScoredSlates
from segpref.types import Case, Judge, State

__all__ = ["PreferenceRounds"]


class PreferenceRounds:
    """Slates of a round for a policy with logits, from the policy as it was when the round began.

    Args:
        policy: makes the slates; its network must be in evaluation mode.
        reference: logits of the frozen start, as in the paper; None takes the policy as it was when the
            round began.
        pool: the images.
        judge: scores the slates.
        proposals: make the slates.
        folder: where the sets go.
        every: epochs per round.
        seed: of the slates, together with the round.
        batch_size: images per network pass.
        unsure: whether the judge's uncertainty is computed.
        patches: which patches of the images the policy sees; None for whole images.
        workers: processes that edit and score the slates.
        precision: ``bf16`` for the passes that only propose; ``no`` for the policy's.
    """

    def __init__(
        self,
        policy: TunablePolicy,
        reference: Reference | None,
        pool: Dataset,
        judge: Judge,
        proposals: SlateProposals,
        folder: Path,
        *,
        every: int,
        seed: int,
        batch_size: int = 8,
        unsure: bool = False,
        patches: RoundPatches | None = None,
        workers: int = 0,
        precision: str = "no",
    ) -> None:
        self._reference = reference
        self._candidates, self._seed = Candidates(policy, proposals, precision), seed
        self._sets = RoundSlates(
            self._made,
            pool,
            judge,
            folder,
            every=every,
            batch_size=batch_size,
            unsure=unsure,
            patches=patches,
            proposals=proposals,
            workers=workers,
        )

    def __call__(
        self,
        indices: Sequence[int],
        cases: Sequence[Case],
        images: Tensor,
        state: State,
        epoch: int,
        number: int,
    ) -> ScoredSlates:
        """Scored slates of images of the pool in this epoch's round."""
        found = self._sets(indices, epoch, number)
        if self._reference is not None:
            logits = self._reference(cases, images)
        else:
            assert found.logits is not None
            logits = torch.from_numpy(found.logits)
        return ScoredSlates(found.slates, found.scores, logits, found.uncertainty)

    def _made(self, cases: Sequence[Case], number: int) -> tuple[list[Any], np.ndarray | None]:
        passed = self._candidates.forward(cases)
        drafts = self._candidates.drafts(cases, self._seed, (number,), passed)
        own = self._reference is None
        return drafts, passed.state.logits.float().cpu().numpy() if own else None
