"""`segpref ambiguity`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.cli.study import executor_for
from segpref.cli.study_options import Words, as_words, check_study
from segpref.data import Cache, open_dataset
from segpref.progress import console, headed, stdout
from segpref.report.formats import rich_table
from segpref.report.table_files import TitledTable
from segpref.studies.ambiguity.jobs import ambiguity_jobs, run_ambiguity
from segpref.studies.ambiguity.recipe import load_ambiguity_recipe
from segpref.studies.ambiguity.report import AMBIGUITY_FILES
from segpref.studies.ambiguity.workspace import AmbiguityWorkspace
from segpref.studies.engine import list_jobs, raise_for_failures

__all__ = ["EXAMPLES", "ambiguity"]

EXAMPLES = """\
  segpref ambiguity --data LIDC --list_only true
  segpref ambiguity --data LIDC --workers 2
  segpref ambiguity --data LIDC --recipe lidc --ray auto --gpus 1
"""


def ambiguity(
    settings: dict[str, Any],
    data: Path,
    recipe: str = "lidc-small",
    out: Path | None = None,
    seeds: list[int] | None = None,
    workers: int | None = None,
    threads: int = 1,
    ray: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    data_options: dict[str, Any] | None = None,
    cache: Path | None = None,
    list_only: bool = False,
    only: Words = None,
) -> None:
    """Run a study of diffusion models that draw many masks: AmbiSeg, its alignments, tables.

    Finished jobs are skipped and interrupted ones resumed, so the same command continues a study that
    was stopped. A job that fails does not stop the others. The tables are written from
    what there is.

    Args:
        settings: the resolved options.
        data: folder of a dataset with several raters per image.
        recipe: lidc-small or lidc (for a GPU), which come with segpref, or a YAML file.
        out: the study's folder; runs/ and the recipe's name if left out.
        seeds: instead of the recipe's; ablations and speed are of the first.
        workers: jobs at a time on this machine, each in a process; one after the other in this one if
            left out.
        threads: CPU threads of each worker.
        ray: address of a Ray cluster to run on (auto, ray://host:10001, or local to start one here).
        cpus: cores that each job asks Ray for.
        gpus: GPUs that each job asks Ray for; 0.25 lets four share one.
        data_options: passed to the reader, over the recipe's.
        cache: where prepared images and first samples are kept; inside the study's folder if left out.
        list_only: only list the jobs and whether they are finished.
        only: just the jobs with one of these words in their title, such as region or "seed 0", and what
            they need.
    """
    chosen = load_ambiguity_recipe(recipe)
    options = {**chosen.data_options, **(data_options or {})}
    chosen = replace(chosen, seeds=seeds or chosen.seeds, data_options=options)
    out = out or Path("runs") / chosen.name
    check_study(out, cache, data, AMBIGUITY_FILES)
    reader = open_dataset(data, **options)
    workspace = AmbiguityWorkspace(chosen, reader, out, Cache(cache or out / "cache"))
    jobs = ambiguity_jobs(workspace, as_words(only))
    if list_only:
        list_jobs(jobs)
        return
    console.print(headed(chosen.name, f": {chosen.description}"))
    executor = executor_for(workers, threads, ray, cpus, gpus)
    tables, failed = run_ambiguity(workspace, as_words(only), executor)
    _show(out, tables)
    raise_for_failures(failed, len(jobs))


def _show(out: Path, tables: Sequence[TitledTable]) -> None:
    for one in tables:
        stdout.print(
            rich_table(one.rows, one.title, list(one.rows[0].figures), "GED is better when lower.")
        )
        for claim in one.remarks:
            stdout.print(claim, soft_wrap=True)
    if not tables:
        stdout.print("\nNo table yet: none of the samples that the tables need have been drawn.")
        return
    pictures = f", pictures: {out / 'figures'}" if (out / "figures").is_dir() else ""
    stdout.print(f"\nTables: {out / 'tables.md'} (also .csv and .tex){pictures}")
