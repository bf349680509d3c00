"""`segpref prompted`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.cli.opening import Words, as_words, check_study
from segpref.data import Cache
from segpref.progress import console, headed, stdout
from segpref.studies.parts import list_parts, named
from segpref.studies.prompted import load_prompted, open_prompted, parts, run_prompted

__all__ = ["prompted"]


def prompted(
    settings: dict[str, Any],
    data: Path,
    others: Path,
    recipe: str = "busi-small",
    out: Path | None = None,
    cache: Path | None = None,
    list_only: bool = False,
    only: Words = None,
) -> None:
    """Study promptable models in cross-validation: prompts that nobody draws, ratings and rankings.

    One part after the other in this process. What is finished is not done again and what was
    interrupted goes on; the tables are written of whatever is finished.

    Args:
        settings: the resolved options.
        data: folder of the dataset.
        others: folder that may hold acdc, Task04_Hippocampus and lidc: what stands in for a downloaded
            SAM learns from them to follow prompts, and from phantoms.
        recipe: name of a recipe that comes with segpref, or a YAML file.
        out: the study's folder; runs/ and the recipe's name if left out.
        cache: where prepared images and predictions are kept; inside the study's folder if left out.
        list_only: only list the parts and whether they are finished.
        only: just the parts with one of these words in their name, such as "fold 0".
    """
    chosen, _ = load_prompted(recipe)
    out = out or Path("runs") / chosen.name
    check_study(out, cache)
    lab = open_prompted(chosen, data, others, out, None if cache is None else Cache(cache))
    if list_only:
        list_parts(named(parts(lab), as_words(only)))
        return
    console.print(headed(chosen.name, f": {chosen.description}"))
    page = run_prompted(lab, as_words(only))
    stdout.print(page.read_text(), highlight=False, soft_wrap=True)
    stdout.print(f"Tables: {page} (also .csv), figures: {page.parent / 'figures'}", soft_wrap=True)
