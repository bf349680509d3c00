"""Stage 2 of a segmenter that draws masks by a latent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from segpref.inference.mask_samplers import LatentSampler
from segpref.policies import LatentMargins, LatentSegmenter, MaskSampler
from segpref.policies.diffusion import SampleSlates
from segpref.training.tasks.samples import SampledBatch, SampledSlates, SampleTask
from segpref.types import SegprefError

__all__ = ["LatentPreferences"]


@dataclass(frozen=True)
class LatentPreferences(SampleTask[LatentSegmenter]):
    """Preferences between samples of a Probabilistic U-Net, each with the latent it was drawn by.

    Raises:
        SegprefError: slates that are drawn again: their latents would no longer be the reference's.
    """

    draws = "a model that draws masks by a latent"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.config.refresh:
            raise SegprefError(
                f"{self.draws} learns from samples of its base, which are drawn once: leave out refresh"
            )

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """The posterior, which only stage 1 needs."""
        return True

    @property
    def source(self) -> SampledSlates:
        """Samples by latents of the prior."""
        proposals = self.inputs.proposals or SampleSlates(sampler=self.validated_by)
        return SampledSlates(self.policy, proposals, self.config.seed)

    @property
    def validated_by(self) -> MaskSampler:
        """The same."""
        return LatentSampler()

    def margins(self, source: SampledSlates, batch: SampledBatch) -> LatentMargins:
        """Log-likelihoods of masks and latents."""
        seeds = [source.seeds(case, batch.number) for case in batch.cases]
        latents = self.reference.latents(batch.images, seeds)
        return LatentMargins(self.policy, self.reference, batch.images, latents)
