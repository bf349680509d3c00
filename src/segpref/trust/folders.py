"""Code that comes with a model: it is run from its own folder, and only where the user trusts it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from segpref.types import SegprefError

__all__ = ["is_code_of", "require_trust", "trust_code"]

_TRUSTED: dict[Path, frozenset[str]] = {}
"""Folders whose code may be run in this process, and the modules that they bring along."""


def trust_code(folder: Path | str) -> None:
    """Let classes be imported from a folder, for the rest of this process.

    Python takes one module of a name. A folder whose modules have the names of others, such as a
    second bundle with a package ``scripts``, is refused: its models would get the other's classes.

    Args:
        folder: its modules and packages are found as when Python is started there.

    Raises:
        SegprefError: the folder is not there, or a module of the same name was taken from elsewhere.
    """
    given, folder = folder, Path(folder).resolve()
    if folder in _TRUSTED:
        return
    if not folder.is_dir():
        raise SegprefError(
            f"there is no folder {given}, which holds the code of the model's network: put it back, or "
            "open the model in the format that it came in"
        )
    names = _modules_in(folder)
    taken = {name: str(other) for other, known in _TRUSTED.items() for name in known & names}
    for name in names & sys.modules.keys():
        place = _place_of(sys.modules[name])
        if place is None or not place.is_relative_to(folder):
            taken.setdefault(name, str(place or "Python itself"))
    if taken:
        name = min(taken)
        raise SegprefError(
            f"{given} contains code named {name}, and so does {taken[name]}: use one of the two at "
            "a time; as a judge, give a folder of masks that `segpref predict` wrote with it"
        )
    _TRUSTED[folder] = names
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def require_trust(folder: Path | str, model: object) -> None:
    """Refuse a model whose network is code of a folder that was not trusted.

    Raises:
        SegprefError: :func:`trust_code` was not asked for that folder in this process.
    """
    if Path(folder).resolve() not in _TRUSTED:
        raise SegprefError(
            f"the network of {model} is code in {folder}, which would be run: if you know where it "
            "comes from, add --trust"
        )


def is_code_of(folder: Path, target: str) -> bool:
    """Whether an import path begins with a module or package in the folder."""
    first = folder / target.partition(".")[0]
    return first.is_dir() or first.with_suffix(".py").is_file()


def _modules_in(folder: Path) -> frozenset[str]:
    """Names of all that could be imported from it; folders without code are none."""
    files = {path.stem for path in folder.glob("*.py")}
    packages = {path.name for path in folder.glob("*/") if next(path.rglob("*.py"), None)}
    return frozenset(name for name in files | packages if name.isidentifier())


def _place_of(module: ModuleType) -> Path | None:
    """Where a module was taken from; None where it is built in."""
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return None if place is None else Path(place).resolve()
