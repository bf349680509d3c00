"""The recipe that a study's folder was begun with: written down, and compared with a later one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from segpref.data.cache import write_atomically
from segpref.data.pictures import is_colour
from segpref.studies.earlier import whole_methods, with_own_ranges
from segpref.studies.recipe import Recipe, read_recipe
from segpref.studies.recorded_settings import changed_settings, plain, same_settings
from segpref.types import SegprefError

__all__ = ["begun_with", "has_recipe", "keep_recipe"]

_RECIPE = "recipe.yaml"
_SHARED = ("split", "split_seed", "folds", "preparation", "network", "align")
_NAMED = ("bases", "judges", "methods")


def has_recipe(out: Path) -> bool:
    """Whether a study was begun in this folder."""
    return (out / _RECIPE).exists()


def keep_recipe(out: Path, recipe: Recipe, channels: Sequence[str]) -> None:
    """Write down a study's recipe; names that the folder's own has more of stay.

    Args:
        out: the study's folder.
        recipe: as it is now.
        channels: of the dataset's images.

    Raises:
        SegprefError: the folder was begun with another recipe.
    """
    now = plain(recipe)
    if (before := begun_with(out, recipe, channels)) is not None:
        for section in _NAMED:
            now[section] = {**before[section], **now[section]}
    write_atomically(out / _RECIPE, yaml.safe_dump(now, sort_keys=False).encode())


def begun_with(out: Path, recipe: Recipe, channels: Sequence[str]) -> Mapping[str, Any] | None:
    """The recipe that a folder was begun with; there may be more names now; None in a new folder.

    Args:
        out: the study's folder.
        recipe: as it is now.
        channels: of the dataset's images.

    Raises:
        SegprefError: the folder was begun with another recipe.
    """
    if not has_recipe(out):
        return None
    before: Mapping[str, Any] = whole_methods(read_recipe(out / _RECIPE))
    if is_colour(channels):
        before = with_own_ranges(before)
    if changed := _changed(before, recipe):
        raise SegprefError(
            f"{out} was begun with another recipe ({', '.join(changed)}): choose another "
            "--out, or give what was changed a new name"
        )
    return before


def _changed(before: Mapping[str, Any], now: Recipe) -> list[str]:
    """Which settings that affect results were changed; names may be added."""
    found = [name for name in changed_settings(before, now) if name in _SHARED]
    for section in _NAMED:
        old = before.get(section)
        if not isinstance(old, Mapping):
            found.append(section)
            continue
        found += [
            f"{section}: {name}"
            for name, one in getattr(now, section).items()
            if name in old and not same_settings(old[name], one)
        ]
    return found
