"""Candidates: slates of given cases, within their images, scored by a judge.

All slates are made here: a step of stage 2, a set that is kept for a round
(:class:`~segpref.preferences.RoundSlates`), an audit, a page on which people compare masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.data.patches import slates_within
from segpref.disk import checksum
from segpref.runtime import lowered
from segpref.types import Case, Judge, LabelSpace, Policy, Slate, State, UnsureJudge

__all__ = [
    "AbstainingJudge",
    "Candidates",
    "PolicyPass",
    "ProposeSlates",
    "ScoredSlate",
    "Scoring",
    "StandingJudge",
    "content_id",
    "content_ids",
]

_DIGITS = 32


def content_id(mask: UInt8[np.ndarray, "field *space"]) -> str:
    """Name of a mask by its content: a hash of shape and values, as 32 hexadecimal digits.

    Masks of one content have one id, whichever slate they are in; only together with a case does it
    name a candidate.
    """
    found = checksum()
    found.update(repr(tuple(map(int, mask.shape))).encode())
    found.update(np.ascontiguousarray(mask, np.uint8).data)
    return found.hexdigest()[:_DIGITS]


def content_ids(slate: Slate) -> tuple[str, ...]:
    """The content id of every candidate of a slate, of parts that of the whole mask."""
    return slate.ids or tuple(content_id(mask) for mask in slate.masks)


@dataclass(frozen=True, slots=True)
class ScoredSlate:
    """One case with its slate, and what the judge says of it.

    Args:
        case: with its label, if it has one.
        slate: its candidates.
        scores: the judge's, ``[K, field]``.
        uncertainty: the judge's uncertainty of each score; None if it is not computed.
        structure: the only one that the scores are about; all where None.
    """

    case: Case
    slate: Slate
    scores: Float[np.ndarray, "K field"]
    uncertainty: Float[np.ndarray, "K field"] | None = None
    structure: str | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Content id of every candidate; each is worked out when it is asked for."""
        return content_ids(self.slate)


@runtime_checkable
class StandingJudge(Judge, Protocol):
    """A judge that knows certain masks of its own and can say nothing of others."""

    def measurable(self, dataset: Any) -> Any:
        """The labelled cases of a dataset of which it knows masks; there may be none."""
        ...

    def asked(self, dataset: Any) -> Iterator[ScoredSlate]:
        """Slates of these masks with their scores, of the cases that are :meth:`measurable`."""
        ...

    def unvoted(self, space: LabelSpace) -> tuple[str, ...]:
        """Names of the structures that it says nothing of."""
        ...


class ProposeSlates(Protocol):
    """Makes one slate per image; :class:`~segpref.proposals.SlateProposals` does."""

    def __call__(
        self,
        policy: Any,
        state: State,
        images: Tensor,
        cases: Sequence[Case],
        seed: int,
        keys: Sequence[int] = (),
    ) -> list[Slate]:
        """Slates that seed, keys and the case's id determine, whatever else is in the batch."""
        ...

    def drafts(
        self,
        policy: Any,
        state: State,
        images: Tensor,
        cases: Sequence[Case],
        seed: int,
        keys: Sequence[int] = (),
    ) -> list[Any]:
        """What the slates are edited from: the part that needs the network."""
        ...

    def edit(self, draft: Any) -> tuple[Slate, list[str]]:
        """The slate of one image, and the families that proposed nothing for it; in any process."""
        ...

    def report_idle(self, case: Case, families: Sequence[str]) -> None:
        """Report families that proposed nothing for a case."""
        ...


class PolicyPass(NamedTuple):
    """Images of a step, and the policy's forward pass on them."""

    images: Tensor
    state: State


@dataclass(frozen=True, slots=True)
class Candidates:
    """Slates of the current policy, for whole images or patches of them.

    Args:
        policy: the anchors are its predictions.
        proposals: make the candidates.
        precision: ``bf16`` for the passes that only propose (views, dropout); ``no`` for the policy's.
    """

    policy: Policy
    proposals: ProposeSlates
    precision: str = "no"

    def __call__(
        self,
        cases: Sequence[Case],
        seed: int,
        keys: Sequence[int] = (),
        passed: PolicyPass | None = None,
    ) -> list[Slate]:
        """One slate per case, with what lies beyond the image out of Omega.

        Args:
            cases: of one size; labels are not read.
            seed: of the candidates, together with ``keys`` and the case's id.
            keys: such as the number of a round.
            passed: the policy's pass of these cases; made here, without gradients, where None.
        """
        images, state = passed or self.forward(cases)
        with lowered(self.precision, state.logits.device):
            made = self.proposals(self.policy, state, images, cases, seed, keys)
        return slates_within(made, cases)

    def drafts(
        self,
        cases: Sequence[Case],
        seed: int,
        keys: Sequence[int] = (),
        passed: PolicyPass | None = None,
    ) -> list[Any]:
        """What the slates are edited from (:class:`~segpref.preferences.SlateWorkers`)."""
        images, state = passed or self.forward(cases)
        with lowered(self.precision, state.logits.device):
            return self.proposals.drafts(self.policy, state, images, cases, seed, keys)

    def forward(self, cases: Sequence[Case]) -> PolicyPass:
        """The policy's pass of some cases of one size, without gradients."""
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        with torch.no_grad():
            return PolicyPass(images, self.policy.forward(images))


@dataclass(frozen=True, slots=True)
class Scoring:
    """Scores slates with a judge.

    Args:
        judge: is prepared for the cases, and sees labels only if it declares them.
        unsure: whether it is asked how unsure it is, too.
    """

    judge: Judge
    unsure: bool = False

    def __call__(self, cases: Sequence[Case], slates: Sequence[Slate]) -> list[ScoredSlate]:
        """Scores of one slate per case."""
        return [self._scored(case, slate) for case, slate in zip(cases, slates, strict=True)]

    def seen(self, case: Case) -> Case:
        """The case as the judge sees it."""
        if self.judge.needs_label:
            return case
        return replace(case, label=None, raters=None)

    def _scored(self, case: Case, slate: Slate) -> ScoredSlate:
        return ScoredSlate(case, slate, *self.of(self.seen(case), slate))

    def of(self, seen: Case, slate: Slate) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores and uncertainty of a slate, of a case as the judge sees it."""
        doubt = None
        scores = self.judge.score(seen, slate)
        if self.unsure:
            assert isinstance(self.judge, UnsureJudge)
            doubt = self.judge.uncertainty(seen, slate)
        return scores, doubt


@dataclass(slots=True)
class AbstainingJudge:
    """A judge that always abstains, for slates that people will judge."""

    needs_label: bool = False
    in_workers = True

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """NaN for every candidate and field."""
        return np.full(slate.masks.shape[:2], np.nan)
