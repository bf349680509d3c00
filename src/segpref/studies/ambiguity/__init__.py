"""A study of diffusion models of ambiguous segmentations (TDG-DiffDPO, Sec. 5 and Appendix A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.studies.ambiguity.findings import Findings
    from segpref.studies.ambiguity.jobs import ambiguity_jobs
    from segpref.studies.ambiguity.peers import Peer
    from segpref.studies.ambiguity.recipe import (
        Alignment,
        FitStage,
        alignment_settings,
        load_ambiguity_recipe,
    )
    from segpref.studies.ambiguity.report import AMBIGUITY_FILES
    from segpref.studies.ambiguity.sample_files import SampleSet
    from segpref.studies.ambiguity.scores import (
        SAME_SIZE,
        gain,
        ged_at,
        irregularity,
        mean_over_images,
        pairs_of_a_size,
        trade,
    )
    from segpref.studies.ambiguity.sections import price
    from segpref.studies.ambiguity.workspace import AmbiguityWorkspace
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "findings": ("Findings",),
            "jobs": ("ambiguity_jobs",),
            "peers": ("Peer",),
            "report": ("AMBIGUITY_FILES",),
            "recipe": ("Alignment", "FitStage", "alignment_settings", "load_ambiguity_recipe"),
            "sample_files": ("SampleSet",),
            "scores": (
                "SAME_SIZE",
                "gain",
                "ged_at",
                "irregularity",
                "mean_over_images",
                "pairs_of_a_size",
                "trade",
            ),
            "sections": ("price",),
            "workspace": ("AmbiguityWorkspace",),
        },
    )

__all__ = [
    "AMBIGUITY_FILES",
    "SAME_SIZE",
    "Alignment",
    "AmbiguityWorkspace",
    "Findings",
    "FitStage",
    "Peer",
    "SampleSet",
    "alignment_settings",
    "ambiguity_jobs",
    "gain",
    "ged_at",
    "irregularity",
    "load_ambiguity_recipe",
    "mean_over_images",
    "pairs_of_a_size",
    "price",
    "trade",
]
