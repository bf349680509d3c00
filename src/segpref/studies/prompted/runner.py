"""Do what of the study is not done yet, and tell how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import yaml

from segpref.data import Cache
from segpref.data.cache import write_atomically
from segpref.progress import console
from segpref.studies.prompted.lab import PromptedLab
from segpref.studies.prompted.perform import parts
from segpref.studies.prompted.recipe import PromptedRecipe
from segpref.studies.prompted.report import write_prompted
from segpref.studies.recipe import plain
from segpref.types import SegprefError

__all__ = ["run_prompted"]


def run_prompted(
    recipe: PromptedRecipe,
    data: Path,
    others: Path,
    out: Path,
    cache: Cache | None = None,
    only: Sequence[str] = (),
) -> Path:
    """Run the study; what is finished is not done again, and what was interrupted goes on.

    Args:
        recipe: of the study.
        data: folder of the dataset.
        others: folder that may hold ``acdc``, ``Task04_Hippocampus`` and ``lidc``, from which the
            stand-in for SAM learns, besides phantoms.
        out: the study's folder.
        cache: where prepared images and predictions are kept; inside the study's folder if None.
        only: just the parts with one of these words in their name, where what they need is there.

    Returns:
        The page with the tables.

    Raises:
        SegprefError: the folder was begun with another recipe.
    """
    out = Path(out)
    _keep_recipe(recipe, out)
    lab = PromptedLab(recipe, data, others, out, cache or Cache(out / "cache"))
    todo = [
        part
        for part in parts(lab)
        if not part.finished and (not only or any(word in part.name for word in only))
    ]
    begin = time.monotonic()
    for number, part in enumerate(todo):
        done = time.monotonic() - begin
        left = f", about {_told(done / number * (len(todo) - number))} left" if number else ""
        console.print(f"[bold]{part.name}[/bold]: {number + 1} of {len(todo)}{left}")
        part.perform()
    return write_prompted(lab)


def _keep_recipe(recipe: PromptedRecipe, out: Path) -> None:
    path, now = out / "recipe.yaml", plain(recipe)
    if path.exists():
        before = yaml.safe_load(path.read_text())
        if changed := [name for name in now if before.get(name) != now[name]]:
            raise SegprefError(
                f"{out} was begun with another recipe ({', '.join(changed)}): choose another --out"
            )
        return
    write_atomically(path, yaml.safe_dump(now, sort_keys=False).encode())


def _told(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
