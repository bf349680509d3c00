"""Feedback on thresholded probabilities of a policy, for align (Konwer et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segpref.judges import NamedJudge, VirtualAnnotator
from segpref.objectives import DPO, BestOnly, Reduction
from segpref.preferences import NestedPairs
from segpref.proposals import SlateProposals, Thresholds
from segpref.settings import Settings, setting
from segpref.training.signals import PreferenceSignal
from segpref.types import LabelSpace

__all__ = ["Feedback", "FeedbackKind"]

FeedbackKind = Literal["rating", "ranking", "best-only"]


@dataclass(frozen=True)
class Feedback(Settings):
    """Candidates from thresholds, and what is learned from ratings, a ranking or the best alone.

    ``rating`` and ``ranking`` are Eq. 5, ``-log sigmoid(beta_1 m(1, 4) + beta_2 m(2, 3))`` with ``m``
    the margin of two candidates; candidates that are rated alike make no margin. ``best-only`` is Eq. 5
    without its other three terms (:class:`~segpref.objectives.BestOnly`).
    """

    kind: FeedbackKind = "ranking"
    """rating (1 to 4 by quarters of the score), ranking, or best-only."""

    betas: tuple[float, float] = (1.0, 0.5)
    """beta_1 and beta_2; best-only takes the first."""

    reduction: Reduction = "image"
    """image (the paper's, as any DPO), region, or [power, a]."""

    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6)
    """Probabilities at which candidates are cut; 0.5 is the model's own mask. The paper does not
    give its own."""

    flip_rate: float = setting(0.0, least=0, most=1)
    """How often two closely ranked candidates change places, from 0 to 1."""

    flip_within: float | None = setting(None, least=0)
    """Largest difference of score of those that do; any if left out."""

    seed: int = setting(0, least=0)
    """Random seed of flips and reversals."""

    reverse_rate: float = setting(0.0, least=0, most=1)
    """How often the whole order is turned round, from 0 to 1; at 0.5 it is random."""

    def judge(self, scorer: NamedJudge) -> VirtualAnnotator:
        """The annotator, who sees candidates as ``scorer`` does."""
        return VirtualAnnotator(
            scorer,
            "rating" if self.kind == "rating" else "ranking",
            flip_rate=self.flip_rate,
            flip_within=self.flip_within,
            seed=self.seed,
            reverse_rate=self.reverse_rate,
        )

    def proposals(self) -> SlateProposals:
        """What is shown."""
        families = [Thresholds(self.thresholds)]
        return SlateProposals(1 + families[0].candidates, families)

    def signal(self, label_space: LabelSpace) -> PreferenceSignal:
        """What is learned."""
        if self.kind == "best-only":
            miner, objective = NestedPairs((1.0,)), BestOnly(self.betas[0])
            return PreferenceSignal(label_space, miner, objective, self.reduction)
        return PreferenceSignal(label_space, NestedPairs(self.betas), DPO(), self.reduction)
