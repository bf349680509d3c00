"""The study of promptable models: prompts that nobody draws, aligned by ratings and rankings."""

from __future__ import annotations

from segpref.studies.prompted.perform import parts
from segpref.studies.prompted.recipe import PromptedRecipe, load_prompted
from segpref.studies.prompted.runner import open_prompted, run_prompted

__all__ = ["PromptedRecipe", "load_prompted", "open_prompted", "parts", "run_prompted"]
