"""Stage 2: a better segmenter from preferences (RN-DPO, Figure 1 and Sec. 3)."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn
from torch.optim.swa_utils import AveragedModel

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.splits import refuse_leakage
from segpref.inference.windows import whole_images
from segpref.judges import note_undrawn_structures, silence_of
from segpref.policies import ModelCard, load_policy
from segpref.preferences import KeepPairs, PreferenceFile
from segpref.training.ahead import weights_before
from segpref.training.anchored import keeping, objective_of, records_of
from segpref.training.averaging import averaged
from segpref.training.config import AlignConfig
from segpref.training.curves import curve_summary
from segpref.training.held_out import AGREEMENT, HeldOut, agreement
from segpref.training.signals import Signal
from segpref.training.trainer import History, Task, TrainingContext, TrainingPlan
from segpref.training.validation import Validate, validation_of
from segpref.types import Judge, Predictor, PreparedJudge, SegprefError, UnsureJudge

__all__ = ["AlignmentInputs", "PreferenceTask"]

log = logging.getLogger(__name__)

P = TypeVar("P")


@dataclass(frozen=True)
class AlignmentInputs:
    """The inputs of an alignment, for any kind of policy.

    Args:
        base: model file or run folder of stage 1; the frozen copy of it is the reference.
        pool: unlabelled images; their labels, where there are any, reach only figures, and a judge or
            signal that declares ``needs_label``.
        validation: labelled cases that choose the checkpoint.
        judge: scores candidates.
        signal: what is learned from scored slates.
        sets: folder of the slates that are kept for a round.
        proposals: make the slates; those that suit the policy where None.
        cache: where predictions of frozen networks are kept.
        parts: of the network that learn, the others being frozen; the policy's usual ones where None:
            all of a segmenter, the mask decoder of a promptable model.
        preferences: file in which mined pairs are kept, where the configuration asks for it.
        held_out: preferences that are not learned from, and choose the checkpoint where there are no
            validation labels.
    """

    base: Path | str
    pool: Dataset
    validation: Dataset
    judge: Judge
    signal: Signal
    sets: Path
    proposals: Any = None
    cache: Cache | None = None
    parts: Sequence[str] | None = None
    preferences: Path | None = None
    held_out: HeldOut | None = None

    @property
    def chosen_by(self) -> str:
        """The figure that chooses the checkpoint."""
        return "val_iou" if len(self.validation) else AGREEMENT

    @property
    def needs_label(self) -> bool:
        """Whether the signal learns from labels, too."""
        return bool(getattr(self.signal, "needs_label", False))

    @property
    def needs_round_slates(self) -> bool:
        """Whether the signal learns only from slates that are kept for a round."""
        return bool(getattr(self.signal, "needs_round_slates", False))

    @property
    def unsure(self) -> bool:
        """Whether the judge's uncertainty is computed."""
        return bool(getattr(self.signal, "needs_uncertainty", False))


@dataclass(frozen=True)
class PreferenceTask(Task, Generic[P]):
    """Fine-tuning of a policy on preferences between its own candidates.

    As in the paper unless configured otherwise: Adam, constant learning rate, no augmentation;
    dropout and normalisation statistics are frozen. A policy names its own kind of this task by
    ``aligned_by`` (:class:`~segpref.policies.TunablePolicy`), which brings candidates, margins and
    validation.

    Args:
        inputs: what is learned from.
        config: candidates, method and training.

    Raises:
        SegprefError: what does not fit together, before any work.
    """

    inputs: AlignmentInputs
    config: AlignConfig
    kind = "align"
    title = "stage 2"
    keeps_rounds = False
    """Whether it makes slates of the whole pool also without ``refresh``."""

    @classmethod
    def ahead(
        cls, base: Path | str, config: AlignConfig, cache: Cache
    ) -> Callable[[Dataset, bool], None]:
        """What predicts a volume by the frozen parts of a base, as the training will ask for it.

        Predictions go into the cache; there are none where the training keeps none.

        Returns:
            Takes a dataset that begins with a case of the volume, and whether a step draws it or only
            slates of it are made.
        """
        return _nothing

    def __post_init__(self) -> None:
        inputs, card = self.inputs, self.card
        if inputs.needs_label and not len(inputs.pool.labelled()):
            raise SegprefError(
                "the supervised part of the loss needs labels, and the pool has none: give a labelled "
                "pool, or a method without it"
            )
        if inputs.needs_label and (left := inputs.pool.label_space.unlabelled):
            raise SegprefError(
                "the supervised part of the loss needs labels of every structure, and those of the "
                f"pool say nothing of {', '.join(left)}: name their values in labels, or give a method "
                "without it"
            )
        if inputs.unsure and not isinstance(inputs.judge, UnsureJudge):
            name = type(inputs.judge).__name__
            raise SegprefError(
                f"the objective needs the judge's uncertainty, which {name} does not report: use "
                "an ensemble, or set the objective's temperature"
            )
        # Who learns or judges by labels may do so on the cases that the base learned from.
        by_label = inputs.needs_label or inputs.judge.needs_label
        shared = inputs.pool.patients if by_label else ()
        refuse_leakage(
            {
                "the pool": inputs.pool.patients,
                "the validation set": inputs.validation.patients,
                "the base's labelled cases": [n for n in card.labelled if n not in shared],
            }
        )
        if inputs.held_out is not None:
            refuse_leakage({"votes": self._voted, "held-out votes": inputs.held_out.patients})
        elif not len(inputs.validation):
            raise SegprefError(
                "there is no validation image: give validation patients in the split"
            )

    @cached_property
    def signal(self) -> Signal:
        """What is learned; it keeps the mined pairs where that is asked for."""
        inputs = self.inputs
        if not self.config.write_preferences or inputs.preferences is None:
            return inputs.signal
        file = inputs.preferences
        kept = KeepPairs(PreferenceFile(file), type(inputs.judge).__name__, file.with_suffix(""))
        return keeping(inputs.signal, kept)

    @cached_property
    def _opened(self) -> tuple[P, ModelCard]:
        opened: tuple[Any, ModelCard] = load_policy(self.inputs.base)
        return opened

    @property
    def policy(self) -> P:
        """What is tuned."""
        return self._opened[0]

    @cached_property
    def reference(self) -> P:
        """The frozen start."""
        opened: tuple[Any, ModelCard] = load_policy(self.inputs.base)
        reference: P = opened[0]
        return reference

    @property
    def _voted(self) -> list[str]:
        """Patients whose recorded preferences are learned from."""
        records = records_of(self.inputs.signal)
        told = {} if records is None else records.by_case
        return sorted({case.patient for case in self.inputs.pool if case.id in told})

    @property
    def card(self) -> ModelCard:  # type: ignore[override]
        """The base's."""
        return self._opened[1]

    @property
    def images(self) -> int:
        """The pool."""
        return len(self.inputs.pool)

    def network(self) -> nn.Module:
        """The base's, of which some parts learn."""
        policy: Any = self.policy
        policy.learn(self.inputs.parts)
        network: nn.Module = policy.network
        return network

    def average(self, network: nn.Module) -> AveragedModel | None:
        """The moving average that is validated and saved, where one is asked for."""
        return averaged(network, self.config.average) if self.config.average else None

    def kept(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """The weights before the last update, where slates are made with these."""
        return {"before": weights_before(network)} if self.config.slates_ahead else {}

    def begin(self, context: TrainingContext) -> TrainingPlan:
        """Prepare the judge, and make the plan of this kind of policy."""
        policy: Any = self.policy
        policy.network = context.network
        validated = policy
        if context.validated is not context.unwrapped:
            validated = copy(policy)
            validated.network = context.validated
        inputs = self.inputs
        note_undrawn_structures(inputs.judge, inputs.validation, inputs.pool)
        if isinstance(inputs.judge, PreparedJudge):
            inputs.judge.prepare(inputs.pool)
        plan = self.plan(context, validated)
        form, cases = self.card.preparation, inputs.validation
        validate = plan.validate
        if len(cases):
            validate = validation_of(validated, cases, form, plan.validate)
        if inputs.held_out is not None:
            labelled = validate if len(cases) else dict[str, float]
            held = inputs.held_out.of(objective_of(inputs.signal))
            both: list[Any] = [validated, self.reference]
            now, before = (whole_images([one], form) for one in both)
            validate = partial(_with_votes, labelled, held, now, before)
        return plan._replace(validate=validate, chosen_by=inputs.chosen_by)

    @abstractmethod
    def plan(self, context: TrainingContext, validated: P) -> TrainingPlan:
        """Candidates, margins and validation of this kind of policy.

        Args:
            context: network, device and processes.
            validated: the policy that is validated: the one that learns, or with averaged weights.
        """

    def summary(self, history: History) -> dict[str, Any]:
        """The curve's figures; warns where nothing was learned from the judge."""
        shares = [row["images_with_pair"] for row in history[1:] if "images_with_pair" in row]
        if shares and not any(shares) and self.inputs.needs_round_slates:
            log.warning(
                "No image gave a pair in the whole run, so nothing was learned from the records: they "
                "are about other slates than those of %s, or about other cases.",
                self.inputs.sets,
            )
        elif shares and not any(shares):
            log.warning(
                "No image gave a pair in the whole run, so nothing was learned from the judge: it "
                "found no candidate better than another, or the miner's threshold is above all its "
                "differences. segpref audit shows what a judge can tell apart."
            )
        silent = silence_of(self.inputs.judge)
        told = {"judge_abstains_on": list(silent)} if silent else {}
        return {"pool_cases": self.images, **curve_summary(history, self.inputs.chosen_by), **told}


def _nothing(volume: Dataset, drawn: bool) -> None:
    pass


def _with_votes(
    labelled: Validate, held: HeldOut, policy: Predictor, reference: Predictor
) -> Mapping[str, float]:
    """Figures of labels, where there are some, and of held-out votes."""
    return {**labelled(), **agreement(held, policy, reference)}
