"""Opens a study of promptable models, and runs what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpref.data import Cache
from segpref.locking import alone_in
from segpref.studies.engine import Executor, run_jobs
from segpref.studies.prompted.jobs import prompted_jobs
from segpref.studies.prompted.recipe import PromptedRecipe
from segpref.studies.prompted.report import write_prompted
from segpref.studies.prompted.workspace import PromptedWorkspace
from segpref.types import SegprefError

__all__ = ["open_prompted", "run_prompted"]


def open_prompted(
    recipe: PromptedRecipe, data: Path, others: Path | None, out: Path, cache: Cache | None = None
) -> PromptedWorkspace:
    """The study in its folder, where its recipe is written.

    Args:
        recipe: of the study.
        data: folder of the dataset.
        others: folder that may hold ``acdc``, ``Task04_Hippocampus`` and ``lidc``, from which the
            stand-in for SAM learns, besides phantoms; not needed where the recipe has a checkpoint.
        out: the study's folder.
        cache: where prepared images and predictions are kept; inside the study's folder if None.

    Raises:
        SegprefError: the folder was begun with another recipe, or a stand-in has nothing to learn from.
    """
    out = Path(out)
    if others is None and recipe.checkpoint is None:
        raise SegprefError(
            "the stand-in for SAM learns to follow prompts on other data: give their folder with "
            "--others, or name a checkpoint in the recipe"
        )
    workspace = PromptedWorkspace(recipe, data, others, out, cache or Cache(out / "cache"))
    if recipe.checkpoint is not None:
        _ = workspace.checkpoint  # a recipe that is refused can be corrected
    workspace.keep_recipe()
    return workspace


def run_prompted(
    workspace: PromptedWorkspace, only: Sequence[str] = (), executor: Executor | None = None
) -> tuple[Path, dict[str, str]]:
    """Run the study; finished jobs are skipped, interrupted ones resumed.

    Args:
        workspace: the study.
        only: words; just jobs with one of them in their title, and what they need.
        executor: where jobs run; one after the other in this process where None.

    Returns:
        The page with the tables, which is written of what is there whatever stopped the rest, and why
        jobs failed, by their names.

    Raises:
        SegprefError: no dataset, no job that has such a title, or another process is running in the
            folder.
    """
    jobs = prompted_jobs(workspace, only)
    _ = workspace.reader  # a folder that holds no dataset leaves no page behind
    with alone_in(workspace.out):
        try:
            failed = run_jobs(workspace.out, jobs, executor, workspace.open)
        finally:
            page = write_prompted(workspace)
    return page, failed
