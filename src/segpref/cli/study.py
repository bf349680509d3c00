"""`segpref study`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.text import Text

from segpref.cli.study_options import Words, as_words, check_study
from segpref.data import Cache
from segpref.locking import alone_in
from segpref.progress import console, headed, stdout
from segpref.report.formats import rich_table
from segpref.report.runs import BASE, MEASURE_NAMES
from segpref.runtime import gpus
from segpref.studies.engine import (
    Executor,
    InProcess,
    Processes,
    RayCluster,
    list_jobs,
    raise_for_failures,
)
from segpref.studies.recipe import load_recipe
from segpref.studies.results import Results
from segpref.studies.running import run_study, study_jobs
from segpref.studies.tables import study_tables
from segpref.studies.workspace import Workspace
from segpref.studies.writing import write_study
from segpref.terminal import one_line
from segpref.workflows.options import DataOptions
from segpref.workflows.readers import reader_of

__all__ = ["EXAMPLES", "executor_for", "show", "study"]

EXAMPLES = """\
  segpref study --recipe acdc-small --data ACDC --list_only true
  segpref study --recipe acdc-small --data ACDC --workers 2
  segpref study --recipe mine.yaml --data DATA --only "Table 4" --ray auto
"""


def study(
    settings: dict[str, Any],
    recipe: str,
    data: Path,
    out: Path | None = None,
    seeds: list[int] | None = None,
    workers: int | None = None,
    threads: int = 1,
    ray: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    data_options: dict[str, Any] | None = None,
    labels: dict[str, int | list[int]] | None = None,
    cache: Path | None = None,
    list_only: bool = False,
    only: Words = None,
) -> None:
    """Run a recipe: a grid of bases, judges, methods, swept values and seeds.

    Finished jobs are skipped and interrupted ones resumed, so the same command continues a study that
    was stopped. A run that fails does not stop the others.

    Args:
        settings: the resolved options.
        recipe: name of a recipe that comes with segpref, or a YAML file.
        data: folder of the dataset.
        out: the study's folder; runs/ and the recipe's name if left out.
        seeds: replace the recipe's seeds.
        workers: parallel tasks on this machine, each in a process; 0: one by one in this process;
            chosen by the number of cores, or GPUs, if left out.
        threads: CPU threads of each task.
        ray: address of a Ray cluster to run on (auto, ray://host:10001, or local to start one here).
        cpus: cores that each task asks Ray for.
        gpus: GPUs that each task asks Ray for; 0.25 lets four share one.
        data_options: passed to the reader, such as as_multilabel, patient_pattern or exclude.
        labels: the values of the structures in label files, "{liver: 5, kidney: [2, 3]}", where not all
            are meant or several are one; values of "ignore" are left out, others are background.
        cache: where prepared images and predictions are kept; inside the study's folder if left out.
        list_only: only list the jobs and whether they are finished.
        only: run only the parts of the grid with one of these texts in their title, such as Table 4.
    """
    chosen, _ = load_recipe(recipe)
    out = out or Path("runs") / chosen.name
    check_study(out, cache, data)
    reader = reader_of(data, DataOptions(data_options=data_options, labels=labels))
    workspace = Workspace(chosen, reader, out, Cache(cache or out / "cache"))
    jobs = study_jobs(workspace, seeds, as_words(only))
    if list_only:
        list_jobs(jobs)
        return
    console.print(headed(chosen.name, f": {chosen.description}"))
    if not reader.patients_known:
        console.print("Nothing links volumes to patients in this dataset: the split is by volume.")
    slots = _workers(threads) if workers is None else workers
    executor = executor_for(slots, threads, ray, cpus, gpus)
    with alone_in(out):  # until the page is written, too
        results = run_study(workspace, seeds, executor, as_words(only))
        show(workspace, results)
    raise_for_failures(results.failed, len(jobs))


def executor_for(
    workers: int | None, threads: int, ray: str | None, cpus: float, gpus: float
) -> Executor:
    """Where jobs run: on the Ray cluster at this address, in so many processes, or in this one."""
    if ray is not None:
        return RayCluster(ray, cpus, gpus)
    return Processes(workers, threads) if workers else InProcess()


def show(workspace: Workspace, results: Results) -> None:
    """Print the tables of a study and write its page."""
    tables = study_tables(results)
    for one in tables:
        seeds = max(row.seeds for row in one.rows)
        title = ", ".join(
            part for part in (results.recipe.name, one.title, f"{seeds} seeds") if part
        )
        stdout.print(rich_table(one.rows, f"{title}, mean ± spread", one.columns))
        for claim in one.claims:
            verdict = "not shown to be better" if claim.word == "not shown" else claim.word
            agreed = f"{claim.told_seeds} seeds better" if claim.seeds > 1 else "one seed"
            stdout.print(
                f"{claim.method} against {_told(claim.other)}: "
                f"test {MEASURE_NAMES[claim.measure]} {claim.mean:+.3f} "
                f"(95 % interval over patients {claim.low:+.3f} to {claim.high:+.3f}; "
                f"sign-flip test p = {claim.p_value:.2g}, {claim.patients} patients; {agreed}): "
                f"{verdict}"
            )
    for name, why in results.failed.items():
        console.print(Text.assemble(("failed", "red"), f" {name}: {one_line(why)}"), soft_wrap=True)
    if tables:
        page = write_study(workspace, results)
        stdout.print(
            f"\nReport: {page}\nTables: {workspace.out / 'tables.md'} (also .csv and .tex)"
        )


def _told(row: str) -> str:
    return "the base" if row == BASE else row


def _workers(threads: int) -> int:
    return gpus() or max(1, (os.cpu_count() or 1) // threads)
