"""Stage 2 of a diffusion model: the same preferences, with margins from denoising errors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from segpref.checking import checked
from segpref.objectives.diffusion import BetaConvention
from segpref.policies import MaskSampler
from segpref.policies.diffusion import AmbiSeg, DenoisingMargins, Sampler, SampleSlates
from segpref.training.tasks.samples import SampledBatch, SampledSlates, SampleTask

__all__ = ["Denoising", "SamplePreferences"]


@checked(safeguard={"least": 0, "most": 1})
@dataclass(frozen=True)
class Denoising:
    """How denoising errors become margins.

    Args:
        convention: what the objective's beta is meant for. ``half-mean`` is that of the code of
            Diffusion-DPO and of diffusers (values such as 2000 and 5000), ``sum`` what TDG-DiffDPO
            prints in Eq. 6 and 7; ``mean`` and ``half-sum`` are the other two.
        safeguard: share of the winner's progress that the loser's gradient may not take away
            (Diffusion-SDPO), 0 to 1; None for no safeguard.
    """

    convention: BetaConvention = "half-mean"
    safeguard: float | None = None


@dataclass(frozen=True)
class SamplePreferences(SampleTask[AmbiSeg]):
    """Preferences between samples of a diffusion model: margins are differences of denoising errors.

    Args:
        denoising: how denoising errors become margins.
    """

    denoising: Denoising = Denoising()
    draws = "a diffusion model"

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """The posterior of the latent, which only stage 1 needs, where there is one."""
        return self.policy.latent > 0

    @property
    def source(self) -> SampledSlates:
        """Samples by its own sampler; those of the first round are kept."""
        inputs = self.inputs
        proposals = inputs.proposals or SampleSlates()
        return SampledSlates(self.policy, proposals, self.config.seed, inputs.cache)

    @property
    def validated_by(self) -> MaskSampler:
        """A short one."""
        return Sampler(steps=10)

    def margins(self, source: SampledSlates, batch: SampledBatch) -> DenoisingMargins:
        """Errors under noise and time that policy, reference, winner and loser share."""
        return DenoisingMargins(
            self.policy,
            self.reference,
            batch.images,
            [source.prompt(case, batch.number) for case in batch.cases],
            batch.rngs,
            self.denoising.convention,
            self.denoising.safeguard,
        )
