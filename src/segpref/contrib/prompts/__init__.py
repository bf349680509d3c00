"""Models behind prompts that were never run here: see :mod:`segpref.contrib`."""

from __future__ import annotations

from segpref.contrib.prompts.open_clip import OpenClip

__all__ = ["OpenClip"]
