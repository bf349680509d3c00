"""Open a study of promptable models, and run what of it is not done yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from segpref.data import Cache
from segpref.data.cache import write_atomically
from segpref.locking import alone_in
from segpref.studies.parts import named, run_parts
from segpref.studies.prompted.lab import PromptedLab
from segpref.studies.prompted.perform import parts
from segpref.studies.prompted.recipe import PromptedRecipe
from segpref.studies.prompted.report import write_prompted
from segpref.studies.recipe import plain, read_recipe
from segpref.types import SegprefError

__all__ = ["open_prompted", "run_prompted"]


def open_prompted(
    recipe: PromptedRecipe, data: Path, others: Path, out: Path, cache: Cache | None = None
) -> PromptedLab:
    """The study in its folder, where its recipe is written.

    Args:
        recipe: of the study.
        data: folder of the dataset.
        others: folder that may hold ``acdc``, ``Task04_Hippocampus`` and ``lidc``, from which the
            stand-in for SAM learns, besides phantoms.
        out: the study's folder.
        cache: where prepared images and predictions are kept; inside the study's folder if None.

    Raises:
        SegprefError: the folder was begun with another recipe.
    """
    out = Path(out)
    path, now = out / "recipe.yaml", plain(recipe)
    if path.exists():
        before = read_recipe(path)
        if changed := [name for name in now if before.get(name) != now[name]]:
            raise SegprefError(
                f"{out} was begun with another recipe ({', '.join(changed)}): choose another --out"
            )
    else:
        write_atomically(path, yaml.safe_dump(now, sort_keys=False).encode())
    return PromptedLab(recipe, data, others, out, cache or Cache(out / "cache"))


def run_prompted(lab: PromptedLab, only: Sequence[str] = ()) -> Path:
    """Run the study; what is finished is not done again, and what was interrupted goes on.

    Args:
        lab: the study.
        only: just the parts with one of these words in their name, where what they need is there.

    Returns:
        The page with the tables, which is written of what is there, whatever stopped the rest.

    Raises:
        SegprefError: no part has such a name, one can't be done, or another process is running in the
            folder.
    """
    todo = named(parts(lab), only)
    with alone_in(lab.out):
        try:
            run_parts(lab.out, todo)
        finally:
            page = write_prompted(lab)
    return page
