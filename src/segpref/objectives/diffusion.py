"""Margins of diffusion models: differences of denoising errors.

A diffusion model's likelihood is not known, but the squared error with which it denoises a mask takes
the place of its negative logarithm (Wallace et al., 2024). So the log-ratio map of a pair is

    d_i = e_i(y-) - e_i(y+)        e_i = (f(y_t) - target)_i^2

under one draw of noise and time that winner and loser, policy and reference share, and a margin is
``reduce(d_policy) - reduce(d_reference)``, as for every other policy. It is not zero where the masks
agree, since a network's answer at a pixel depends on the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from segpref.objectives.likelihood import Reduction, exponent, of_pairs
from segpref.types import Margins, Pairs, SegprefError

__all__ = [
    "BetaConvention",
    "denoising_log_ratio",
    "diffusion_margins",
    "margin_scale",
    "reduce_map",
    "safe_scale",
]

BetaConvention: TypeAlias = Literal["half-mean", "mean", "sum", "half-sum"]
"""What an objective's beta is multiplied with.

``half-mean``: ``beta / 2`` times errors averaged over pixels, as in the code of Diffusion-DPO (Wallace
et al., 2024) and of diffusers, in which values such as 2000 and 5000 are given. ``sum``: squared norms
and no factor, as TDG-DiffDPO prints it (Eq. 6 and 7). ``mean`` and ``half-sum``: the other two.
"""


def denoising_log_ratio(
    winner: Float[Tensor, "P *space"], loser: Float[Tensor, "P *space"]
) -> Float[Tensor, "P *space"]:
    """Log-ratio map ``e_i(y-) - e_i(y+)``: above 0 where the winner is denoised better.

    Args:
        winner: residuals (prediction minus target) of the winners.
        loser: those of the losers, under the same noise and time.
    """
    return loser**2 - winner**2


def reduce_map(
    d: Float[Tensor, "P *space"],
    region: Bool[Tensor, "P *space"],
    reduction: Reduction,
    known: Bool[Tensor, "P *space"] | None = None,
) -> Float[Tensor, " P"]:
    """Reduce maps with the formulas of :func:`~segpref.objectives.likelihood.reduce_margin`.

    ``image``: ``sum_Omega d / |Omega|``. ``region``: ``sum_R d / |R|``. ``("power", a)``:
    ``sum_R d / (|R|^a |Omega|^(1-a))``, which for ``a`` = 0 is not ``image`` here, because d is not 0
    outside of R. Sums run in float64.

    Args:
        d: per pixel.
        region: where winner and loser differ (R).
        reduction: how to normalise.
        known: Omega; all pixels where None.

    Returns:
        float32, or float64 where the map is; 0 where R (or Omega, for ``image``) is empty.
    """
    a = exponent(reduction)
    omega = torch.ones_like(region) if known is None else known
    support = omega if reduction == "image" else region & omega
    total = (d.double() * support).flatten(1).sum(1)
    inside, whole = (
        part.flatten(1).sum(1).double().clamp(min=1) for part in (region & omega, omega)
    )
    size = inside**a * whole ** (1 - a)
    return (total / size).to(d.dtype if d.dtype == torch.float64 else torch.float32)


def margin_scale(convention: BetaConvention, omega: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """What margins in units of the mean squared error are multiplied with, so that beta is as named.

    ``1/2`` for ``half-``, and ``|Omega|`` for ``sum``: the only place that distinguishes conventions
    apart. Under ``region`` and ``power`` it is the same factor, so that a pair that differs everywhere
    has the same margin under every reduction.

    Raises:
        SegprefError: an unknown convention.
    """
    if convention not in ("half-mean", "mean", "sum", "half-sum"):
        raise SegprefError(
            f"beta is meant as half-mean, mean, sum or half-sum, not {convention!r}: correct "
            "beta_convention"
        )
    factor = 0.5 if convention.startswith("half-") else 1.0
    return factor * (omega if convention.endswith("sum") else torch.ones_like(omega))


def safe_scale(
    winner: Float[Tensor, "P *space"],
    loser: Float[Tensor, "P *space"],
    support: Bool[Tensor, "P *space"],
    mu: float,
) -> Float[Tensor, " P"]:
    """By how much the loser's gradient is scaled so that the winner does not get worse.

    Diffusion-SDPO (Fu et al., 2025, arXiv 2511.03317, Sec. 4): a step lowers the winner's error along
    ``g_w`` and raises the loser's along ``g_l``, so that the winner's error changes by
    ``-|g_w|^2 + lambda <g_w, g_l>`` to first order. It falls at least by ``mu |g_w|^2`` with

        lambda = min(1, (1 - mu) |g_w|^2 / <g_w, g_l>)    where <g_w, g_l> > 0, else 1

    and as in that work the gradients are those by the network's *outputs*, here the residuals (their
    common factor cancels), so that no further pass is needed. The authors take one lambda per batch;
    here every pair has its own, and only the pixels that the reduction reads count.

    Args:
        winner: residuals of the winners.
        loser: residuals of the losers.
        support: the pixels that count: Omega for ``image``, R otherwise.
        mu: share of the winner's progress that is kept, 0 to 1; 0.9 in most of their experiments.

    Returns:
        0 to 1, without a graph; 1 where the residuals do not pull the same way.
    """
    if not 0 <= mu <= 1:
        raise SegprefError(f"the safeguard keeps a share from 0 to 1, not {mu}: correct safeguard")
    g_w = (winner.detach().double() * support).flatten(1)
    g_l = (loser.detach().double() * support).flatten(1)
    along = (g_w * g_l).sum(1)
    bound = (1 - mu) * (g_w**2).sum(1) / along.where(along > 0, torch.ones_like(along))
    return torch.where(along > 0, bound.clamp(max=1), 1.0).to(winner.dtype)


def diffusion_margins(
    policy: Float[Tensor, "2 P *space"],
    reference: Float[Tensor, "2 P *space"],
    region: Bool[Tensor, "P *space"],
    pairs: Pairs,
    reduction: Reduction,
    *,
    convention: BetaConvention = "half-mean",
    safeguard: float | None = None,
    likelihood: bool = False,
    reference_likelihood: bool = False,
    known: Bool[Tensor, "P *space"] | None = None,
) -> Margins:
    """Margins of pairs from the residuals of winner (first) and loser (second).

    With ``image``, :class:`~segpref.objectives.pairwise.DPO` on them is Diffusion-DPO (TDG-DiffDPO,
    Eq. 6 and 7); with ``region`` only the pixels on which the masks differ are heard. Pairs of equal
    masks have the margin 0 and should be left out.

    Args:
        policy: prediction minus target under the policy, with its graph.
        reference: the same under the frozen reference, with the same draw.
        region: where winner and loser differ (R).
        pairs: what the residuals are of.
        reduction: how maps become margins.
        convention: what the objective's beta is meant for; scales the margins.
        safeguard: share ``mu`` of the winner's progress to keep (:func:`safe_scale`); it scales the
            gradient through the loser and leaves every value as it is. None for no safeguard.
        likelihood: whether the objective needs the winner's log-likelihood, for which minus its
            reduced error stands, up to a constant that does not depend on the policy.
        reference_likelihood: the same under the reference.
        known: Omega; all pixels where None.
    """
    omega = torch.ones_like(region) if known is None else known
    scale = margin_scale(convention, omega.flatten(1).sum(1).to(policy.dtype))

    def reduced(values: Tensor) -> Tensor:
        return scale * reduce_map(values, region, reduction, omega)

    with torch.no_grad():
        before = reduced(denoising_log_ratio(*reference))
    winner, loser = policy
    if safeguard is not None:
        support = omega if reduction == "image" else region & omega
        kept = safe_scale(winner, loser, support, safeguard).reshape(-1, *[1] * (loser.ndim - 1))
        # The error of the loser keeps its value; its gradient, which is 2 r dr, is scaled.
        error = loser**2
        error = error.detach() + kept * (error - error.detach())
        after = reduced(error - winner**2)
    else:
        after = reduced(denoising_log_ratio(winner, loser))
    return replace(
        of_pairs(pairs, after, before),
        winner=reduced(-(winner**2)) if likelihood else None,
        reference_winner=reduced(-(reference[0] ** 2)) if reference_likelihood else None,
    )
