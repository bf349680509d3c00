"""Judges of a recipe: what has to be trained for each, and how it is put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.judges import ModelJudge, OracleJudge
from segpref.policies import load_model
from segpref.studies.stages import Stage1
from segpref.types import Judge

__all__ = ["Bench", "JudgeRecipe", "ModelBased", "Oracle"]

JUDGE_SEED = 1000
"""Added to the seed of a judge's weights: base and judge must not begin with the same ones."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a judge may be made from.

    Args:
        seed: of the run.
        judge_cases: labelled cases that are set aside for judges.
        base_cases: labelled cases of the base; no further label is spent where they are used.
        base: run folder of the base.
        folder: where the judge's own trainings go.
        cache: where predictions are kept.
        fit: trains a segmenter: ``fit(stage, cases, folder, seed)``.
    """

    seed: int
    judge_cases: Dataset
    base_cases: Dataset
    base: Path
    folder: Path
    cache: Cache
    fit: Callable[[Stage1, Dataset, Path, int], None]


@runtime_checkable
class JudgeRecipe(Protocol):
    """How a judge comes about. Named in YAML as ``class_path`` and ``init_args``."""

    of_base: bool
    """Whether it is another one for every base; otherwise the bases of a seed share it."""

    def train(self, bench: Bench) -> None:
        """Train what it needs; what is finished is not trained again."""
        ...

    def build(self, bench: Bench) -> Judge:
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

    def train(self, bench: Bench) -> None:
        """Train the segmenter."""
        cases = self.train_on.drawn(bench.judge_cases, bench.seed)
        bench.fit(self.train_on, cases, bench.folder, bench.seed + JUDGE_SEED)

    def build(self, bench: Bench) -> Judge:
        """IoU with the segmenter's prediction."""
        return ModelJudge(load_model(bench.folder)[0], bench.cache)


@dataclass(frozen=True)
class Oracle:
    """Knows the truth: not a method, but what a perfect judge would lead to."""

    of_base = False

    def train(self, bench: Bench) -> None:
        """Nothing."""

    def build(self, bench: Bench) -> Judge:
        """IoU with the ground truth."""
        return OracleJudge(bench.judge_cases.label_space)
