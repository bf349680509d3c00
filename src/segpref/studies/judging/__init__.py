"""Judges of a recipe: what each needs trained, and how it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.studies.judging.combined import Noisy, Together
    from segpref.studies.judging.inputs import (
        JudgeInputs,
        JudgeRecipe,
        LabelledRecipe,
        StandingRecipe,
        labelled_recipes,
    )
    from segpref.studies.judging.labels import Masks, Oracle
    from segpref.studies.judging.networks import Ensemble, ModelBased, Regressor
    from segpref.studies.judging.votes import Votes
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "combined": ("Noisy", "Together"),
            "inputs": (
                "JudgeInputs",
                "JudgeRecipe",
                "LabelledRecipe",
                "StandingRecipe",
                "labelled_recipes",
            ),
            "labels": ("Masks", "Oracle"),
            "networks": ("Ensemble", "ModelBased", "Regressor"),
            "votes": ("Votes",),
        },
    )

__all__ = [
    "Ensemble",
    "JudgeInputs",
    "JudgeRecipe",
    "LabelledRecipe",
    "Masks",
    "ModelBased",
    "Noisy",
    "Oracle",
    "Regressor",
    "StandingRecipe",
    "Together",
    "Votes",
    "labelled_recipes",
]
