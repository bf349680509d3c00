"""Judges that are networks of their own, or use the base's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.judges import EnsembleJudge, ModelJudge
from segpref.policies import load_model
from segpref.settings import setting
from segpref.studies.judging.inputs import JUDGE_SEED, JudgeInputs
from segpref.studies.recorded_settings import as_recorded
from segpref.studies.stages import Labels, Stage1
from segpref.training import RegressorConfig, RunFolder, fit_regressor, load_regressor
from segpref.types import Judge

__all__ = ["Ensemble", "ModelBased", "Regressor"]


@checked()
@dataclass(frozen=True)
class ModelBased:
    """The paper's judge: a segmenter trained on labelled cases of its own (RN-DPO, Sec. 3.2).

    Args:
        train_on: stage 1 of the segmenter; ``labelled`` is the paper's N_QC.
    """

    train_on: Stage1 = field(default_factory=Stage1)
    of_base = False

    def labelled_cases(self, judge_cases: Dataset, seed: int) -> Dataset:
        """What the segmenter is trained on."""
        return self.train_on.drawn(judge_cases, seed)

    def train(self, inputs: JudgeInputs) -> None:
        """Train the segmenter."""
        cases = self.labelled_cases(inputs.judge_cases, inputs.seed)
        inputs.fit(self.train_on, cases, inputs.folder, inputs.seed + JUDGE_SEED)

    def build(self, inputs: JudgeInputs) -> Judge:
        """IoU with the segmenter's prediction."""
        return ModelJudge(load_model(inputs.folder)[0], inputs.cache)


@checked(members={"least": 1}, max_disagreement={"least": 0, "most": 1})
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


@dataclass(frozen=True, kw_only=True)
class Regressor(Labels, RegressorConfig):
    """An IoU regressor, trained on slates of the base for the judge's cases (RN-DPO, Table 5)."""

    epochs: int = setting(40, least=1)
    labelled: int | None = setting(8, least=1)
    unit: Literal["patients", "cases"] = "cases"
    of_base: ClassVar[bool] = True

    def labelled_cases(self, judge_cases: Dataset, seed: int) -> Dataset:
        """On whose slates the regressor is trained."""
        return self.drawn(judge_cases, seed)

    def train(self, inputs: JudgeInputs) -> None:
        """Train the regressor."""
        assert inputs.base is not None
        cases = self.labelled_cases(inputs.judge_cases, inputs.seed)
        folder = RunFolder(inputs.folder)
        settings = {"regressor": self, "seed": inputs.seed}
        folder.open(as_recorded(folder, settings), resume=True)
        seed = inputs.seed + JUDGE_SEED
        fit_regressor(inputs.base, cases, inputs.validation, folder, self, seed=seed)

    def build(self, inputs: JudgeInputs) -> Judge:
        """The predicted IoU."""
        return load_regressor(inputs.folder)
