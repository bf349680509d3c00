"""`segpref ambiguity`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.cli.opening import Words, as_words, check_study
from segpref.data import Cache, open_dataset
from segpref.locking import alone_in
from segpref.progress import console, headed, stdout
from segpref.report.formats import rich_table
from segpref.studies.ambiguity.lab import AmbiguityLab
from segpref.studies.ambiguity.parts import parts
from segpref.studies.ambiguity.recipe import load_ambiguity_recipe
from segpref.studies.ambiguity.report import write_report
from segpref.studies.parts import list_parts, run_parts

__all__ = ["ambiguity"]


def ambiguity(
    settings: dict[str, Any],
    data: Path,
    recipe: str = "lidc-small",
    out: Path | None = None,
    seeds: list[int] | None = None,
    data_options: dict[str, Any] | None = None,
    cache: Path | None = None,
    list_only: bool = False,
    only: Words = None,
) -> None:
    """Run a study of diffusion models that draw many masks: AmbiSeg, its alignments, tables.

    What is finished is not done again and what was interrupted goes on, so the same command continues
    a study that was killed. The tables are written from what there is.

    Args:
        settings: the resolved options.
        data: folder of a dataset with several raters per image.
        recipe: lidc-small or lidc (for a GPU), which come with segpref, or a YAML file.
        out: the study's folder; runs/ and the recipe's name if left out.
        seeds: instead of the recipe's; ablations and speed are of the first.
        data_options: passed to the reader, over the recipe's.
        cache: where prepared images and first samples are kept; inside the study's folder if left out.
        list_only: only list the parts and whether they are finished.
        only: just the parts with one of these words in their name, such as region or "seed 0".
    """
    chosen = load_ambiguity_recipe(recipe)
    options = {**chosen.data_options, **(data_options or {})}
    chosen = replace(chosen, seeds=seeds or chosen.seeds, data_options=options)
    out = out or Path("runs") / chosen.name
    check_study(out, cache)
    reader = open_dataset(data, **options)
    lab = AmbiguityLab(chosen, reader, out, Cache(cache or out / "cache"))
    todo = parts(lab, as_words(only))
    if list_only:
        list_parts(todo)
        return
    console.print(headed(chosen.name, f": {chosen.description}"))
    with alone_in(out):
        try:
            run_parts(out, todo)
        finally:
            # What is there is worth a table, whatever stopped the rest.
            sections = write_report(lab)
    for one in sections:
        stdout.print(
            rich_table(one.rows, one.title, list(one.rows[0].figures), "GED is better when lower.")
        )
        for claim in one.remarks:
            stdout.print(claim, soft_wrap=True)
    if not sections:
        stdout.print("\nNo table yet: none of the samples that tables are made of are drawn.")
        return
    pictures = f", pictures: {out / 'figures'}" if (out / "figures").is_dir() else ""
    stdout.print(f"\nTables: {out / 'tables.md'} (also .csv and .tex){pictures}")
