"""Labels as a training signal, alone or beside preferences (MAPO, Eq. 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from segpref.objectives.pairwise import DPO
from segpref.objectives.supervised import SupervisedLoss
from segpref.preferences import KeepPairs, RecordedPairs
from segpref.runtime import step_total
from segpref.training.figures import times
from segpref.training.loop import StepResult
from segpref.training.signals import PreferenceSignal, ScoredBatch, Signal
from segpref.types import LabelSpace, Objective, SegprefError

__all__ = ["AnchoredSignal", "SupervisedSignal", "keeping", "objective_of", "records_of"]


@dataclass(frozen=True, slots=True)
class SupervisedSignal:
    """The labels alone: what preference optimisation has to beat, with the same loop and updates.

    Args:
        label_space: what the masks mean.
        loss: of logits and of labels on the host, such as
            :class:`~segpref.objectives.supervised.OneHotLoss`; Dice and (binary) cross-entropy where
            None.
    """

    needs_label: ClassVar[bool] = True

    label_space: LabelSpace
    loss: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, batch: ScoredBatch) -> StepResult:
        """Supervised loss times the number of images.

        Raises:
            SegprefError: the batch comes without labels.
        """
        if batch.labels is None:
            raise SegprefError(
                "the supervised part of the loss needs labels, and the pool has none: give a labelled "
                "pool, or a method without it"
            )
        images = len(batch.slates)
        loss = self.loss or SupervisedLoss(self.label_space)
        value = loss(batch.logits, batch.labels)
        logs = {"supervised_loss": (times(value, images), float(images))}
        return StepResult(value * images, images, logs)


@dataclass(frozen=True, slots=True)
class AnchoredSignal:
    """A preference signal, held to the ground truth by a supervised loss.

    ``lambda (L_Dice + L_CE)(p, y_gt) + L_preference`` (Eq. 7). An image without a pair teaches its
    label alone, one without a label its pair. The paper does not say whether images without a pair
    share in the mean of the preference loss; it is the mean over pairs here, as in all of stage 2.
    Labels are used for the update, so the signal declares ``needs_label``.

    The terms are images.

    Args:
        label_space: what the masks mean.
        preference: the signal that is anchored.
        weight: lambda, from 0.
        loss: of logits and labels; Dice and (binary) cross-entropy where None.

    Raises:
        SegprefError: lambda is below 0.
    """

    needs_label: ClassVar[bool] = True

    label_space: LabelSpace
    preference: Signal
    weight: float = 0.5
    loss: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise SegprefError(
                f"the weight of the supervised loss must be a number from 0, not {self.weight}"
            )

    @property
    def needs_uncertainty(self) -> bool:
        """Whether the preference part reads how unsure the judge is."""
        return bool(getattr(self.preference, "needs_uncertainty", False))

    @property
    def needs_round_slates(self) -> bool:
        """Whether the preference part learns only from slates that are kept for a round."""
        return bool(getattr(self.preference, "needs_round_slates", False))

    def __call__(self, batch: ScoredBatch) -> StepResult:
        """Loss times the number of images; the preference signal's figures and its own.

        Raises:
            SegprefError: the batch comes without labels.
        """
        supervised = SupervisedSignal(self.label_space, self.loss)(batch)
        preferred = self.preference(batch)
        assert supervised.loss is not None
        total = self.weight * supervised.loss
        images, terms = step_total(supervised.terms), step_total(preferred.terms)
        if terms and preferred.loss is not None:
            total = total + preferred.loss * (images / terms)
        return StepResult(total, supervised.terms, {**preferred.logs, **supervised.logs})


def keeping(signal: Signal, keep: KeepPairs) -> Signal:
    """The same signal, which also keeps the pairs that it mines as records.

    Raises:
        SegprefError: it mines no pairs.
    """
    if isinstance(signal, AnchoredSignal):
        return replace(signal, preference=keeping(signal.preference, keep))
    if isinstance(signal, PreferenceSignal) and signal.records is None:
        return replace(signal, keep=keep)
    raise SegprefError(
        "only mined pairs of candidates can be kept as preferences: leave write_preferences out, or "
        "learn from pairs"
    )


def records_of(signal: Signal) -> RecordedPairs | None:
    """The preferences on record that a signal learns from; None where it learns from a judge."""
    if isinstance(signal, AnchoredSignal):
        return records_of(signal.preference)
    return signal.records if isinstance(signal, PreferenceSignal) else None


def objective_of(signal: Signal) -> Objective:
    """The objective that preferences are learned with; DPO where nothing is."""
    if isinstance(signal, AnchoredSignal):
        return objective_of(signal.preference)
    return signal.objective if isinstance(signal, PreferenceSignal) else DPO()
