"""Judges of a recipe: what has to be trained for each, and how it is put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from segpref.data.cache import Cache, write_atomically
from segpref.data.dataset import Dataset
from segpref.data.index import image_files
from segpref.data.masks import MaskFolder
from segpref.judges import (
    Committee,
    ConfidenceJudge,
    ConsistencyJudge,
    EnsembleJudge,
    MasksJudge,
    ModelJudge,
    NoisyJudge,
    OracleJudge,
    ReverseClassificationJudge,
)
from segpref.policies import load_model
from segpref.studies.recorded import as_recorded
from segpref.studies.stages import Stage1
from segpref.training import RunFolder, fit_regressor, load_regressor
from segpref.types import Judge, Predictor, SegprefError

__all__ = [
    "Confidence",
    "Consistency",
    "Ensemble",
    "JudgeInputs",
    "JudgeRecipe",
    "Masks",
    "ModelBased",
    "Noisy",
    "Oracle",
    "Regressor",
    "ReverseClassification",
    "Together",
]

_CONTENT = "masks.txt"

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


@dataclass(frozen=True)
class ModelBased:
    """The paper's judge: a segmenter trained on labelled cases of its own (RN-DPO, Sec. 3.2).

    Args:
        train_on: stage 1 of the segmenter; ``labelled`` is the paper's N_QC.
    """

    train_on: Stage1 = field(default_factory=Stage1)
    of_base = False

    def train(self, inputs: JudgeInputs) -> None:
        """Train the segmenter."""
        cases = self.train_on.drawn(inputs.judge_cases, inputs.seed)
        inputs.fit(self.train_on, cases, inputs.folder, inputs.seed + JUDGE_SEED)

    def build(self, inputs: JudgeInputs) -> Judge:
        """IoU with the segmenter's prediction."""
        return ModelJudge(load_model(inputs.folder)[0], inputs.cache)


@dataclass(frozen=True)
class Ensemble:
    """Agreement with several segmenters of the base's own labelled cases (RN-DPO, Eq. 14).

    No further label is spent: what differs between the segmenters is their seed.

    Args:
        train_on: stage 1 of each; its ``labelled`` and ``unit`` must be the base's.
        members: number M of segmenters.
        max_disagreement: the judge abstains where the segmenters differ by more than this IoU.
    """

    train_on: Stage1 = field(default_factory=Stage1)
    members: int = 5
    max_disagreement: float | None = None
    of_base = True

    def train(self, inputs: JudgeInputs) -> None:
        """Train the segmenters."""
        assert inputs.base_cases is not None
        for number in range(self.members):
            seed = inputs.seed + JUDGE_SEED * (number + 1)
            inputs.fit(self.train_on, inputs.base_cases, inputs.folder / str(number), seed)

    def build(self, inputs: JudgeInputs) -> Judge:
        """Mean IoU with their predictions."""
        folders = [inputs.folder / str(number) for number in range(self.members)]
        predictors = [load_model(folder)[0] for folder in folders]
        return EnsembleJudge(predictors, self.max_disagreement, inputs.cache)


@dataclass(frozen=True)
class Regressor:
    """An IoU regressor, trained on slates of the base for the judge's cases (RN-DPO, Table 5).

    Args:
        labelled: number of labelled cases.
        unit: ``patients``, or ``cases`` (slices in 2D).
        epochs: number of epochs.
        images_per_epoch: images in an epoch; all where None.
        learning_rate: highest learning rate of AdamW.
    """

    labelled: int = 8
    unit: Literal["patients", "cases"] = "cases"
    epochs: int = 40
    images_per_epoch: int | None = None
    learning_rate: float = 1e-3
    of_base = True

    def train(self, inputs: JudgeInputs) -> None:
        """Train the regressor."""
        assert inputs.base is not None
        cases = Stage1(labelled=self.labelled, unit=self.unit).drawn(
            inputs.judge_cases, inputs.seed
        )
        folder = RunFolder(inputs.folder)
        settings = {"regressor": self, "seed": inputs.seed}
        folder.open(as_recorded(folder, settings), resume=True)
        fit_regressor(
            inputs.base,
            cases,
            inputs.validation,
            folder,
            epochs=self.epochs,
            images_per_epoch=self.images_per_epoch,
            learning_rate=self.learning_rate,
            seed=inputs.seed + JUDGE_SEED,
        )

    def build(self, inputs: JudgeInputs) -> Judge:
        """The predicted IoU."""
        return load_regressor(inputs.folder)


@dataclass(frozen=True)
class Masks:
    """Masks that another program made of the images.

    Args:
        folder: of the masks, named as :class:`~segpref.data.MaskFolder` tells.
    """

    folder: Path
    of_base = False

    def train(self, inputs: JudgeInputs) -> None:
        """Nothing, but a folder without masks is told now, and which masks these are is kept."""
        inputs.masks(self.folder)
        inputs.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(inputs.folder / _CONTENT, self._content(inputs))

    def build(self, inputs: JudgeInputs) -> Judge:
        """IoU with the masks.

        Raises:
            SegprefError: the masks are no longer those that this study has begun with.
        """
        if (inputs.folder / _CONTENT).read_bytes() != self._content(inputs):
            raise SegprefError(
                f"the masks in {self.folder} were changed since this study has begun: put the old ones "
                "back, or write the study into a new folder"
            )
        return MasksJudge(inputs.masks(self.folder))

    def _content(self, inputs: JudgeInputs) -> bytes:
        return inputs.cache.digest_of_files(image_files(self.folder)).encode()


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
        cases = Stage1(labelled=self.labelled, unit=self.unit).drawn(
            inputs.judge_cases, inputs.seed
        )
        return ReverseClassificationJudge(cases, cases=len(cases), over=self.over)


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


@dataclass(frozen=True)
class Oracle:
    """Knows the truth: not a method, but what a perfect judge would lead to.

    Args:
        measure: ``iou``, or ``dice``, by which MAPO ranks.
    """

    measure: Literal["iou", "dice"] = "iou"
    of_base = False

    def train(self, inputs: JudgeInputs) -> None:
        """Nothing."""

    def build(self, inputs: JudgeInputs) -> Judge:
        """IoU or Dice with the ground truth."""
        return OracleJudge(inputs.judge_cases.label_space, self.measure)


def _train_own(stage: Stage1 | None, inputs: JudgeInputs) -> None:
    if stage is not None:
        cases = stage.drawn(inputs.judge_cases, inputs.seed)
        inputs.fit(stage, cases, inputs.folder, inputs.seed + JUDGE_SEED)


def _own_or_base(stage: Stage1 | None, inputs: JudgeInputs) -> Predictor:
    folder = inputs.base if stage is None else inputs.folder
    assert folder is not None
    return load_model(folder)[0]
