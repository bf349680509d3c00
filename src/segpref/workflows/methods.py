"""What an alignment learns from: the options that go together, chosen at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from segpref.judges import NoisyJudge
from segpref.metrics.flips import FlipBin
from segpref.objectives import DPO, CalibratedDPO
from segpref.objectives.supervised import OneHotLoss
from segpref.preferences import TopVsRandom
from segpref.proposals import SlateProposals
from segpref.studies.calibration import waits_for_flips, with_flips
from segpref.training import (
    AlignConfig,
    AnchoredSignal,
    PreferenceSignal,
    PseudoLabelSignal,
    Signal,
)
from segpref.training.anchored import SupervisedSignal
from segpref.training.augmentation import StrongAugmentation
from segpref.types import Judge, LabelSpace, SegprefError

__all__ = ["Method", "method_of"]


@dataclass(frozen=True)
class Method:
    """What is learned, from whom and from what; made by :func:`method_of`.

    Args:
        judge: as the method listens to it.
        proposals: make the slates.
        signal: what is learned from them.
        view: what the update is made on; None for the image itself.
        average: decay of the averaged weights; 0 for none.
    """

    judge: Judge
    proposals: SlateProposals
    signal: Signal
    view: StrongAugmentation | None
    average: float

    @property
    def uncalibrated(self) -> PreferenceSignal | None:
        """The signal of pairs, where its objective waits for flip rates."""
        pairs = self.signal.preference if isinstance(self.signal, AnchoredSignal) else self.signal
        waits = isinstance(pairs, PreferenceSignal) and waits_for_flips(pairs.objective)
        return pairs if isinstance(pairs, PreferenceSignal) and waits else None

    def calibrated(self, flips: Sequence[FlipBin]) -> Method:
        """The same with these flip rates; its objective waits for them."""
        pairs = self.uncalibrated
        assert pairs is not None
        assert waits_for_flips(pairs.objective)
        taught = replace(pairs, objective=with_flips(pairs.objective, flips, pairs.flip_rate))
        if isinstance(self.signal, AnchoredSignal):
            return replace(self, signal=replace(self.signal, preference=taught))
        return replace(self, signal=taught)


def method_of(
    config: AlignConfig, label_space: LabelSpace, judge: Judge, families: list[Any] | None
) -> Method:
    """The method that a configuration chooses.

    Args:
        config: of the alignment.
        label_space: what the masks mean.
        judge: scores candidates.
        families: of candidates, with masks of other models; None for all that suit the labels.

    Raises:
        SegprefError: options that exclude each other.
    """
    average = config.average or 0.0
    if config.control and (config.method == "pseudo-label" or config.feedback is not None):
        judge = NoisyJudge(judge, flip_rate=0.5, seed=config.seed)
    if config.feedback is not None:
        if families:
            raise SegprefError(
                "feedback brings its own candidates: leave families and others out, or the feedback"
            )
        feedback = config.feedback
        signal: Signal = feedback.signal(label_space)
        return Method(feedback.judge(judge), feedback.proposals(), signal, config.view, average)
    proposals = SlateProposals(config.candidates, families)
    if config.method == "pseudo-label":
        signal = PseudoLabelSignal(label_space)
        return Method(judge, proposals, signal, config.view, average)
    loss = None if config.loss is None else OneHotLoss(label_space, config.loss)
    if config.method == "supervised":
        signal = SupervisedSignal(label_space, loss)
        return Method(judge, proposals, signal, config.view, average)
    objective, view = (
        config.objective or DPO(1.0 if config.beta is None else config.beta),
        config.view,
    )
    if config.method == "calibrated":
        objective = CalibratedDPO(0.25 if config.beta is None else config.beta)
        view = view or StrongAugmentation()
        average = 0.99 if config.average is None else config.average
    turned = 0.5 if config.control else 0.0
    signal = PreferenceSignal(
        label_space, config.miner or TopVsRandom(), objective, config.reduction, turned
    )
    if config.supervised:
        signal = AnchoredSignal(label_space, signal, config.supervised, loss)
    return Method(judge, proposals, signal, view, average)
