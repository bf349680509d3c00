"""Optional packages, imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from segpref.types import SegprefError

__all__ = ["needed"]


def needed(package: str, extra: str) -> Any:
    """A package of one of segpref's extras.

    Args:
        package: name of the package, or of a module in it.
        extra: the extra that brings it, such as ``diffusion``.

    Raises:
        SegprefError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise SegprefError(
            f"{package.partition('.')[0]} is needed here and can't be imported ({error}): "
            f"pip install 'segpref[{extra}]'"
        ) from error
