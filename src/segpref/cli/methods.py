"""What an alignment learns from: the options that go together, chosen at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from segpref.judges import NoisyJudge
from segpref.metrics.flips import FlipBin
from segpref.miners import TopVsRandom
from segpref.objectives import DPO, CalibratedDPO, Reduction
from segpref.proposals import SlateProposals
from segpref.studies.calibration import waits_for_flips, with_flips
from segpref.training import AnchoredSignal, PreferenceSignal, PseudoLabelSignal, Signal
from segpref.training.augmentation import StrongAugmentation
from segpref.training.feedback import Feedback
from segpref.types import Judge, LabelSpace, Margins, SegprefError

__all__ = ["Method", "MethodName", "method_of"]

MethodName = Literal["preference", "calibrated", "pseudo-label"]


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
    label_space: LabelSpace,
    judge: Judge,
    *,
    method: MethodName,
    reduction: Reduction,
    beta: float | None,
    objective: Callable[[Margins], Any] | None,
    miner: Callable[[Any, Any], Any] | None,
    candidates: int,
    families: list[Callable[[Any], Any]] | None,
    supervised: float,
    feedback: Feedback | None,
    view: StrongAugmentation | None,
    average: float | None,
    control: bool,
    seed: int,
) -> Method:
    """The method that the options of :func:`segpref.cli.align.align` choose; that tells what each is.

    Raises:
        SegprefError: options that exclude each other.
    """
    if control and (method == "pseudo-label" or feedback is not None):
        judge = NoisyJudge(judge, flip_rate=0.5, seed=seed)
    if feedback is not None:
        if objective or miner or method != "preference" or families or supervised:
            raise SegprefError(
                "feedback brings its own method, objective, miner and candidates, and no supervised "
                "part: leave those out, or the feedback"
            )
        signal: Signal = feedback.signal(label_space)
        return Method(feedback.judge(judge), feedback.proposals(), signal, view, average or 0.0)
    # jsonargparse takes a list of classes by name for callables, which these are.
    chosen: list[Any] | None = families
    proposals = SlateProposals(candidates, chosen)
    if method == "pseudo-label":
        return Method(judge, proposals, PseudoLabelSignal(label_space), view, average or 0.0)
    loss = objective or DPO(1.0 if beta is None else beta)
    if method == "calibrated":
        if objective is not None:
            raise SegprefError("method calibrated brings its own objective: leave that out")
        loss = CalibratedDPO(0.25 if beta is None else beta)
        view = view or StrongAugmentation()
        average = 0.99 if average is None else average
    turned = 0.5 if control else 0.0
    signal = PreferenceSignal(label_space, miner or TopVsRandom(), loss, reduction, turned)
    if supervised:
        signal = AnchoredSignal(label_space, signal, supervised)
    return Method(judge, proposals, signal, view, average or 0.0)
