"""Every judge of a recipe: trained, built from YAML, and giving scores."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser

from segpref.data import Cache, Preparation, Reader
from segpref.policies import load_model
from segpref.proposals import SlateProposals
from segpref.studies import Recipe, Stage1, Task, Workspace, plan, run_task, scored_slates
from segpref.studies.judging import JudgeRecipe, Masks, ModelBased, Noisy
from segpref.training import RunFolder
from segpref.training.semisupervised import FixMatch
from segpref.types import SegprefError

STAGE = "{labelled: 2, epochs: 1, images_per_epoch: 8}"
JUDGES = f"""
model: {{class_path: segpref.studies.judging.ModelBased, init_args: {{train_on: {STAGE}}}}}
semi-supervised:
  class_path: segpref.studies.judging.ModelBased
  init_args:
    train_on:
      labelled: 2
      epochs: 1
      images_per_epoch: 8
      method: {{class_path: segpref.training.semisupervised.FixMatch, init_args: {{threshold: 0.3}}}}
ensemble:
  class_path: segpref.studies.judging.Ensemble
  init_args: {{train_on: {STAGE}, members: 2}}
regressor:
  class_path: segpref.studies.judging.Regressor
  init_args: {{labelled: 2, epochs: 1, images_per_epoch: 4}}
consistency: {{class_path: segpref.contrib.judges.recipes.Consistency}}
own consistency:
  class_path: segpref.contrib.judges.recipes.Consistency
  init_args: {{train_on: {STAGE}, gammas: [0.8]}}
confidence: {{class_path: segpref.contrib.judges.recipes.Confidence}}
reverse:
  class_path: segpref.contrib.judges.recipes.ReverseClassification
  init_args: {{labelled: 2}}
noisy:
  class_path: segpref.studies.judging.Noisy
  init_args:
    judge: {{class_path: segpref.studies.judging.Oracle}}
    flip_rate: 1.0
together:
  class_path: segpref.studies.judging.Together
  init_args:
    judges:
      - {{class_path: segpref.contrib.judges.recipes.Confidence}}
      - {{class_path: segpref.studies.judging.Oracle}}
oracle: {{class_path: segpref.studies.judging.Oracle}}
"""


def parsed() -> dict[str, JudgeRecipe]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--judges", type=dict[str, JudgeRecipe])
    settings = parser.parse_object({"judges": yaml.safe_load(JUDGES)})
    judges: dict[str, JudgeRecipe] = parser.instantiate_classes(settings).judges
    return judges


@pytest.fixture(scope="module")
def workspace(
    tiny_unet: Any, heart_reader: Reader, store: Cache, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    stage = Stage1(labelled=2, epochs=1, images_per_epoch=8)
    recipe = Recipe(
        name="judges",
        description="a test",
        split={"judge": 3, "validation": 1, "test": 2},
        network=tiny_unet(None, in_channels=None),
        preparation=Preparation(dims=2, size=(32, 32)),
        bases={"weak": stage, "matched": replace(stage, method=FixMatch(), start="weak")},
        judges=parsed(),
        methods={},
        seeds=[0],
    )
    workspace = Workspace(
        recipe, heart_reader, tmp_path_factory.mktemp("judges"), store, SlateProposals(6)
    )
    workspace.open()
    run_task(workspace, Task(0, "base", "weak"))
    return workspace


@pytest.mark.parametrize("name", list(parsed()))
def test_a_judge_is_trained_and_scores(name: str, workspace: Workspace) -> None:
    recipe = workspace.recipe.judges[name]
    task = Task(0, "judge", "weak" if recipe.of_base else "", name)
    run_task(workspace, task)
    assert task.finished(workspace.out)
    judge = workspace.judge(0, "weak", name)
    policy, _ = load_model(workspace.base_folder(0, "weak"))
    cases = workspace.validation(0).take([0, 1])
    for scored in scored_slates(policy, cases, judge, workspace.slates(), 0):
        assert scored.scores.shape == (6, 1)
        assert np.isfinite(scored.scores).all()
    before = {path: path.stat().st_mtime_ns for path in workspace.out.rglob("*.safetensors")}
    run_task(workspace, task)
    assert before == {
        path: path.stat().st_mtime_ns for path in workspace.out.rglob("*.safetensors")
    }


def test_masks_of_another_program_judge(
    workspace: Workspace, heart_folder: Path, tmp_path: Path
) -> None:
    masks = shutil.copytree(heart_folder / "labels", tmp_path / "masks")
    judges: dict[str, JudgeRecipe] = {"masks": Masks(masks)}
    own = replace(
        workspace, recipe=replace(workspace.recipe, judges={**workspace.recipe.judges, **judges})
    )
    run_task(own, Task(0, "judge", "", "masks"))
    policy, _ = load_model(own.base_folder(0, "weak"))
    # These masks are the labels, so what they say is what the oracle says.
    said, true = (
        [one.scores for one in scored_slates(policy, own.validation(0), judge, own.slates(), 0)]
        for judge in (own.judge(0, "weak", "masks"), own.judge(0, "weak", "oracle"))
    )
    np.testing.assert_array_equal(said, true)
    first, second = sorted(masks.iterdir())[:2]
    shutil.copy(first, second)
    with pytest.raises(SegprefError, match="were changed since this study has begun"):
        own.judge(0, "weak", "masks")
    judges["masks"] = Masks(tmp_path)
    with pytest.raises(SegprefError, match="holds no mask of any image"):
        run_task(
            replace(workspace, recipe=replace(workspace.recipe, judges=judges)),
            Task(1, "judge", "", "masks"),
        )


def test_noise_turns_the_judge_round(workspace: Workspace) -> None:
    policy, _ = load_model(workspace.base_folder(0, "weak"))
    cases = workspace.validation(0).take([0])
    scores = [
        next(
            iter(
                scored_slates(
                    policy, cases, workspace.judge(0, "weak", name), workspace.slates(), 0
                )
            )
        ).scores
        for name in ("oracle", "noisy")
    ]
    assert not workspace.recipe.judges["noisy"].of_base
    assert isinstance(workspace.recipe.judges["noisy"], Noisy)
    assert (np.argsort(-scores[1][:, 0], kind="stable")[0] != scores[0][:, 0].argmax()) or (
        np.ptp(scores[0]) == 0
    )


def test_a_base_may_start_from_another_one(workspace: Workspace) -> None:
    task = Task(0, "base", "matched")
    assert task.needs(workspace.recipe) == (Task(0, "base", "weak"),)
    run_task(workspace, task)
    assert task.finished(workspace.out)
    pool = set(workspace.pool(0, "matched").patients)
    assert not pool & set(workspace.base_cases(0, "matched").patients)


def test_a_judge_may_learn_from_unlabelled_images(workspace: Workspace) -> None:
    for name in ("model", "semi-supervised"):
        run_task(workspace, Task(0, "judge", "", name))
    plain, semi = (
        Task(0, "judge", "", name).folder(workspace.out) for name in ("model", "semi-supervised")
    )
    assert load_model(plain)[0].digest() != load_model(semi)[0].digest()
    assert RunFolder(semi).read_summary()["unlabelled_cases"] == len(
        workspace.dataset.of_patients(workspace.split(0).train)
    )


@pytest.mark.parametrize(("name", "value"), [("start", "weak"), ("labels_of", "model")])
def test_a_judge_is_not_what_only_a_base_can_be(
    name: str, value: str, workspace: Workspace
) -> None:
    stage = replace(Stage1(labelled=2, epochs=1), **{name: value})
    odd = replace(workspace, recipe=replace(workspace.recipe, judges={"odd": ModelBased(stage)}))
    with pytest.raises(SegprefError, match=f"take `{name}: {value}` out of the judge"):
        run_task(odd, Task(0, "judge", "", "odd"))


def with_base(workspace: Workspace, judge: str) -> Workspace:
    stage = replace(workspace.recipe.bases["weak"], labels_of=judge)
    return replace(workspace, recipe=replace(workspace.recipe, bases={f"labels of {judge}": stage}))


@pytest.mark.parametrize("judge", ["model", "regressor"])
def test_a_base_may_learn_from_the_labels_of_a_judge(judge: str, workspace: Workspace) -> None:
    own, base = with_base(workspace, judge), f"labels of {judge}"
    aside = own.dataset.of_patients(own.split(0).judge)
    theirs = own.recipe.judges[judge].labelled_cases(aside, 0)  # type: ignore[attr-defined]
    alone = workspace.base_cases(0, "weak")
    found = own.base_cases(0, base)
    assert {one.id for one in found} == {one.id for one in (*alone, *theirs)}
    assert len(found) == len(alone) + len(theirs)
    # What is learned from later is as before: no patient of the judge is in it.
    assert own.pool(0, base).patients == workspace.pool(0, "weak").patients
    run_task(own, Task(0, "base", base))
    labelled = load_model(own.base_folder(0, base))[1].labelled
    assert set(labelled) == {*alone.patients, *theirs.patients}


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("oracle", "labels of the judge oracle, which has none of its own"),
        ("nobody", "labels of the judge 'nobody', but the recipe has only model, "),
    ],
)
def test_labels_that_are_not_there_are_refused(judge: str, said: str, workspace: Workspace) -> None:
    with pytest.raises(SegprefError, match=said):
        plan(with_base(workspace, judge).recipe)
