"""Prompt models that were never run in our own experiments: see :mod:`segpref.contrib`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.contrib.prompts.open_clip import OpenClip
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "open_clip": ("OpenClip",),
        },
    )

__all__ = [
    "OpenClip",
]
