"""Runs one task of a study; finished ones are skipped, interrupted ones resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from segpref.data.cache import write_atomically
from segpref.data.csv_files import csv_text
from segpref.data.dataset import Dataset
from segpref.inference.evaluation import score_masks, score_model
from segpref.policies import load_model
from segpref.preferences import StandingJudge, TopVsRandom
from segpref.progress import console, headed
from segpref.proposals import SlateProposals
from segpref.studies.auditing import audit, audit_standing
from segpref.studies.calibration import read_flip_rates
from segpref.studies.earlier import run_settings
from segpref.studies.examples import alignment_report
from segpref.studies.judging import StandingRecipe
from segpref.studies.planning import Task
from segpref.studies.recorded_settings import as_recorded, plain
from segpref.studies.slates import scored_slates, select_best
from segpref.studies.workspace import Workspace
from segpref.training import AlignConfig, RunFolder, align
from segpref.training.methods import method_of, with_flip_rates
from segpref.types import Judge

__all__ = ["run_task"]


def run_task(workspace: Workspace, task: Task) -> None:
    """Do a task whose needs are finished."""
    {"base": _base, "judge": _judge, "audit": _audit, "run": _run}[task.kind](workspace, task)


def _base(workspace: Workspace, task: Task) -> None:
    folder = task.folder(workspace.out)
    stage = workspace.recipe.bases[task.base]
    if stage.model is not None:
        workspace.keep_existing(task.base, folder)
    else:
        workspace.fit(
            stage,
            workspace.base_cases(task.seed, task.base),
            folder,
            task.seed,
            workspace.validation(task.seed),
            pool=None if stage.method is None else workspace.pool(task.seed, task.base),
            start=None if stage.start is None else workspace.base_folder(task.seed, stage.start),
        )
    _keep_model_scores(workspace.test(task.seed), folder, "test.csv", RunFolder(folder).best)


def _judge(workspace: Workspace, task: Task) -> None:
    recipe = workspace.recipe.judges[task.judge]
    recipe.train(workspace.judge_inputs(task.seed, task.base, task.judge))
    _keep(task.folder(workspace.out) / "judge.json", lambda: json.dumps(plain(recipe), indent=1))


def _audit(workspace: Workspace, task: Task) -> None:
    folder = task.folder(workspace.out)
    policy, card = load_model(workspace.base_folder(task.seed, task.base))
    judge = workspace.judge(task.seed, task.base, task.judge)
    if isinstance(judge, StandingJudge):
        _keep(folder / "audit.json", lambda: _standing_audit(workspace, task, judge))
        # It says nothing of what the base makes of the test images.
        _keep(folder / "select-best.csv", lambda: "")
        return

    def diagnostics() -> str:
        validation, slates = workspace.validation(task.seed), workspace.slates()
        found = audit(policy, validation, judge, TopVsRandom(), slates, task.seed)
        return json.dumps(found.as_dict(), indent=1)

    def scores() -> str:
        test = workspace.test(task.seed)
        slates = scored_slates(policy, test, judge, workspace.slates(), task.seed)
        masks = select_best(slates, test)
        return csv_text(score_masks(masks, card.label_space, surface=True, slices=True))

    _keep(folder / "audit.json", diagnostics)
    _keep(folder / "select-best.csv", scores)


def _standing_audit(workspace: Workspace, task: Task, judge: StandingJudge) -> str:
    if not len(judge.measurable(workspace.dataset)):
        why = "no image that it knows masks of has a label, so the judge can't be audited"
        console.print(headed(task.name, f": {why}"))
        return json.dumps(None)
    found = audit_standing(judge, workspace.dataset, TopVsRandom(), task.seed)
    return json.dumps(found.as_dict(), indent=1)


def _run(workspace: Workspace, task: Task) -> None:
    config = task.config(workspace.recipe)
    judging = workspace.recipe.judges[task.judge]
    standing = judging if isinstance(judging, StandingRecipe) else None
    if config.needs_flips and standing is None:
        audited = Task(task.seed, "audit", task.base, task.judge).folder(workspace.out)
        config = with_flip_rates(config, read_flip_rates(audited / "audit.json"))
    base = workspace.base_folder(task.seed, task.base)
    folder = RunFolder(task.folder(workspace.out))
    settings = {"align": config, "seed": task.seed, "base": load_model(base)[0].digest()}
    folder.open(as_recorded(folder, settings, run_settings), resume=True)
    config = replace(config, seed=task.seed)
    if standing is None:
        judge, proposals = _learn_from_judge(workspace, task, config, base, folder)
    else:
        judge = None
        proposals = _learn_from_votes(workspace, task, config, base, folder, standing)
    if not (folder.path / "report.html").exists():
        validation = workspace.validation(task.seed)
        alignment_report(folder, base, validation, judge, proposals, task.seed)
    _keep_model_scores(workspace.test(task.seed), folder.path, "test.csv", folder.best)
    _keep_model_scores(workspace.test(task.seed), folder.path, "test-last.csv", folder.last)


def _learn_from_judge(
    workspace: Workspace, task: Task, config: AlignConfig, base: Path, folder: RunFolder
) -> tuple[Judge, SlateProposals]:
    """Stage 2 on slates that are made and scored; the judge, and what makes them."""
    if not folder.finished:
        console.print(headed(task.name, ": stage 2"))
    config = config.resolved()
    pool = workspace.pool(task.seed, task.base)
    if config.images == "labelled":
        pool = workspace.base_cases(task.seed, task.base)
    judge = workspace.judge(task.seed, task.base, task.judge)
    method = method_of(config, pool.label_space, judge)
    proposals = workspace.proposals or method.proposals
    align(
        base,
        pool,
        workspace.validation(task.seed),
        method.judge,
        method.signal,
        folder,
        config,
        proposals=proposals,
        cache=workspace.cache,
    )
    return method.judge, proposals


def _learn_from_votes(
    workspace: Workspace,
    task: Task,
    config: AlignConfig,
    base: Path,
    folder: RunFolder,
    standing: StandingRecipe,
) -> SlateProposals:
    """Stage 2 on preferences that stand; what makes the candidates of pictures."""
    # Votes need a database, which judges do not.
    from segpref.studies.votes import LEFT_OUT, align_to_votes

    inputs = workspace.judge_inputs(task.seed, task.base, task.judge)
    votes = standing.preferences(inputs, config, folder.path / "votes")
    if not folder.finished:
        told, left_out = votes.figures["preferences"], votes.figures["left out"].get(LEFT_OUT, 0)
        apart = (
            f"; {left_out} about patients of validation or test are left out" if left_out else ""
        )
        console.print(headed(task.name, f": stage 2 from {told} preferences{apart}"))
    return align_to_votes(base, votes, inputs.validation, folder, workspace.cache)


def _keep_model_scores(test: Dataset, folder: Path, name: str, model: Path) -> None:
    _keep(
        folder / name,
        lambda: csv_text(score_model(load_model(model)[0], test, surface=True, slices=True)),
    )


def _keep(path: Path, compute: Callable[[], str]) -> None:
    if not path.exists():
        write_atomically(path, compute().encode())
