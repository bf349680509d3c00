"""A study of preferences as jobs, and running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from segpref.locking import alone_in
from segpref.memory import Setting
from segpref.studies.engine import Executor, Job, run_jobs
from segpref.studies.planning import Task, plan
from segpref.studies.results import Results, collect
from segpref.studies.tasks import run_task
from segpref.studies.workspace import Workspace

__all__ = ["run_study", "study_jobs"]


def study_jobs(
    workspace: Workspace, seeds: Sequence[int] | None = None, only: Sequence[str] = ()
) -> list[Job]:
    """What there is to do, every job after those that it needs.

    Args:
        workspace: the study.
        seeds: instead of the recipe's.
        only: words; just the parts of the grid with one of them in their title.

    Raises:
        SegprefError: the grid names what the recipe does not have, or no part has such a title.
    """
    return [_job(workspace, task) for task in plan(workspace.recipe, seeds, only)]


def run_study(
    workspace: Workspace,
    seeds: Sequence[int] | None = None,
    executor: Executor | None = None,
    only: Sequence[str] = (),
) -> Results:
    """Do every task of a recipe that is not finished yet; see :func:`~segpref.studies.engine.run_jobs`.

    Args:
        workspace: the recipe, the data and the study's folder.
        seeds: instead of the recipe's.
        executor: where tasks run; one after the other in this process where None.
        only: words; just the parts of the grid with one of them in their title are run.

    Returns:
        What is finished, of the parts that were not run as well.

    Raises:
        SegprefError: the recipe or the data are wrong, or another process works in the folder.
    """
    with alone_in(workspace.out):
        tasks = plan(workspace.recipe, seeds, only)
        jobs, prepare = [_job(workspace, task) for task in tasks], partial(_open, workspace, tasks)
        failed = run_jobs(workspace.out, jobs, executor, prepare)
        return collect(workspace, seeds, failed)


def _open(workspace: Workspace, tasks: Sequence[Task]) -> None:
    # Before the folder is written: what is refused can be corrected.
    workspace.check_labels(tasks)
    workspace.open()


def _job(workspace: Workspace, task: Task) -> Job:
    recipe = workspace.recipe
    return Job(
        name=task.name,
        outputs=task.outputs(workspace.out),
        run=partial(run_task, workspace, task),
        needs=tuple(need.name for need in task.needs(recipe)),
        kind=task.kind,
        epochs=_epochs(workspace, task),
        memory=_memory(workspace, task),
    )


def _epochs(workspace: Workspace, task: Task) -> int | None:
    """Epochs of a task; None where a recipe's judge alone knows how it is trained."""
    if task.kind == "base":
        stage = workspace.recipe.bases[task.base]
        return stage.epochs if stage.model is None else None
    return task.config(workspace.recipe).epochs if task.kind == "run" else None


def _memory(workspace: Workspace, task: Task) -> Mapping[str, Setting]:
    """What the memory of a task grows with, by its name in the recipe."""
    recipe = workspace.recipe
    if task.kind == "base":
        stage = recipe.bases[task.base]
        trained = stage.model is None
        return {f"bases: {task.base}: batch_size": stage.batch_size} if trained else {}
    align = task.config(recipe) if task.kind == "run" else recipe.align
    batch: Mapping[str, Setting] = {"align: batch_size": align.batch_size}
    return {**(batch if task.kind == "run" else {}), "align: candidates": align.candidates}
