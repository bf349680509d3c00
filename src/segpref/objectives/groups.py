"""Several margins under one loss: what a ranking of more than two candidates says."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int64
from torch import Tensor

from segpref.runtime import moved
from segpref.types import Margins

__all__ = ["grouped"]


def grouped(margins: Margins) -> Margins:
    """Sum the margins of every group with their weights: one margin per group, in order of numbers.

    ``Delta_g = sum_{p in g} w_p Delta_p``. The four ranked candidates of Konwer et al. (2025, Eq. 5)
    are one group of two margins, best against worst with ``w = beta_1`` and second against third
    with ``w = beta_2``, each reduced over its own region. Gap, uncertainty and the winner's
    log-likelihood stay what they are for one pair: they are averaged with the same weights.

    Margins without ``group`` and ``weight`` are returned as they are. Weights without groups stretch
    each margin by itself.
    """
    if margins.group is None:
        if margins.weight is None:
            return margins
        weight = margins.weight
        return replace(
            margins,
            policy=weight * margins.policy,
            reference=weight * margins.reference,
            weight=None,
        )
    weight = margins.gap.new_ones(len(margins.gap)) if margins.weight is None else margins.weight
    numbers, place = margins.group.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    place = moved(place, weight.device)
    total = _sums(weight, place, len(numbers))

    def mean(values: Tensor | None) -> Tensor | None:
        return None if values is None else _sums(weight * values, place, len(numbers)) / total

    return Margins(
        policy=_sums(weight * margins.policy, place, len(numbers)),
        reference=_sums(weight * margins.reference, place, len(numbers)),
        gap=_sums(weight * margins.gap, place, len(numbers)) / total,
        winner=mean(margins.winner),
        reference_winner=mean(margins.reference_winner),
        uncertainty=mean(margins.uncertainty),
        target=mean(margins.target),
        flip_rate=mean(margins.flip_rate),
    )


def _sums(
    values: Float[Tensor, " P"], place: Int64[Tensor, " P"], count: int
) -> Float[Tensor, " G"]:
    return values.new_zeros(count).index_add(0, place, values)
