"""`segpref prompted`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.cli.study import executor_for
from segpref.cli.study_options import Words, as_words, check_study
from segpref.data import Cache
from segpref.progress import console, headed, stdout
from segpref.studies.engine import list_jobs, raise_for_failures
from segpref.studies.prompted import (
    PROMPTED_FILES,
    load_prompted,
    open_prompted,
    prompted_jobs,
    run_prompted,
)

__all__ = ["EXAMPLES", "prompted"]

EXAMPLES = """\
  segpref prompted --data BUSI --others DATA --list_only true
  segpref prompted --data BUSI --others DATA --workers 2
  segpref prompted --data BUSI --others DATA --only "fold 0"
"""


def prompted(
    settings: dict[str, Any],
    data: Path,
    others: Path | None = None,
    recipe: str = "busi-small",
    out: Path | None = None,
    workers: int | None = None,
    threads: int = 1,
    ray: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    cache: Path | None = None,
    list_only: bool = False,
    only: Words = None,
) -> None:
    """Study promptable models in cross-validation: automatic prompts, ratings and rankings.

    Finished jobs are skipped and interrupted ones resumed, so the same command continues a study that
    was stopped. A job that fails does not stop the others. The tables are written of
    whatever is finished.

    Args:
        settings: the resolved options.
        data: folder of the dataset.
        others: folder that may hold acdc, Task04_Hippocampus and lidc: what stands in for a downloaded
            SAM learns from them to follow prompts, and from phantoms. Recipes with a checkpoint do
            without.
        recipe: name of a recipe that comes with segpref, or a YAML file.
        out: the study's folder; runs/ and the recipe's name if left out.
        workers: jobs at a time on this machine, each in a process; one after the other in this one if
            left out.
        threads: CPU threads of each worker.
        ray: address of a Ray cluster to run on (auto, ray://host:10001, or local to start one here).
        cpus: cores that each job asks Ray for.
        gpus: GPUs that each job asks Ray for; 0.25 lets four share one.
        cache: where prepared images and predictions are kept; inside the study's folder if left out.
        list_only: only list the jobs and whether they are finished.
        only: just the jobs with one of these words in their title, such as "fold 0", and what they
            need.
    """
    chosen, _ = load_prompted(recipe)
    out = out or Path("runs") / chosen.name
    check_study(out, cache, data, PROMPTED_FILES)
    workspace = open_prompted(chosen, data, others, out, None if cache is None else Cache(cache))
    jobs = prompted_jobs(workspace, as_words(only))
    if list_only:
        list_jobs(jobs)
        return
    console.print(headed(chosen.name, f": {chosen.description}"))
    executor = executor_for(workers, threads, ray, cpus, gpus)
    page, failed = run_prompted(workspace, as_words(only), executor)
    stdout.print(page.read_text(), highlight=False, soft_wrap=True)
    stdout.print(f"Tables: {page} (also .csv), figures: {page.parent / 'figures'}", soft_wrap=True)
    raise_for_failures(failed, len(jobs))
