"""Judges that are made of other judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segpref.checking import checked
from segpref.judges import Committee, NoisyJudge
from segpref.studies.judging.inputs import JudgeInputs, JudgeRecipe, StandingRecipe
from segpref.types import Judge, SegprefError

__all__ = ["Noisy", "Together"]


@checked(flip_rate={"least": 0, "most": 1}, noise={"least": 0}, tie_width={"least": 0})
@dataclass(frozen=True)
class Noisy:
    """Another judge with noise of known strength.

    Args:
        judge: which.
        flip_rate: how often the order of a whole slate is turned round.
        noise: standard deviation of what is added to a score.
        tie_width: scores closer than this are shuffled.
        size_bias: score per unit of relative size that is added.
    """

    judge: JudgeRecipe
    flip_rate: float = 0.0
    noise: float = 0.0
    tie_width: float = 0.0
    size_bias: float = 0.0

    def __post_init__(self) -> None:
        _refuse_standing(self.judge)

    @property
    def of_base(self) -> bool:
        """Whether the judge inside is."""
        return self.judge.of_base

    def train(self, inputs: JudgeInputs) -> None:
        """Train the judge inside."""
        self.judge.train(inputs)

    def build(self, inputs: JudgeInputs) -> Judge:
        """The judge with noise."""
        inside = self.judge.build(inputs)
        return NoisyJudge(
            inside, self.flip_rate, self.noise, self.tie_width, self.size_bias, inputs.seed
        )


@checked(min_agreement={"least": -1, "most": 1})
@dataclass(frozen=True)
class Together:
    """Several judges as one.

    Args:
        judges: which.
        by: ``rank`` or ``score``.
        weights: trust in each; equal where None.
        min_agreement: it abstains where the judges' ranks agree less than this.
    """

    judges: list[JudgeRecipe]
    by: Literal["rank", "score"] = "rank"
    weights: list[float] | None = None
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        _refuse_standing(*self.judges)

    @property
    def of_base(self) -> bool:
        """Whether any of them is."""
        return any(judge.of_base for judge in self.judges)

    def train(self, inputs: JudgeInputs) -> None:
        """Train them all."""
        for number, judge in enumerate(self.judges):
            judge.train(inputs.inside(str(number)))

    def build(self, inputs: JudgeInputs) -> Judge:
        """The committee."""
        members = [judge.build(inputs.inside(str(i))) for i, judge in enumerate(self.judges)]
        return Committee(members, self.by, self.weights, self.min_agreement)


def _refuse_standing(*judges: JudgeRecipe) -> None:
    for judge in judges:
        if isinstance(judge, StandingRecipe):
            raise SegprefError(
                f"{type(judge).__name__} can't be part of another judge, for it says nothing of new "
                "masks: make it a judge of its own"
            )
