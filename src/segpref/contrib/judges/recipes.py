"""How a study makes the judges of this package (see :mod:`segpref.studies.judging`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segpref.checking import checked
from segpref.contrib.judges.confidence import ConfidenceJudge
from segpref.contrib.judges.consistency import ConsistencyJudge
from segpref.contrib.judges.reverse import ReverseClassificationJudge
from segpref.policies import load_model
from segpref.studies.judging import JudgeInputs
from segpref.studies.judging.inputs import JUDGE_SEED
from segpref.studies.stages import Labels, Stage1
from segpref.types import Judge, Predictor

__all__ = ["Confidence", "Consistency", "ReverseClassification"]


@checked()
@dataclass(frozen=True)
class Consistency:
    """Agreement with a segmenter's predictions of changed views of the image.

    Args:
        train_on: stage 1 of a segmenter of the judge's cases; the base itself is asked where None.
        flips: axes to flip.
        gammas: changes of contrast.
    """

    train_on: Stage1 | None = None
    flips: tuple[int, ...] = ()
    gammas: tuple[float, ...] = (0.7, 0.85, 1.2, 1.5)
    of_base = True

    def train(self, inputs: JudgeInputs) -> None:
        """Train the segmenter, if it is not the base."""
        _train_own(self.train_on, inputs)

    def build(self, inputs: JudgeInputs) -> Judge:
        """Mean IoU with the predictions of the views."""
        own = _own_or_base(self.train_on, inputs)
        return ConsistencyJudge(own, self.flips, self.gammas, cache=inputs.cache)


@checked()
@dataclass(frozen=True)
class Confidence:
    """A segmenter's confidence in the candidate.

    Args:
        train_on: stage 1 of a segmenter of the judge's cases; the base itself is asked where None.
        over: ``foreground``, ``boundary`` or ``image``.
    """

    train_on: Stage1 | None = None
    over: Literal["image", "foreground", "boundary"] = "foreground"
    of_base = True

    def train(self, inputs: JudgeInputs) -> None:
        """Train the segmenter, if it is not the base."""
        _train_own(self.train_on, inputs)

    def build(self, inputs: JudgeInputs) -> Judge:
        """Mean probability of the candidate."""
        return ConfidenceJudge(_own_or_base(self.train_on, inputs), self.over, cache=inputs.cache)


@checked(labelled={"least": 1})
@dataclass(frozen=True)
class ReverseClassification:
    """What a classifier that learned from the candidate reaches on labelled cases.

    Args:
        labelled: number of labelled cases.
        unit: ``patients``, or ``cases`` (slices in 2D).
        over: ``best`` or ``mean`` of the labelled cases.
    """

    labelled: int = 8
    unit: Literal["patients", "cases"] = "cases"
    over: Literal["best", "mean"] = "best"
    of_base = False

    def train(self, inputs: JudgeInputs) -> None:
        """Nothing."""

    def build(self, inputs: JudgeInputs) -> Judge:
        """IoU that is reached there."""
        labels = Labels(labelled=self.labelled, unit=self.unit)
        cases = labels.drawn(inputs.judge_cases, inputs.seed)
        return ReverseClassificationJudge(cases, cases=len(cases), over=self.over)


def _train_own(stage: Stage1 | None, inputs: JudgeInputs) -> None:
    if stage is not None:
        cases = stage.drawn(inputs.judge_cases, inputs.seed)
        inputs.fit(stage, cases, inputs.folder, inputs.seed + JUDGE_SEED)


def _own_or_base(stage: Stage1 | None, inputs: JudgeInputs) -> Predictor:
    folder = inputs.base if stage is None else inputs.folder
    assert folder is not None
    return load_model(folder)[0]
