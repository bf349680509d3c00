"""The study of promptable models: automatic prompts, aligned by ratings and rankings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.studies.prompted.earlier import recipe_settings, run_settings
    from segpref.studies.prompted.jobs import prompted_jobs
    from segpref.studies.prompted.recipe import (
        Align,
        Clip,
        PromptedRecipe,
        Stage1,
        StandIn,
        UNet,
        load_prompted,
    )
    from segpref.studies.prompted.report import PROMPTED_FILES
    from segpref.studies.prompted.results import Scores, gain
    from segpref.studies.prompted.run import open_prompted, run_prompted
    from segpref.studies.prompted.stand_in import OneStructure, other_data
    from segpref.studies.prompted.workspace import PromptedWorkspace
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "earlier": ("recipe_settings", "run_settings"),
            "jobs": ("prompted_jobs",),
            "recipe": (
                "Align",
                "Clip",
                "PromptedRecipe",
                "Stage1",
                "StandIn",
                "UNet",
                "load_prompted",
            ),
            "report": ("PROMPTED_FILES",),
            "results": ("Scores", "gain"),
            "run": ("open_prompted", "run_prompted"),
            "stand_in": ("OneStructure", "other_data"),
            "workspace": ("PromptedWorkspace",),
        },
    )

__all__ = [
    "PROMPTED_FILES",
    "Align",
    "Clip",
    "OneStructure",
    "PromptedRecipe",
    "PromptedWorkspace",
    "Scores",
    "Stage1",
    "StandIn",
    "UNet",
    "gain",
    "load_prompted",
    "open_prompted",
    "other_data",
    "prompted_jobs",
    "recipe_settings",
    "run_prompted",
    "run_settings",
]
