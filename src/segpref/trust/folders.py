"""Code that comes with a model: it is run from its own folder, and only where the user trusts it."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from segpref.trust.own_modules import OWN, add_folder, own_prefix
from segpref.types import SegprefError

__all__ = [
    "is_code_of",
    "is_own",
    "own_path",
    "path_in_folder",
    "require_trust",
    "trust_code",
    "trusted_folders",
]

_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")


def trust_code(folder: Path | str) -> None:
    """Let classes be imported from a folder, for the rest of this process.

    They are found under names that no other folder has (:func:`own_path`), so that the package
    ``scripts`` of one bundle is never taken for that of another.

    Args:
        folder: its modules and packages find each other as when Python is started there.

    Raises:
        SegprefError: the folder is not there, or a module in it has the name of a library in use.
    """
    given, folder = folder, Path(folder).resolve()
    if own_prefix(folder) in OWN:
        return
    if not folder.is_dir():
        raise SegprefError(
            f"there is no folder {given}, which holds the code of the model's network: put it back, or "
            "open the model in the format that it came in"
        )
    names = _modules_in(folder)
    for name in sorted(names & sys.modules.keys()):
        if place := _library_of(sys.modules[name], folder):
            raise SegprefError(
                f"{given} contains code named {name}, and so does {place}, which this program uses: "
                "give the bundle's module another name"
            )
    add_folder(folder, names)


def trusted_folders() -> frozenset[str]:
    """Folders whose code may be run in this process, for :func:`~segpref.trust.adopt_trust`."""
    return frozenset(str(own.folder) for own in OWN.values())


def adopt_folders(folders: Iterable[str]) -> None:
    """Trust the code of what another process of the same user does."""
    for folder in sorted(folders):
        trust_code(folder)


def require_trust(folder: Path | str, model: object) -> None:
    """Refuse a model whose network is code of a folder that was not trusted.

    Raises:
        SegprefError: :func:`trust_code` was not asked for that folder in this process.
    """
    if own_prefix(Path(folder).resolve()) not in OWN:
        raise SegprefError(
            f"the network of {model} is code in {folder}, which would be run: if you know where it "
            "comes from, add --trust"
        )


def is_code_of(folder: Path, target: str) -> bool:
    """Whether an import path begins with a module or package in the folder."""
    first = folder / target.partition(".")[0]
    return first.is_dir() or first.with_suffix(".py").is_file()


def own_path(folder: Path | str, target: str) -> str:
    """The import path, in any process that trusts the folder, of what its code calls ``target``."""
    return f"{own_prefix(Path(folder).resolve())}.{target}"


def is_own(path: str) -> bool:
    """Whether an import path is one that :func:`own_path` made."""
    return path_in_folder(path) != path


def path_in_folder(path: str) -> str:
    """What the folder's own code calls an import path of :func:`own_path`; others stay as they are."""
    first, _, rest = path.partition(".")
    return rest if first in OWN and rest else path


def _modules_in(folder: Path) -> frozenset[str]:
    """Names of all that could be imported from it; folders without code are none."""
    files = {path.stem for path in folder.glob("*.py")}
    packages = {path.name for path in folder.glob("*/") if next(path.rglob("*.py"), None)}
    return frozenset(name for name in files | packages if name.isidentifier()) - {"__main__"}


def _library_of(module: ModuleType, folder: Path) -> str | None:
    """Where a module of a library was taken from; None where it is the user's own or the folder's."""
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if place is None:
        known = module.__name__.partition(".")[0] in sys.stdlib_module_names
        return "Python itself" if known else None
    if Path(place).resolve().is_relative_to(folder):
        return None
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in _LIBRARIES}
    libraries.add(Path(__file__).resolve().parents[2] / "segpref")
    found = Path(place).resolve()
    return str(found) if any(found.is_relative_to(one) for one in libraries) else None
