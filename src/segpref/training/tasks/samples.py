"""Stage 2 of models that draw masks: the same preferences, between their samples."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.networks import weights_digest
from segpref.policies import MaskSampler
from segpref.policies.diffusion import SampleSlates, prompt_of
from segpref.preferences import RoundSlates
from segpref.proposals import SlateProposals
from segpref.seeds import derive_seed
from segpref.training.loop import StepResult
from segpref.training.margins import MarginSource
from segpref.training.signals import ScoredBatch, Signal
from segpref.training.tasks.preference import PreferenceTask
from segpref.training.tasks.rated import sample_figures
from segpref.training.trainer import TrainingContext, TrainingPlan
from segpref.types import Case, SegprefError, Slate

__all__ = ["SampleStep", "SampleTask", "SampledBatch", "SampledSlates"]

P = TypeVar("P")


class SampledBatch(NamedTuple):
    """The cases of a step, between whose samples margins are asked for.

    Args:
        cases: of the batch.
        images: their images.
        rngs: one per image, for what is drawn.
        number: of the round that their slates are of.
    """

    cases: Sequence[Case]
    images: Float[Tensor, "B channel *space"]
    rngs: Sequence[np.random.Generator]
    number: int


@dataclass(frozen=True, slots=True)
class SampledSlates:
    """Samples of a policy as the candidates of a round, each slate under one prompt.

    Args:
        policy: in its state when the round begins; the frozen reference in the first round. Samples are
            kept of diffusion models alone.
        proposals: draw the samples.
        seed: of prompts and samples, together with round and case.
        cache: where samples of the first round are kept, for runs from one reference with the same
            seed, pool and proposals begin with the same; not kept where None.
    """

    policy: Any
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

    def seeds(self, case: Case, number: int) -> list[int]:
        """The seed of every sample of a case's slate."""
        return self.proposals.seeds(self._key(case, number))

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
class SampleStep:
    """One step of stage 2 of a model that draws masks, up to its loss (TDG-DiffDPO, Sec. 3.4).

    Args:
        policy: what is tuned; its network is set to evaluation mode.
        margins: between its samples.
        pool: images with the raters' masks that the judge reads.
        sets: the slates, scored.
        signal: what is learned from them.
        seed: of pairs and of what margins draw, together with epoch and step.
    """

    policy: Any
    margins: Callable[[SampledBatch], MarginSource]
    pool: Dataset
    sets: RoundSlates
    signal: Signal
    seed: int

    def __call__(self, indices: list[int], epoch: int, number: int) -> StepResult:
        """Loss and figures of the images at these places in the pool."""
        cases = [self.pool[i] for i in indices]
        found = self.sets(indices, epoch, number)
        self.policy.network.eval()
        key = derive_seed(self.seed, epoch, number)
        # By image, so that it does not matter which process an image falls to.
        rngs = [np.random.default_rng([key, i]) for i in indices]
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        sampled = SampledBatch(cases, images, rngs, epoch // self.sets.every)
        batch = ScoredBatch(
            margins=self.margins(sampled),
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
class SampleTask(PreferenceTask[P]):
    """Preferences between samples of a model that draws masks.

    Without ``refresh``, slates are kept for the whole run, as in TDG-DiffDPO.
    """

    keeps_rounds = True
    draws: ClassVar[str]
    """What draws, in a sentence's beginning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.config.slates_ahead:
            raise SegprefError(
                f"slates_ahead has no effect on {self.draws}, whose slates are kept for a round: leave "
                "it out"
            )
        if self.config.proposal_precision == "bf16":
            raise SegprefError(
                f"proposal_precision has no effect on {self.draws}, whose candidates are samples in "
                "the precision of the run: leave it out"
            )
        moved = self.config.view is not None or self.config.reference == "round"
        if moved or isinstance(self.inputs.proposals, SlateProposals):
            raise SegprefError(
                f"{self.draws} is aligned on its own samples, without a view and against its base: "
                "leave out view and reference, and give SampleSlates as proposals, from Python or by "
                "segpref ambiguity"
            )
        if self.config.reference_logits != "float32":
            raise SegprefError(
                f"reference_logits has no effect on {self.draws}, which has none: leave it out"
            )

    def plan(self, context: TrainingContext, validated: P) -> TrainingPlan:
        """Samples of a round, scored, and margins between them."""
        inputs, config = self.inputs, self.config
        reference: Any = self.reference
        # In another precision than the policy's, it would have a margin before anything is learned.
        reference.network = context.runtime.frozen(reference.network)
        source = self.source
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
        margins = partial(self.margins, source)
        step = SampleStep(self.policy, margins, inputs.pool, sets, self.signal, config.seed)
        figures = partial(
            sample_figures,
            validated,
            inputs.validation,
            sampler=self.validated_by,
            seed=config.seed,
        )
        return TrainingPlan(step, figures, config.refresh)

    @property
    @abstractmethod
    def source(self) -> SampledSlates:
        """What the slates are samples of."""

    @property
    @abstractmethod
    def validated_by(self) -> MaskSampler:
        """What draws the samples that are measured on validation."""

    @abstractmethod
    def margins(self, source: SampledSlates, batch: SampledBatch) -> MarginSource:
        """Margins between samples of what the slates are of."""
