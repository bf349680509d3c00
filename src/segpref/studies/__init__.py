"""Audits, studies by recipe, and their tables, figures and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.studies.audit_report import (
        audit_page,
        audit_verdict,
        labels_advice,
        own_masks_verdict,
    )
    from segpref.studies.auditing import audit, audit_of
    from segpref.studies.calibration import measured_flip_rates, read_flip_rates
    from segpref.studies.earlier import run_settings, whole_methods
    from segpref.studies.examples import alignment_report
    from segpref.studies.planning import Task, check_names, plan
    from segpref.studies.recipe import (
        Block,
        Recipe,
        default_network,
        load_recipe,
        recipe_file,
        recipe_names,
    )
    from segpref.studies.recorded_settings import (
        as_recorded,
        changed_settings,
        plain,
        same_settings,
    )
    from segpref.studies.results import Results, collect
    from segpref.studies.running import run_study, study_jobs
    from segpref.studies.slates import patch_draw, patch_slates, scored_slates, select_best
    from segpref.studies.stages import Stage1
    from segpref.studies.tables import judges_of, study_tables
    from segpref.studies.tasks import run_task
    from segpref.studies.verdict import control_beside
    from segpref.studies.workspace import Workspace
    from segpref.studies.writing import STUDY_FILES, write_study
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "writing": ("STUDY_FILES", "write_study"),
            "tasks": ("run_task",),
            "running": (
                "run_study",
                "study_jobs",
            ),
            "tables": (
                "judges_of",
                "study_tables",
            ),
            "planning": (
                "Task",
                "check_names",
                "plan",
            ),
            "audit_report": ("audit_page", "audit_verdict", "labels_advice", "own_masks_verdict"),
            "auditing": ("audit", "audit_of"),
            "calibration": ("measured_flip_rates", "read_flip_rates"),
            "earlier": ("run_settings", "whole_methods"),
            "examples": ("alignment_report",),
            "recipe": (
                "Block",
                "Recipe",
                "default_network",
                "load_recipe",
                "recipe_file",
                "recipe_names",
            ),
            "recorded_settings": ("as_recorded", "changed_settings", "plain", "same_settings"),
            "results": ("Results", "collect"),
            "slates": ("patch_draw", "patch_slates", "scored_slates", "select_best"),
            "stages": ("Stage1",),
            "verdict": ("control_beside",),
            "workspace": ("Workspace",),
        },
    )

__all__ = [
    "STUDY_FILES",
    "Block",
    "Recipe",
    "Results",
    "Stage1",
    "Task",
    "Workspace",
    "alignment_report",
    "as_recorded",
    "audit",
    "audit_of",
    "audit_page",
    "audit_verdict",
    "changed_settings",
    "check_names",
    "collect",
    "control_beside",
    "default_network",
    "judges_of",
    "labels_advice",
    "load_recipe",
    "measured_flip_rates",
    "own_masks_verdict",
    "patch_draw",
    "patch_slates",
    "plain",
    "plan",
    "read_flip_rates",
    "recipe_file",
    "recipe_names",
    "run_settings",
    "run_study",
    "run_task",
    "same_settings",
    "scored_slates",
    "select_best",
    "study_jobs",
    "study_tables",
    "whole_methods",
    "write_study",
]
