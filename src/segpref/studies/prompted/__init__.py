"""The study of promptable models: automatic prompts, aligned by ratings and rankings."""

from __future__ import annotations

from segpref.studies.prompted.jobs import prompted_jobs
from segpref.studies.prompted.recipe import PromptedRecipe, load_prompted
from segpref.studies.prompted.run import open_prompted, run_prompted

__all__ = ["PromptedRecipe", "load_prompted", "open_prompted", "prompted_jobs", "run_prompted"]
