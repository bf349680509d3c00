"""The face of a package: names of its modules, imported when they are first used (PEP 562).

A package shows what is used from outside of it, wherever it is defined::

    if TYPE_CHECKING:
        from segpref.data.cache import Cache
    else:
        __getattr__, __dir__ = face(__name__, {"cache": ("Cache",)})

    __all__ = ["Cache"]

Type checkers read the first branch. A module that needs one name does not wait for what the others in
the package import, and modules that need each other can't fail by the order of their imports. A name
that a module of the package has, too, can't be shown so: importing the module would take its place.
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["face"]


def face(
    package: str, places: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package.

    Nothing is kept: a name is looked up in its module at every use, as it is there at that time.

    Args:
        package: its ``__name__``.
        places: the names that it shows, by the module that has them, relative to the package.
    """
    where = {name: module for module, names in places.items() for name in names}

    def shown(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{where[name]}"), name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return shown, listed
