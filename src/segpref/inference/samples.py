"""Many masks of every case: drawn, summarised for people, and measured against the raters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from segpref.data.prompts import draw_prompt
from segpref.metrics.ambiguity import AmbiguityScores, ambiguity_scores
from segpref.policies import MaskSampler
from segpref.policies.diffusion import Sampler
from segpref.runtime import runtime
from segpref.types import Case, SegprefError

__all__ = [
    "SampleSummary",
    "rated_masks",
    "sample_cases",
    "score_samples",
    "soft_samples",
    "summarise",
]

_PROMPTS, _NOISE = 0, 1


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What N masks of one image say together.

    Args:
        mean: share of the samples that hold the structure; NaN where the model did not look.
        majority: where more than half of them do.
        uncertainty: entropy of that share in bits, 0 where all agree and 1 where half do; NaN where
            the model did not look.
    """

    mean: Float[np.ndarray, "field *space"]
    majority: UInt8[np.ndarray, "field *space"]
    uncertainty: Float[np.ndarray, "field *space"]


def sample_cases(
    model: Any,
    cases: Sequence[Case],
    count: int,
    sampler: MaskSampler | None = None,
    seed: int = 0,
    text: str | None = None,
    together: int = 16,
) -> list[UInt8[np.ndarray, "N field *space"]]:
    """``count`` masks of every case (N = 16 in TDG-DiffDPO, Appendix A.2).

    Each sample has its own noise and its own prompt, drawn from any rater's of the case (Sec. 3.3).
    Sample n of a case depends on the seed, the case's id and n, on nothing else: more samples leave
    the first ones as they are. Within a training of several processes each of them draws its part.

    Args:
        model: a diffusion model, or a blend of two; or what another sampler draws with.
        cases: 2D cases, prepared as the model takes them.
        count: samples per case.
        sampler: draws them; 15 steps of DPM-Solver++ with a diffusion model where None.
        seed: of prompts and noise.
        text: one prompt for all samples instead of the cases' own.
        together: cases that are handed to the sampler at a time.
    """
    chosen: MaskSampler = sampler or Sampler()

    def drawn(first: int) -> list[UInt8[np.ndarray, "N field *space"]]:
        few = [cases[i] for i in range(first, min(first + together, len(cases)))]
        soft = soft_samples(model, few, count, chosen, seed, text, together)
        return [chosen.cut(one) for one in soft]

    parts = runtime().each(range(0, len(cases), together), drawn)
    return [one for part in parts for one in part]


def soft_samples(
    model: Any,
    cases: Sequence[Case],
    count: int,
    sampler: MaskSampler,
    seed: int = 0,
    text: str | None = None,
    together: int = 16,
) -> Iterator[Float[Tensor, "N field *space"]]:
    """The same before they are cut, about -1 and +1, case by case.

    Cases of one id share the noise of their samples: slices of a volume, say.
    """
    if count < 1:
        raise SegprefError(f"at least one sample of every image is needed, not {count}")
    for first in range(0, len(cases), together):
        few = [cases[i] for i in range(first, min(first + together, len(cases)))]
        images = torch.from_numpy(np.stack([case.image for case in few]))
        texts = [
            [
                text if text is not None else draw_prompt(case, _generator(seed, case, n, _PROMPTS))
                for n in range(count)
            ]
            for case in few
        ]
        seeds = [
            [int(_generator(seed, case, n, _NOISE).integers(2**63)) for n in range(count)]
            for case in few
        ]
        yield from sampler.soft(model, images, texts, seeds)


def rated_masks(case: Case) -> UInt8[np.ndarray, "rater field *space"]:
    """The masks of a case's raters; its label as that of the only rater where there are none.

    Raises:
        SegprefError: neither is there, or a pixel is unknown to a rater.
    """
    raters = case.raters
    if raters is None and case.label is not None:
        raters = case.label[None]
    if raters is None or not len(raters):
        raise SegprefError(
            f"{case.id} has neither masks of raters nor a label: use a dataset that has them"
        )
    if np.max(raters, initial=0) > 1:
        raise SegprefError(
            f"{case.id} has pixels that a rater leaves open, or masks that are not binary: leave that "
            "rater or case out"
        )
    return np.asarray(raters)


def score_samples(
    masks: Sequence[UInt8[np.ndarray, "N field *space"]], cases: Sequence[Case], structure: int = 0
) -> AmbiguityScores:
    """Ambiguity measures of samples against the raters of their cases, for one structure."""
    ours = [own[:, structure] for own in masks]
    return ambiguity_scores(ours, [rated_masks(case)[:, structure] for case in cases])


def summarise(
    masks: UInt8[np.ndarray, "N field *space"], seen: Bool[np.ndarray, "*space"] | None = None
) -> SampleSummary:
    """Mean, majority vote and uncertainty of the samples of one image.

    Args:
        masks: the samples; empty ones count like all others.
        seen: what the model saw of the image; elsewhere mean and uncertainty are NaN, for nothing is
            known there. All of it where None.
    """
    mean = masks.mean(axis=0, dtype=np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(p > 0, -p * np.log2(p), 0) for p in (mean, 1 - mean)]
    majority = (mean > 0.5).astype(np.uint8)
    uncertainty = np.asarray(sum(parts), dtype=np.float32)
    if seen is not None:
        mean[:, ~seen] = uncertainty[:, ~seen] = np.nan
    return SampleSummary(mean=mean, majority=majority, uncertainty=uncertainty)


def _generator(seed: int, case: Case, number: int, what: int) -> np.random.Generator:
    return np.random.default_rng([seed, *case.id.encode(), number, what])
