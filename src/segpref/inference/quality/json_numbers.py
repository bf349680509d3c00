"""Numbers that may be unknown, in JSON, which has no NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["with_nan", "without_nan"]


def without_nan(content: Any) -> Any:
    """The same with None for NaN, which JSON does not have."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    missing = isinstance(content, float) and not math.isfinite(content)
    return None if missing else content


def with_nan(content: Any) -> Any:
    """The reverse of :func:`without_nan`."""
    if isinstance(content, Mapping):
        return {key: with_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [with_nan(value) for value in content]
    return math.nan if content is None else content
