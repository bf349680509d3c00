"""Candidates by dropout rate, and the strategies that MAPO compares them with (Sec. 4.4, Table 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.checking import checked
from segpref.networks.dropout import DropoutKind
from segpref.proposals.extent import biased
from segpref.proposals.proposal import ProposalContext, Proposed
from segpref.proposals.slate import SlateProposals
from segpref.seeds import generators, image_seeds
from segpref.types import Policy, SegprefError, State

__all__ = [
    "RATES_2D",
    "RATES_3D",
    "THRESHOLDS",
    "DropoutRates",
    "InputNoise",
    "StochasticPolicy",
    "Thresholds",
    "full_slates",
    "stochastic",
]

RATES_2D = tuple(step / 200 for step in range(11))
"""Dropout rates of the paper in 2D: 0 to 0.05 by 0.005 (Sec. 4.2)."""

RATES_3D = tuple(step / 20 for step in range(7))
"""Dropout rates of the paper in 3D: 0 to 0.30 by 0.05 (Sec. 4.2)."""

THRESHOLDS = tuple(step / 40 for step in range(15, 26))
"""The 11 thresholds of the paper: 0.375 to 0.625 by 0.025 (Sec. 4.4)."""


@runtime_checkable
class StochasticPolicy(Policy, Protocol):
    """A policy that can run its whole network with dropout."""

    def stochastic_logits(
        self,
        images: Float[Tensor, "B channel *space"],
        rate: float,
        seeds: Sequence[int],
        kind: DropoutKind = "element",
    ) -> Float[Tensor, "B C *space"] | None:
        """One pass with dropout after every block; None where the network has no block.

        ``seeds`` has one number per image, which determines its masks. No graph; the global random
        state is untouched.
        """
        ...


def stochastic(policy: Policy) -> StochasticPolicy | None:
    """The policy, if it can be run with dropout; None where it can't."""
    return policy if isinstance(policy, StochasticPolicy) else None


@checked(weight={"least": 0})
class DropoutRates:
    """Predictions of the whole network under dropout at several rates (Sec. 3.3.2).

    Rate 0 is the anchor, which every slate has already, so it costs no pass and makes no second
    candidate: 11 rates with one sample each fill a slate of 11.

    Args:
        rates: dropout rates; :data:`RATES_3D` is the paper's in 3D.
        samples: candidates per rate.
        kind: ``element`` drops single numbers, as the paper has it; ``channel`` whole channels.
        weight: share of the slate.

    Raises:
        SegprefError: no rate above 0, a rate out of range, or no sample.
    """

    family = "dropout-rate"

    def __init__(
        self,
        rates: Sequence[float] = RATES_2D,
        samples: int = 1,
        kind: DropoutKind = "element",
        weight: float = 1.0,
    ) -> None:
        if not rates or min(rates) < 0 or not 0 < max(rates) < 1:
            raise SegprefError(
                f"DropoutRates needs rates from 0 to below 1, one of them above 0, not {list(rates)}"
            )
        if samples < 1:
            raise SegprefError(f"DropoutRates needs at least 1 sample per rate, not {samples}")
        self.rates = rates
        self.samples = samples
        self.kind = kind
        self.weight = weight

    @property
    def passes(self) -> list[tuple[float, int]]:
        """(rate, sample) of every pass: all rates, then all again."""
        return _passes(self.rates, self.samples)

    @property
    def candidates(self) -> int:
        """Number of candidates besides the anchor."""
        return len(self.passes)

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """``dropout-rate [B, S, field, *space]``; None where the policy cannot."""
        model = stochastic(policy)
        if model is None:
            return None
        masks = []
        for number, (rate, _) in enumerate(self.passes):
            own = image_seeds(seeds, number)
            logits = model.stochastic_logits(images, rate, own, self.kind)
            if logits is None:
                return None
            masks.append(policy.label_space.decode(logits))
        return {self.family: torch.stack(masks, dim=1)}

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per rate and sample; nothing where the network has no block."""
        found = context.predictions.get(self.family)
        if found is not None:
            for (rate, sample), mask in zip(self.passes, found, strict=True):
                yield {"rate": rate, "sample": sample}, mask


@checked(weight={"least": 0})
class Thresholds:
    """The policy's probabilities cut at several thresholds (Table 4).

    Multi-label: ``y = [sigmoid(z) > t]``, the same threshold for every structure. Multi-class: a
    pixel is foreground where ``sigmoid(max_c z_c - z_0) > t`` over the foreground classes c, and
    takes the most likely of them. With two classes that is the paper's cut of the foreground's
    probability; with more, t = 1/2 stays the anchor, which a cut of the summed foreground's
    probability would not.

    Args:
        thresholds: probabilities; 0.5 is the anchor.
        weight: share of the slate.

    Raises:
        SegprefError: no threshold, or one out of range.
    """

    family = "threshold"

    def __init__(
        self,
        thresholds: Sequence[float] = THRESHOLDS,
        weight: float = 1.0,
    ) -> None:
        if not thresholds or not 0 < min(thresholds) <= max(thresholds) < 1:
            raise SegprefError(f"Thresholds needs numbers between 0 and 1, not {list(thresholds)}")
        self.thresholds = thresholds
        self.weight = weight

    @property
    def candidates(self) -> int:
        """Number of candidates besides the anchor."""
        return len(set(self.thresholds) - {0.5})

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per threshold."""
        for threshold in self.thresholds:
            cut = math.log(threshold / (1 - threshold))
            if context.label_space.kind == "multi-class":
                mask = biased(context, None, -cut)
            else:
                mask = (context.logits > cut).view(np.uint8)
            yield {"threshold": threshold}, mask


@checked(weight={"least": 0})
class InputNoise:
    """Predictions of images with Gaussian noise (Table 4).

    ``x + s (max x - min x) e`` with e standard normal and the range taken per image and channel, so
    that s means the same after any normalisation; with images from 0 to 1 it is the paper's noise.
    s = 0 is the anchor, which every slate has already.

    Args:
        deviations: standard deviations s; the paper's are 0 to 0.05 by 0.005.
        samples: candidates per deviation.
        weight: share of the slate.

    Raises:
        SegprefError: no deviation above 0, a negative one, or no sample.
    """

    family = "input-noise"

    def __init__(
        self, deviations: Sequence[float] = RATES_2D, samples: int = 1, weight: float = 1.0
    ) -> None:
        if not deviations or min(deviations) < 0 or not 0 < max(deviations) < math.inf:
            raise SegprefError(
                f"InputNoise needs deviations from 0, one of them above 0, not {list(deviations)}"
            )
        if samples < 1:
            raise SegprefError(f"InputNoise needs at least 1 sample per deviation, not {samples}")
        self.deviations = deviations
        self.samples = samples
        self.weight = weight

    @property
    def passes(self) -> list[tuple[float, int]]:
        """(deviation, sample) of every pass: all deviations, then all again."""
        return _passes(self.deviations, self.samples)

    @property
    def candidates(self) -> int:
        """Number of candidates besides the anchor."""
        return len(self.passes)

    def predict(
        self,
        policy: Policy,
        state: State,
        images: Float[Tensor, "B channel *space"],
        seeds: Sequence[int],
    ) -> Mapping[str, Tensor] | None:
        """``input-noise [B, S, field, *space]``."""
        space = tuple(range(2, images.ndim))
        width = images.amax(space, keepdim=True) - images.amin(space, keepdim=True)
        masks = []
        for number, (size, _) in enumerate(self.passes):
            rngs = generators(image_seeds(seeds, number))
            noise = torch.stack([torch.randn(images.shape[1:], generator=one) for one in rngs])
            noisy = images + size * width * noise.to(images)
            masks.append(policy.label_space.decode(policy.logits(noisy)))
        return {self.family: torch.stack(masks, dim=1)}

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per deviation and sample."""
        found = context.predictions.get(self.family)
        if found is not None:
            for (size, sample), mask in zip(self.passes, found, strict=True):
                yield {"deviation": size, "sample": sample}, mask


def full_slates(family: DropoutRates | Thresholds | InputNoise) -> SlateProposals:
    """Slates of the anchor and all candidates of one family: one row of Table 4."""
    return SlateProposals(1 + family.candidates, [family])


def _passes(sizes: Sequence[float], samples: int) -> list[tuple[float, int]]:
    above = [size for size in dict.fromkeys(sizes) if size > 0]
    return [(size, sample) for sample in range(1, samples + 1) for size in above]
