"""Modules of models' folders under names of their own: two may both bring a package ``scripts``.

The module that a folder's code calls ``scripts.nets`` is ``segpref_code_HASH.scripts.nets`` in
``sys.modules``, in tracebacks and in pickles, with a hash of the folder's path: the same in every
process that sees the folder there. Its import statements look in its own folder first, as when Python
is started in it; a plain name given to ``importlib.import_module`` is found while a configuration is
read (:func:`as_in_folder`), and not later.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["OWN", "OwnFolder", "add_folder", "as_in_folder", "own_prefix"]

_PREFIX = "segpref_code_"
_LOCK = threading.RLock()


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """A folder whose code may be run.

    Args:
        folder: its path, resolved.
        names: of the modules and packages in it.
    """

    folder: Path
    names: frozenset[str]


OWN: dict[str, OwnFolder] = {}
"""Folders whose code may be run in this process, by the first part of their modules' names."""


def own_prefix(folder: Path) -> str:
    """First part of the names of a folder's modules."""
    return _PREFIX + hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()


def add_folder(folder: Path, names: frozenset[str]) -> None:
    """Let its modules be imported, each when it is first asked for."""
    OWN[own_prefix(folder)] = OwnFolder(folder, names)
    if not any(isinstance(finder, _OwnFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OwnFinder())
    importlib.invalidate_caches()


@contextmanager
def as_in_folder(folder: Path) -> Iterator[None]:
    """Let the folder's modules be found by their plain names, by whatever runs within.

    It is for text that names them, such as expressions of a bundle's configuration. What other code
    has imported under these names is put back afterwards.
    """
    prefix = own_prefix(folder.resolve())
    names = OWN[prefix].names
    with _LOCK:
        before, finder = _taken_out(names), _PlainFinder(prefix, names)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            _taken_out(names)
            sys.modules.update(before)


def _taken_out(names: frozenset[str]) -> dict[str, ModuleType]:
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}


class _OwnFinder(MetaPathFinder):
    """Finds the modules of the folders in :data:`OWN`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        prefix, _, rest = fullname.partition(".")
        if prefix not in OWN:
            return None
        if not rest:
            spec = ModuleSpec(prefix, None, is_package=True)
            spec.submodule_search_locations = [str(OWN[prefix].folder)]
            return spec
        found = PathFinder.find_spec(fullname, path)
        if found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = _OwnLoader(fullname, found.loader.path)
        return found


class _OwnLoader(SourceFileLoader):
    """Runs a module with an ``import`` of its own."""

    def exec_module(self, module: ModuleType) -> None:
        prefix = self.name.partition(".")[0]
        names = OWN[prefix].names

        def own_import(
            name: str,
            globals: Mapping[str, Any] | None = None,
            locals: Mapping[str, Any] | None = None,
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> ModuleType:
            if level or name.partition(".")[0] not in names:
                return builtins.__import__(name, globals, locals, fromlist, level)
            found = importlib.import_module(f"{prefix}.{name}")
            if not fromlist:  # `import scripts.nets` binds scripts
                return sys.modules[f"{prefix}.{name.partition('.')[0]}"]
            # Names that are submodules are imported, too.
            return builtins.__import__(found.__name__, globals, locals, fromlist, 0)

        # Functions look for __import__ among the builtins that their module had when they were made.
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": own_import}
        super().exec_module(module)


class _PlainFinder(MetaPathFinder):
    """Finds one folder's modules by their plain names."""

    def __init__(self, prefix: str, names: frozenset[str]) -> None:
        self._prefix, self._names = prefix, names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        own = f"{self._prefix}.{fullname}"
        if fullname.partition(".")[0] not in self._names or not importlib.util.find_spec(own):
            return None
        return ModuleSpec(fullname, _Same(own))


class _Same(Loader):
    """Gives a module that was imported under another name."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._own)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It was run when it was made; the import system has written its second name on it.
        module.__spec__ = self._spec
