"""Doing one task of a study; what is finished is not done again, what was begun goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from segpref.data.cache import write_atomically
from segpref.data.csv_files import csv_text, read_csv
from segpref.data.dataset import Dataset
from segpref.inference.evaluation import score_masks, score_model
from segpref.policies import load_model
from segpref.preferences import TopVsRandom
from segpref.progress import console, headed
from segpref.studies.audit import audit
from segpref.studies.calibration import read_flips
from segpref.studies.gallery import alignment_report
from segpref.studies.lab import Lab
from segpref.studies.plan import Task
from segpref.studies.recipe import plain
from segpref.studies.slates import scored_slates, select_best
from segpref.training import RunFolder, align

__all__ = ["Row", "perform", "read_scores"]

Row = dict[str, str | float]
"""Scores of one structure of one volume."""


def perform(lab: Lab, task: Task) -> None:
    """Do a task whose needs are finished."""
    {"base": _base, "judge": _judge, "audit": _audit, "run": _run}[task.kind](lab, task)


def read_scores(path: Path) -> list[Row]:
    """The rows that a task wrote."""
    return [_typed(row) for row in read_csv(path)]


def _base(lab: Lab, task: Task) -> None:
    folder = task.folder(lab.out)
    stage = lab.recipe.bases[task.base]
    lab.fit(
        stage,
        lab.base_cases(task.seed, task.base),
        folder,
        task.seed,
        lab.validation(task.seed),
        pool=None if stage.method is None else lab.pool(task.seed, task.base),
        start=None if stage.start is None else lab.base_folder(task.seed, stage.start),
    )
    _keep_model_scores(lab.test(task.seed), folder, "test.csv", RunFolder(folder).best)


def _judge(lab: Lab, task: Task) -> None:
    recipe = lab.recipe.judges[task.judge]
    recipe.train(lab.bench(task.seed, task.base, task.judge))
    _keep(task.folder(lab.out) / "judge.json", lambda: json.dumps(plain(recipe), indent=1))


def _audit(lab: Lab, task: Task) -> None:
    folder = task.folder(lab.out)
    policy, card = load_model(lab.base_folder(task.seed, task.base))
    judge = lab.judge(task.seed, task.base, task.judge)
    _keep(
        folder / "audit.json",
        lambda: json.dumps(
            audit(
                policy, lab.validation(task.seed), judge, TopVsRandom(), lab.slates(), task.seed
            ).as_dict(),
            indent=1,
        ),
    )  # fmt: skip

    def scores() -> str:
        test = lab.test(task.seed)
        slates = scored_slates(policy, test, judge, lab.slates(), task.seed)
        masks = select_best(slates, test)
        return csv_text(score_masks(masks, card.label_space, surface=True, slices=True))

    _keep(folder / "select-best.csv", scores)


def _run(lab: Lab, task: Task) -> None:
    method, stage = task.resolved(lab.recipe)
    if method.calibrated:
        audited = Task(task.seed, "audit", task.base, task.judge).folder(lab.out) / "audit.json"
        method = method.with_flips(read_flips(audited))
    base = lab.base_folder(task.seed, task.base)
    folder = RunFolder(task.folder(lab.out))
    settings = {
        "method": plain(method),
        "align": plain(stage),
        "seed": task.seed,
        "base": load_model(base)[0].digest(),
    }
    folder.open(settings, resume=True)
    if not folder.finished:
        console.print(headed(task.name, ": stage 2"))
    pool = lab.pool(task.seed, task.base)
    if stage.pool == "labelled":
        pool = lab.base_cases(task.seed, task.base)
    judge = lab.judge(task.seed, task.base, task.judge)
    proposals = lab.slates(stage.candidates, method.families)
    align(
        base,
        pool,
        lab.validation(task.seed),
        judge,
        method.build(pool.label_space),
        folder,
        proposals=proposals,
        epochs=stage.epochs,
        images_per_epoch=stage.images_per_epoch,
        batch_size=stage.batch_size,
        learning_rate=method.learning_rate,
        schedule=method.schedule,
        view=method.view,
        average=method.average,
        refresh=stage.refresh,
        reference=stage.reference,
        optimizer=stage.optimizer,
        seed=task.seed,
        cache=lab.cache,
    )
    if not (folder.path / "report.html").exists():
        alignment_report(folder, base, lab.validation(task.seed), judge, proposals, task.seed)
    _keep_model_scores(lab.test(task.seed), folder.path, "test.csv", folder.best)
    _keep_model_scores(lab.test(task.seed), folder.path, "test-last.csv", folder.last)


def _keep_model_scores(test: Dataset, folder: Path, name: str, model: Path) -> None:
    _keep(
        folder / name,
        lambda: csv_text(score_model(load_model(model)[0], test, surface=True, slices=True)),
    )


def _keep(path: Path, compute: Callable[[], str]) -> None:
    if not path.exists():
        write_atomically(path, compute().encode())


def _typed(row: dict[str, str]) -> Row:
    names = ("volume", "patient", "structure")
    return {key: value if key in names else float(value) for key, value in row.items()}
