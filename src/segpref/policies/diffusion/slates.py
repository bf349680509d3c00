"""Slates of a model that draws masks: its candidates are its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from segpref.checking import checked
from segpref.data.prompts import draw_prompt
from segpref.policies.diffusion.sampling import Sampler
from segpref.policies.mask_sampler import MaskSampler
from segpref.types import Candidate, Case, SegprefError, Slate

__all__ = ["SampleSlates", "prompt_of"]


def prompt_of(case: Case, key: int) -> str | None:
    """The one prompt under which a slate is sampled and compared, drawn from those of the case."""
    return draw_prompt(case, np.random.default_rng([key, 0]))


@checked()
@dataclass(frozen=True)
class SampleSlates:
    """K samples of every image under one prompt (TDG-DiffDPO, Sec. 3.4.2 and Appendix A.1).

    All candidates of a slate share the prompt, because a preference is between masks of one image and
    one text (Eq. 6). Index 0 is the first sample: no prediction of such a model stands out.

    *Stochastic Run* is ``runs=2`` with the Best-Rater judge and the extremes miner: two runs of K with
    seeds of their own, the best and the worst of all 2K.

    Args:
        count: samples K per run.
        runs: independent runs.
        sampler: draws them, with a model of its kind.
    """

    count: int = 4
    runs: int = 1
    sampler: MaskSampler = field(default_factory=Sampler)

    def __post_init__(self) -> None:
        if self.count < 1 or self.runs < 1 or self.count * self.runs < 2:
            raise SegprefError(
                f"a slate needs at least two samples, not {self.runs} runs of {self.count}"
            )

    def __call__(self, model: Any, cases: Sequence[Case], keys: Sequence[int]) -> list[Slate]:
        """One slate per case.

        Args:
            model: samples are drawn from it; the frozen reference in the paper.
            cases: 2D images as the model takes them.
            keys: one per case; they determine prompt and samples, whatever else is in the batch.
        """
        return self.slates(self.masks(model, cases, keys), keys)

    def masks(
        self, model: Any, cases: Sequence[Case], keys: Sequence[int]
    ) -> UInt8[np.ndarray, "B K field *space"]:
        """The samples alone."""
        prompts = [prompt_of(case, key) for case, key in zip(cases, keys, strict=True)]
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        texts = [[prompt] * (self.runs * self.count) for prompt in prompts]
        soft = self.sampler.soft(model, images, texts, [self.seeds(key) for key in keys])
        return self.sampler.cut(soft)

    def slates(
        self, masks: UInt8[np.ndarray, "B K field *space"], keys: Sequence[int]
    ) -> list[Slate]:
        """Slates of samples that are drawn already, with these keys."""
        sources = [
            tuple(Candidate("sample", {"run": run, "seed": seed}) for run, seed in self._seeds(key))
            for key in keys
        ]
        return [Slate(own, source) for own, source in zip(masks, sources, strict=True)]

    def seeds(self, key: int) -> list[int]:
        """Seed of every sample of the slate with this key."""
        return [seed for _, seed in self._seeds(key)]

    def _seeds(self, key: int) -> list[tuple[int, int]]:
        return [
            (run, _seed(key, run, number))
            for run in range(self.runs)
            for number in range(self.count)
        ]


def _seed(*keys: int) -> int:
    return int(np.random.SeedSequence([*keys, 1]).generate_state(1, np.uint64)[0] >> 1)
