"""The inputs from which a study builds a judge, and the interface of judge recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.masks import MaskFolder
from segpref.studies.stages import Stage1
from segpref.training.config import AlignConfig
from segpref.types import Judge

if TYPE_CHECKING:
    # Votes need a database, which other judges do not.
    from segpref.studies.votes import VoteInputs

__all__ = [
    "JUDGE_SEED",
    "JudgeInputs",
    "JudgeRecipe",
    "LabelledRecipe",
    "StandingRecipe",
    "labelled_recipes",
]

JUDGE_SEED = 1000
"""Added to the seed of a judge's weights: base and judge must not begin with the same ones."""


@dataclass(frozen=True, slots=True)
class JudgeInputs:
    """What a judge may be made from.

    Args:
        seed: of the run.
        judge_cases: labelled cases that are set aside for judges.
        base_cases: labelled cases of the base; no further label is spent where they are used. None
            for a judge that bases share.
        validation: labelled cases that choose checkpoints.
        base: run folder of the base; None for a judge that bases share.
        folder: where the judge's own trainings go.
        cache: where predictions are kept.
        fit: trains a segmenter: ``fit(stage, cases, folder, seed)``; a semi-supervised method of the
            stage also gets the images of the training patients.
        masks: opens a folder of masks of the dataset's images.
        images: all of the dataset, prepared.
        measured: patients of validation and test, from whom no preference is learned.
        model: hash of the base where that is an existing model; None where the study trains it, and for
            a judge that bases share.
    """

    seed: int
    judge_cases: Dataset
    base_cases: Dataset | None
    validation: Dataset
    base: Path | None
    folder: Path
    cache: Cache
    fit: Callable[[Stage1, Dataset, Path, int], None]
    masks: Callable[[Path], MaskFolder]
    images: Dataset
    measured: Set[str]
    model: str | None

    def inside(self, name: str) -> JudgeInputs:
        """The same with a folder of its own for a part of the judge."""
        return replace(self, folder=self.folder / name)


@runtime_checkable
class JudgeRecipe(Protocol):
    """How a judge comes about. Named in YAML as ``class_path`` and ``init_args``."""

    of_base: bool
    """Whether it is another one for every base; otherwise the bases of a seed share it."""

    def train(self, inputs: JudgeInputs) -> None:
        """Train what it needs; what is finished is not trained again."""
        ...

    def build(self, inputs: JudgeInputs) -> Judge:
        """The judge, from what was trained."""
        ...


@runtime_checkable
class LabelledRecipe(JudgeRecipe, Protocol):
    """A judge that has labelled cases of its own, which a base could have learned from."""

    def labelled_cases(self, judge_cases: Dataset, seed: int) -> Dataset:
        """Those of the cases set aside for judges that this one learns from."""
        ...


def labelled_recipes(judge: object) -> Iterator[LabelledRecipe]:
    """A judge and its parts, as far as they have labelled cases of their own."""
    if isinstance(judge, LabelledRecipe):
        yield judge
    elif isinstance(judge, list | tuple):
        for one in judge:
            yield from labelled_recipes(one)
    elif isinstance(judge, Mapping):
        yield from labelled_recipes(list(judge.values()))
    elif is_dataclass(judge):
        yield from labelled_recipes([getattr(judge, one.name) for one in fields(judge)])


@runtime_checkable
class StandingRecipe(JudgeRecipe, Protocol):
    """A judge whose preferences stand before the study is run, such as votes: about certain masks only.

    What it builds is a :class:`~segpref.preferences.StandingJudge`.
    """

    def check(self, inputs: JudgeInputs, methods: Mapping[str, AlignConfig]) -> None:
        """Refuse what does not fit together when the study is opened.

        Args:
            inputs: as for its training; no base is trained yet.
            methods: what the grid asks of this judge and base, by name.
        """
        ...

    def preferences(self, inputs: JudgeInputs, config: AlignConfig, folder: Path) -> VoteInputs:
        """What a run learns from, in the place of a judge's scores.

        Args:
            inputs: as for its training.
            config: of the run.
            folder: for what has to be written.
        """
        ...
