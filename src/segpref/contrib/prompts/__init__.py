"""Prompt models that were never run in our own experiments: see :mod:`segpref.contrib`."""

from __future__ import annotations

from segpref.contrib.prompts.open_clip import OpenClip

__all__ = ["OpenClip"]
