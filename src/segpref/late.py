"""Libraries that take long to import, imported when something of them is first used.

The options of a command need none of them, nor does the sentence about a path that is wrong::

    stats = late("scipy.stats")

Type checkers that know the library read ``from scipy import stats`` under ``TYPE_CHECKING``.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["late"]


def late(name: str) -> Any:
    """A module that is imported when it is first asked for something."""
    return _Late(name)


class _Late(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by who looks at all names of a module, and uses none
            raise AttributeError(f"{self.__name__} is imported late and shows no {name}")
        return getattr(import_module(self.__name__), name)
