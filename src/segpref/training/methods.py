"""The method of an alignment: from a configuration to a judge, slates and a signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from segpref.judges import NoisyJudge
from segpref.metrics.flips import FlipBin
from segpref.objectives import DPO, CalibratedDPO
from segpref.objectives.supervised import OneHotLoss
from segpref.preferences import RecordedPairs, TopVsRandom
from segpref.proposals import Families, SlateProposals
from segpref.training.anchored import AnchoredSignal, SupervisedSignal
from segpref.training.config import AlignConfig
from segpref.training.signals import PreferenceSignal, PseudoLabelSignal, Signal
from segpref.types import Judge, LabelSpace, SegprefError

__all__ = ["Method", "method_of", "with_flip_rates"]


@dataclass(frozen=True)
class Method:
    """What is learned, from whom and from what; made by :func:`method_of`.

    Args:
        judge: as the method listens to it.
        proposals: make the slates.
        signal: what is learned from them.
    """

    judge: Judge
    proposals: SlateProposals
    signal: Signal


def method_of(
    config: AlignConfig,
    label_space: LabelSpace,
    judge: Judge,
    families: Families | None = None,
    records: RecordedPairs | None = None,
) -> Method:
    """What a configuration chooses; its view and average are those of ``config.resolved()``.

    Args:
        config: of the alignment.
        label_space: what the masks mean.
        judge: scores candidates.
        families: of candidates, in place of those of the configuration (with masks of other models,
            say); the configuration's where None.
        records: preferences to learn from in the place of mined pairs; for a control they are given in
            random order already.

    Raises:
        SegprefError: settings that exclude each other.
    """
    config = config.resolved()
    if config.control and (config.method == "pseudo-label" or config.feedback is not None):
        judge = NoisyJudge(judge, flip_rate=0.5, seed=config.seed)
    if config.feedback is not None:
        if families not in (None, "auto"):
            raise SegprefError(
                "feedback brings its own candidates: leave families and others out, or the feedback"
            )
        feedback = config.feedback
        return Method(feedback.judge(judge), feedback.proposals(), feedback.signal(label_space))
    making: Any = config.families if families is None else families
    return Method(
        judge, SlateProposals(config.candidates, making), _signal(config, label_space, records)
    )


def with_flip_rates(config: AlignConfig, flips: Sequence[FlipBin]) -> AlignConfig:
    """A configuration that needs flip rates, with those that were measured.

    Args:
        config: its objective, or its method, is calibrated.
        flips: of the judge's pairs, by score gap.
    """
    config = config.resolved()
    assert isinstance(config.objective, CalibratedDPO)
    turned = 0.5 if config.control else 0.0
    gaps = tuple(one.middle for one in flips)
    rates = (one.flip_rate for one in flips)
    mixed = tuple(rate * (1 - turned) + (1 - rate) * turned for rate in rates)
    return replace(config, objective=replace(config.objective, gaps=gaps, flip_rates=mixed))


def _signal(
    config: AlignConfig, label_space: LabelSpace, records: RecordedPairs | None = None
) -> Signal:
    if config.method == "pseudo-label":
        return PseudoLabelSignal(label_space)
    loss = None if config.loss is None else OneHotLoss(label_space, config.loss)
    if config.method == "supervised":
        return SupervisedSignal(label_space, loss)
    pairs = PreferenceSignal(
        label_space,
        config.miner or TopVsRandom(),
        config.objective or DPO(1.0 if config.beta is None else config.beta),
        config.reduction,
        flip_rate=0.5 if config.control and records is None else 0.0,
        records=records,
    )
    if not config.supervised:
        return pairs
    return AnchoredSignal(label_space, pairs, config.supervised, loss)
