"""What a command does in one call, for Python and for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face
from segpref.workflows.align import align
from segpref.workflows.audit import audit
from segpref.workflows.evaluate import evaluate
from segpref.workflows.fit import fit
from segpref.workflows.predict import predict

if TYPE_CHECKING:
    from segpref.workflows.align import Alignment
    from segpref.workflows.collect import NewStudy, init_study
    from segpref.workflows.collect_exchange import export_votes, import_votes
    from segpref.workflows.collect_report import CollectReport, report_study
    from segpref.workflows.collect_store import (
        ErasedPatient,
        StudyRaters,
        backup_votes,
        change_raters,
        erase_patient,
        restore_votes,
    )
    from segpref.workflows.evaluate import Evaluation
    from segpref.workflows.fit import Fit
    from segpref.workflows.loading import open_judge, open_split
    from segpref.workflows.runs import text_of
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "align": ("Alignment",),
            "collect": ("NewStudy", "init_study"),
            "collect_exchange": ("export_votes", "import_votes"),
            "collect_report": ("CollectReport", "report_study"),
            "collect_store": (
                "ErasedPatient",
                "StudyRaters",
                "backup_votes",
                "change_raters",
                "erase_patient",
                "restore_votes",
            ),
            "evaluate": ("Evaluation",),
            "fit": ("Fit",),
            "loading": ("open_judge", "open_split"),
            "runs": ("text_of",),
        },
    )

__all__ = [
    "Alignment",
    "CollectReport",
    "ErasedPatient",
    "Evaluation",
    "Fit",
    "NewStudy",
    "StudyRaters",
    "align",
    "audit",
    "backup_votes",
    "change_raters",
    "erase_patient",
    "evaluate",
    "export_votes",
    "fit",
    "import_votes",
    "init_study",
    "open_judge",
    "open_split",
    "predict",
    "report_study",
    "restore_votes",
    "text_of",
]
