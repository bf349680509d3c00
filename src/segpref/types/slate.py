"""Candidates of an image, pairs of them, and what policy and reference make of the pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int64, UInt8

if TYPE_CHECKING:  # commands that train nothing should not wait for torch
    from torch import Tensor

__all__ = ["Candidate", "Margins", "Pairs", "Slate", "WeightedPairs"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where a mask of a slate comes from: the proposal family and its settings."""

    family: str
    settings: Mapping[str, float | int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        inside = ", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self.settings.items()
        )
        return f"{self.family} ({inside})" if inside else self.family


@dataclass(frozen=True, slots=True)
class Slate:
    """K candidate masks of one image; index 0 is the anchor, the policy's own prediction.

    Args:
        masks: uint8 ``[K, field, *space]``.
        candidates: K descriptions, in the order of the masks.
        ids: content ids of the whole masks that these are parts of; None where they are whole.
    """

    masks: UInt8[np.ndarray, "K field *space"]
    candidates: tuple[Candidate, ...]
    ids: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Mined preferences of one batch; all arrays have length P.

    Args:
        case: index of the image in the batch.
        field: index of the field that the preference is about.
        winner: index of the preferred candidate in the image's slate.
        loser: index of the other one.
        gap: the judge's score of the winner minus that of the loser, above 0.
        weight: of each pair's margin before the loss, above 0; 1 where None.
        group: pairs with the same number are one margin; every pair is its own where None.
        target: how far the winner is said to be the better one: 1, which is meant where None, one half
            of a tie; of one mask against the anchor 1 where it is accepted and 0 where it is rejected.
        flip_rate: how often whoever said so is wrong, from 0 to 1/2; unknown where None.
        structure: index of the structure of an exclusive label map that the pair is about, -1 for all
            of them; all where None.
    """

    case: Int64[np.ndarray, " P"]
    field: Int64[np.ndarray, " P"]
    winner: Int64[np.ndarray, " P"]
    loser: Int64[np.ndarray, " P"]
    gap: Float[np.ndarray, " P"]
    weight: Float[np.ndarray, " P"] | None = None
    group: Int64[np.ndarray, " P"] | None = None
    target: Float[np.ndarray, " P"] | None = None
    flip_rate: Float[np.ndarray, " P"] | None = None
    structure: Int64[np.ndarray, " P"] | None = None

    def __len__(self) -> int:
        return len(self.case)


@dataclass(frozen=True, slots=True)
class WeightedPairs:
    """Pairs of one field of one slate that belong together.

    Args:
        rows: (winner, loser).
        weight: of each pair's margin before the loss, above 0.
        group: pairs with the same number are one margin; the numbers mean nothing outside the field.
    """

    rows: Int64[np.ndarray, "P 2"]
    weight: Float[np.ndarray, " P"]
    group: Int64[np.ndarray, " P"]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Margins:
    """How much policy and reference prefer each winner to its loser, after the reduction.

    What an objective does not ask for is None. The loser's log-likelihood needs no place of its own:
    it is ``winner - policy``, under every reduction.

    Args:
        policy: reduced log-ratios under the policy, differentiable.
        reference: the same under the frozen reference.
        gap: the judge's score difference of each pair.
        winner: log-likelihood of the winner under the policy, under the same reduction,
            differentiable; there for an objective with ``needs_likelihood``.
        reference_winner: the same under the reference; there for an objective with
            ``needs_reference_likelihood``.
        uncertainty: how unsure the judge is of the gap, in units of its score (one standard
            deviation); if the judge reports it.
        weight: what the margin is multiplied with before the loss (not the loss), above 0; 1 where
            None.
        group: margins with the same number are summed, with their weights, into one margin before
            the loss; every pair is a group of its own where None. On the host, where counting the
            groups waits for no device.
        target: how far the winner is said to be the better one (:class:`Pairs`), for an objective with
            ``soft_targets``; 1 where None.
        flip_rate: how often whoever said so is wrong, from 0 to 1/2; unknown where None.
    """

    policy: Float[Tensor, " P"]
    reference: Float[Tensor, " P"]
    gap: Float[Tensor, " P"]
    winner: Float[Tensor, " P"] | None = None
    reference_winner: Float[Tensor, " P"] | None = None
    uncertainty: Float[Tensor, " P"] | None = None
    weight: Float[Tensor, " P"] | None = None
    group: Int64[Tensor, " P"] | None = None
    target: Float[Tensor, " P"] | None = None
    flip_rate: Float[Tensor, " P"] | None = None

    @property
    def difference(self) -> Float[Tensor, " P"]:
        """Policy part minus reference part: the argument of DPO's sigmoid before beta (Eq. 5)."""
        return self.policy - self.reference
