"""Every judge can be named in YAML, with its predictors and its members inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from small_cases import slate

from segpref.contrib.judges import ConfidenceJudge, ConsistencyJudge, ReverseClassificationJudge
from segpref.data import Cache, Dataset
from segpref.judges import (
    Committee,
    DiversityJudge,
    EnsembleJudge,
    ModelJudge,
    NamedJudge,
    NoisyJudge,
    OracleJudge,
    RatersJudge,
)
from segpref.policies import load_model
from segpref.types import Case, Slate


def parsed(text: str) -> object:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--judge", type=NamedJudge)
    options = parser.parse_string(text)
    return parser.instantiate_classes(options).judge


def network(path: Path) -> str:
    return f"{{class_path: segpref.policies.load_segmenter, init_args: {{path: {path}}}}}"


def store(path: Path) -> str:
    return f"{{class_path: segpref.data.Cache, init_args: {{root: {path}}}}}"


def test_an_ensemble_of_two_checkpoints(
    hearts: Dataset, heart_base: Path, heart_judge: Path, tmp_path: Path
) -> None:
    judge = parsed(f"""
judge:
  class_path: segpref.judges.EnsembleJudge
  init_args:
    predictors:
      - class_path: segpref.policies.load_segmenter
        init_args:
          path: {heart_base}
      - class_path: segpref.policies.load_segmenter
        init_args:
          path: {heart_judge / "best.safetensors"}
    cache:
      class_path: segpref.data.Cache
      init_args:
        root: {tmp_path}
""")
    assert isinstance(judge, EnsembleJudge)
    some = hearts.take([3, 30])
    judge.prepare(some)
    models = [ModelJudge(load_model(p)[0], Cache(tmp_path)) for p in (heart_base, heart_judge)]
    for model in models:
        model.prepare(some)
    for case in some:
        candidates = slate(case.label, models[0].own_mask(case), models[1].own_mask(case))
        expected = np.mean([model.score(case, candidates) for model in models], axis=0)
        np.testing.assert_allclose(judge.score(case, candidates), expected)


@pytest.mark.slow
def test_all_others(
    heart_folder: Path, hearts: Dataset, heart_base: Path, heart_judge: Path, tmp_path: Path
) -> None:
    one, cache = network(heart_judge), store(tmp_path)
    space = "{kind: multi-class, names: [background, RV, MYO, LV]}"
    arguments = f"{{predictor: {one}, cache: {cache}}}"
    model = f"{{class_path: segpref.judges.ModelJudge, init_args: {arguments}}}"
    oracle = f"{{class_path: segpref.judges.OracleJudge, init_args: {{label_space: {space}}}}}"
    reader = f"{{class_path: segpref.data.open_dataset, init_args: {{root: {heart_folder}}}}}"
    reference = (
        "{class_path: segpref.data.prepare, init_args: {reader: "
        f"{reader}, preparation: {{dims: 2, size: [32, 32]}}, cache: {cache}}}}}"
    )
    texts = {
        ModelJudge: model,
        OracleJudge: oracle,
        RatersJudge: f"{{class_path: segpref.judges.RatersJudge, init_args: {{label_space: {space}}}}}",
        ConfidenceJudge: "{class_path: segpref.contrib.judges.ConfidenceJudge, init_args: "
        f"{{predictor: {one}, over: boundary, cache: {cache}}}}}",
        ConsistencyJudge: "{class_path: segpref.contrib.judges.ConsistencyJudge, init_args: "
        f"{{predictor: {one}, flips: [0, 1], gammas: [0.5], cache: {cache}}}}}",
        NoisyJudge: "{class_path: segpref.judges.NoisyJudge, init_args: "
        f"{{judge: {model}, flip_rate: 0.2}}}}",
        DiversityJudge: "{class_path: segpref.judges.DiversityJudge, init_args: "
        f"{{judge: {model}, label_space: {space}, weight: 0.5}}}}",
        Committee: "{class_path: segpref.judges.Committee, init_args: "
        f"{{judges: [{model}, {oracle}], weights: [2, 1]}}}}",
        ReverseClassificationJudge: "{class_path: segpref.contrib.judges.ReverseClassificationJudge, "
        f"init_args: {{reference: {reference}, cases: 2}}}}",
    }
    some = hearts.take([3])
    case = some[0]
    for kind, text in texts.items():
        judge = parsed(f"judge: {text}")
        assert type(judge) is kind
        if kind is RatersJudge:
            continue
        if hasattr(judge, "prepare"):
            judge.prepare(some)
        scores = judge.score(case, slate(case.label, np.roll(case.label, 5, -1)))  # type: ignore[attr-defined]
        assert scores.shape == (2, 1)
        assert np.isfinite(scores).all()


class Unannotated:
    """A judge of somebody else, without types."""

    needs_label = False

    def score(self, case, slate):  # type: ignore[no-untyped-def]
        return np.zeros((len(slate), 1))


class NoJudge:
    needs_label = False

    def scores(self, case: Case, slate: Slate) -> np.ndarray:
        return np.zeros((len(slate), 1))


def test_judges_of_others() -> None:
    assert isinstance(parsed(f"judge: {{class_path: {__name__}.Unannotated}}"), Unannotated)
    with pytest.raises(Exception, match="does not implement protocol NamedJudge"):
        parsed(f"judge: {{class_path: {__name__}.NoJudge}}")
