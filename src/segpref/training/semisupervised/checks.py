"""Checks of settings when a method is made, not in its first step."""

from __future__ import annotations

from typing import Any

from segpref.types import SegprefError

__all__ = ["share", "strength"]


def strength(method: Any, *names: str) -> None:
    """Raise unless these settings are at least 0."""
    for name in names:
        if not getattr(method, name) >= 0:
            raise SegprefError(
                f"{name} of {type(method).__name__} must not be negative, but is "
                f"{getattr(method, name)}"
            )


def share(method: Any, *names: str) -> None:
    """Raise unless these settings lie between 0 and 1."""
    for name in names:
        if not 0 <= getattr(method, name) <= 1:
            raise SegprefError(
                f"{name} of {type(method).__name__} must lie between 0 and 1, but is "
                f"{getattr(method, name)}"
            )
