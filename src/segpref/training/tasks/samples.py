"""Stage 2 of a diffusion model: the same preferences, with margins from denoising errors."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from segpref.checking import checked
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.networks import weights_digest
from segpref.objectives.diffusion import BetaConvention
from segpref.policies.diffusion import AmbiSeg, DenoisingMargins, SampleSlates, prompt_of
from segpref.preferences import RoundSlates
from segpref.proposals import SlateProposals
from segpref.seeds import derive_seed
from segpref.training.loop import StepResult
from segpref.training.signals import ScoredBatch, Signal
from segpref.training.tasks.preference import PreferenceTask
from segpref.training.tasks.rated import sample_figures
from segpref.training.trainer import TrainingContext, TrainingPlan
from segpref.types import Case, SegprefError, Slate

__all__ = ["Denoising", "DenoisingStep", "SamplePreferences", "SampledSlates"]


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


@dataclass(frozen=True, slots=True)
class SampledSlates:
    """Samples of a policy as the candidates of a round, each slate under one prompt.

    Args:
        policy: in its state when the round begins; the frozen reference in the first round.
        proposals: draw the samples.
        seed: of prompts and samples, together with round and case.
        cache: where samples of the first round are kept, for runs from one reference with the same
            seed, pool and proposals begin with the same; not kept where None.
    """

    policy: AmbiSeg
    proposals: SampleSlates
    seed: int
    cache: Cache | None = None

    def __call__(self, cases: Sequence[Case], number: int) -> tuple[list[Slate], None]:
        """Slates of some cases; there are no logits to keep."""
        self.policy.network.eval()
        keys = [self._key(case, number) for case in cases]
        draw = partial(self.proposals.masks, self.policy, cases, keys)
        if number or self.cache is None:
            return self.proposals.slates(draw(), keys), None
        name = self._name(cases, keys)
        kept = self.cache.entry(name, lambda: {"masks": draw()})["masks"]
        return self.proposals.slates(np.asarray(kept), keys), None

    def prompt(self, case: Case, number: int) -> str | None:
        """The text under which the slate of a case was sampled."""
        return prompt_of(case, self._key(case, number))

    def _name(self, cases: Sequence[Case], keys: Sequence[int]) -> dict[str, object]:
        """What the samples of some cases depend on, but for the last bits of a machine's arithmetic."""
        images = np.stack([case.image for case in cases])
        prompts = [prompt_of(case, key) for case, key in zip(cases, keys, strict=True)]
        words = self.policy.words(prompts)
        told = {} if words is None else dict(zip(("embedded", "there"), words, strict=True))
        return {
            "what": "samples",
            "weights": self.policy.digest(),
            "process": asdict(self.policy.process),
            "words": weights_digest(told),
            "proposals": asdict(self.proposals),
            "images": weights_digest({"images": torch.from_numpy(images)}),
            "shape": images.shape,
            "prompts": prompts,
            "keys": list(keys),
        }

    def _key(self, case: Case, number: int) -> int:
        return derive_seed(self.seed, number, zlib.crc32(case.id.encode()))


@dataclass(frozen=True, slots=True)
class DenoisingStep:
    """One step of stage 2 of a diffusion model up to its loss (TDG-DiffDPO, Sec. 3.4).

    Args:
        policy: what is tuned; its network is set to evaluation mode.
        reference: its frozen start.
        pool: images with the raters' masks that the judge reads.
        source: what the slates are samples of.
        sets: the slates, scored.
        signal: what is learned from them.
        seed: of pairs, noise and time, together with epoch and step.
        denoising: how denoising errors become margins.
    """

    policy: AmbiSeg
    reference: AmbiSeg
    pool: Dataset
    source: SampledSlates
    sets: RoundSlates
    signal: Signal
    seed: int
    denoising: Denoising = Denoising()

    def __call__(self, indices: list[int], epoch: int, number: int) -> StepResult:
        """Loss and figures of the images at these places in the pool."""
        cases = [self.pool[i] for i in indices]
        found = self.sets(indices, epoch, number)
        self.policy.network.eval()
        key = derive_seed(self.seed, epoch, number)
        # By image, so that it does not matter which process an image falls to.
        rngs = [np.random.default_rng([key, i]) for i in indices]
        margins = DenoisingMargins(
            self.policy,
            self.reference,
            torch.from_numpy(np.stack([case.image for case in cases])),
            [self.source.prompt(case, epoch // self.sets.every) for case in cases],
            rngs,
            self.denoising.convention,
            self.denoising.safeguard,
        )
        batch = ScoredBatch(
            margins=margins,
            slates=found.slates,
            scores=found.scores,
            # Where raters differ there is no truth that a pair could be right or wrong by.
            truth=None,
            rngs=rngs,
            uncertainty=found.uncertainty,
            cases=[case.id for case in cases],
        )
        return self.signal(batch)


@dataclass(frozen=True)
class SamplePreferences(PreferenceTask[AmbiSeg]):
    """Preferences between samples of a diffusion model: margins are differences of denoising errors.

    Without ``refresh``, slates are kept for the whole run, as in TDG-DiffDPO.

    Args:
        denoising: how denoising errors become margins.
    """

    denoising: Denoising = Denoising()
    keeps_rounds = True

    def __post_init__(self) -> None:
        super().__post_init__()
        proposals = self.inputs.proposals
        if self.config.slates_ahead:
            raise SegprefError(
                "slates_ahead has no effect on a diffusion model, whose slates are kept for a round: "
                "leave it out"
            )
        if self.config.proposal_precision == "bf16":
            raise SegprefError(
                "proposal_precision has no effect on a diffusion model, whose candidates are samples "
                "in the precision of the run: leave it out"
            )
        moved = self.config.view is not None or self.config.reference == "round"
        if moved or isinstance(proposals, SlateProposals):
            raise SegprefError(
                "a diffusion model is aligned on its own samples, without a view and against its base: "
                "leave out view and reference, and give SampleSlates as proposals"
            )
        if self.config.reference_logits != "float32":
            raise SegprefError(
                "reference_logits has no effect on a diffusion model, which has none: leave it out"
            )

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """The posterior of the latent, which only stage 1 needs, where there is one."""
        return self.policy.latent > 0

    def plan(self, context: TrainingContext, validated: AmbiSeg) -> TrainingPlan:
        """Samples of a round, scored, and their errors under noise and time that all share."""
        inputs, config = self.inputs, self.config
        # In another precision than the policy's, it would have a margin before anything is learned.
        self.reference.network = context.runtime.frozen(self.reference.network)
        proposals = inputs.proposals or SampleSlates()
        source = SampledSlates(self.policy, proposals, config.seed, inputs.cache)
        sets = RoundSlates(
            source,
            inputs.pool,
            inputs.judge,
            inputs.sets,
            every=config.refresh or config.epochs,
            batch_size=config.batch_size,
            unsure=inputs.unsure,
            workers=config.workers,
        )
        step = DenoisingStep(
            self.policy, self.reference, inputs.pool, source, sets, self.signal, config.seed,
            self.denoising,
        )  # fmt: skip
        figures = partial(sample_figures, validated, inputs.validation, seed=config.seed)
        return TrainingPlan(step, figures, config.refresh)
