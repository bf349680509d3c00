"""The one error that a user can fix."""

from __future__ import annotations

__all__ = ["SegprefError"]


class SegprefError(Exception):
    """Something that the user can fix: one sentence that names the file and the fix."""
