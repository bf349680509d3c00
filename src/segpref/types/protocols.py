"""What a policy, a judge, a miner and an objective offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64

from segpref.types.case import Case
from segpref.types.label_space import LabelSpace
from segpref.types.slate import Margins, Slate, WeightedPairs

if TYPE_CHECKING:  # commands that train nothing should not wait for torch
    from torch import Tensor

__all__ = [
    "Judge",
    "Miner",
    "Objective",
    "Policy",
    "Predictor",
    "PreparedJudge",
    "State",
    "UnsureJudge",
]


@runtime_checkable
class State(Protocol):
    """What a policy's one differentiable pass leaves behind."""

    @property
    def logits(self) -> Float[Tensor, "B C *space"]:
        """Network outputs, with their graph."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """Anything that turns images into logits without gradients: a policy, or a frozen network."""

    label_space: LabelSpace

    def logits(self, images: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B C *space"]:
        """Logits of a batch, without a graph."""
        ...

    def digest(self) -> str:
        """Name of the weights: predictions are cached under it."""
        ...


@runtime_checkable
class Policy(Predictor, Protocol):
    """The model that is fine-tuned: a distribution over masks given an image."""

    def forward(self, images: Float[Tensor, "B channel *space"]) -> State:
        """The one differentiable pass."""
        ...

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> Float[Tensor, "S B C *space"] | None:
        """``count`` stochastic reruns of the last stage with dropout; None where it has no dropout.

        ``rate`` None keeps the network's own rates. ``seeds`` has one number per image, which
        determines its masks. No graph; the global random state is untouched.
        """
        ...


@runtime_checkable
class Judge(Protocol):
    """Gives every candidate a score per field, higher is better; NaN abstains."""

    needs_label: bool
    """Whether the judge reads ``case.label``. Only the oracle does."""

    # A judge with a true ``in_workers`` can be pickled and, of cases that it has predicted, needs no
    # network: it scores in worker processes, if there are any.

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Scores of one slate."""
        ...


@runtime_checkable
class PreparedJudge(Judge, Protocol):
    """A judge that is shown all images before it scores any: it predicts them, or reads their masks."""

    def prepare(self, dataset: Any) -> None:
        """Make ready what scores of these images need; may be called for several datasets."""
        ...


@runtime_checkable
class UnsureJudge(Judge, Protocol):
    """A judge that reports its uncertainty."""

    def uncertainty(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """One standard deviation of each score, in units of the score."""
        ...


@runtime_checkable
class Miner(Protocol):
    """Picks (winner, loser) pairs from the scores of one field; index 0 is the anchor."""

    def __call__(
        self, scores: Float[np.ndarray, " K"], rng: np.random.Generator, /
    ) -> Int64[np.ndarray, "P 2"] | WeightedPairs:
        """Pairs as rows (winner, loser), in groups or not; none where nothing can be told."""
        ...


@runtime_checkable
class Objective(Protocol):
    """Turns margins into losses, one per pair.

    An objective that also reads the likelihood of the winner says so with the class attribute
    ``needs_likelihood``, or ``needs_reference_likelihood`` for that under the reference; one that
    reads the judge's uncertainty with ``needs_uncertainty``. One that reads ``Margins.target`` says
    so with ``soft_targets``, so that ties can be learned from, and one whose margins are of single
    masks that are accepted or rejected, each against the anchor, with ``single_masks``.
    """

    def __call__(self, margins: Margins, /) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        ...
