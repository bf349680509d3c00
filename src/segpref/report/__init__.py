"""Tables, charts and pages of runs, audits and studies, from recorded figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.report.charts import (
        column,
        lines_chart,
        relative_to_start,
        validation_chart,
        volume_ratios,
    )
    from segpref.report.collect_data import CollectFigures, collect_figures
    from segpref.report.collect_files import collect_json, raters_csv, strengths_csv
    from segpref.report.collect_more import (
        Precision,
        more_votes,
        precision_of_models,
        precision_of_raters,
    )
    from segpref.report.collect_page import votes_page
    from segpref.report.comparison import (
        Comparison,
        bootstrap_interval,
        compared,
        gains_by_patient,
    )
    from segpref.report.differences import Difference, difference
    from segpref.report.formats import as_csv, latex, markdown, rich_table
    from segpref.report.gallery import typical
    from segpref.report.page import (
        GLOSSARY,
        Cell,
        Details,
        Key,
        Page,
        Picture,
        Section,
        Table,
        write_page,
        write_pictures,
    )
    from segpref.report.pictures import (
        Overlay,
        SlatePicture,
        overlay_pictures,
        picture_grid,
        slate_tiles,
        variance_pictures,
    )
    from segpref.report.run_report import write_report
    from segpref.report.runs import BASE, SELECT_BEST, Entries, Run
    from segpref.report.study_page import Part, study_report
    from segpref.report.study_structures import judge_sections
    from segpref.report.subgroups import by_subgroup, read_groups
    from segpref.report.tables import (
        COLUMNS,
        GAP_CLOSED,
        JUDGE_COLUMNS,
        SWEEP_COLUMNS,
        TableRow,
        judge_structure_table,
        judge_table,
        mean_and_spread,
        round_table,
        structure_table,
        table,
    )
    from segpref.report.verdicts import Control, alignment_warnings, doubt, verdict
    from segpref.report.views import plane_of, view_of
    from segpref.report.volume_scores import VolumeScore, worst_volumes
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "verdicts": (
                "Control",
                "alignment_warnings",
                "doubt",
                "verdict",
            ),
            "charts": (
                "column",
                "lines_chart",
                "relative_to_start",
                "validation_chart",
                "volume_ratios",
            ),
            "collect_data": ("CollectFigures", "collect_figures"),
            "collect_files": ("collect_json", "raters_csv", "strengths_csv"),
            "collect_more": (
                "Precision",
                "more_votes",
                "precision_of_models",
                "precision_of_raters",
            ),
            "collect_page": ("votes_page",),
            "comparison": ("Comparison", "bootstrap_interval", "compared", "gains_by_patient"),
            "differences": ("Difference", "difference"),
            "formats": ("as_csv", "latex", "markdown", "rich_table"),
            "gallery": ("typical",),
            "page": (
                "Cell",
                "Details",
                "GLOSSARY",
                "Key",
                "Page",
                "Picture",
                "Section",
                "Table",
                "write_page",
                "write_pictures",
            ),
            "pictures": (
                "Overlay",
                "SlatePicture",
                "overlay_pictures",
                "picture_grid",
                "slate_tiles",
                "variance_pictures",
            ),
            "run_report": ("write_report",),
            "runs": ("BASE", "Entries", "Run", "SELECT_BEST"),
            "study_page": ("Part", "study_report"),
            "study_structures": ("judge_sections",),
            "subgroups": ("by_subgroup", "read_groups"),
            "tables": (
                "COLUMNS",
                "GAP_CLOSED",
                "JUDGE_COLUMNS",
                "SWEEP_COLUMNS",
                "TableRow",
                "judge_structure_table",
                "judge_table",
                "mean_and_spread",
                "round_table",
                "structure_table",
                "table",
            ),
            "views": ("plane_of", "view_of"),
            "volume_scores": ("VolumeScore", "worst_volumes"),
        },
    )

__all__ = [
    "BASE",
    "COLUMNS",
    "GAP_CLOSED",
    "GLOSSARY",
    "JUDGE_COLUMNS",
    "SELECT_BEST",
    "SWEEP_COLUMNS",
    "Cell",
    "CollectFigures",
    "Comparison",
    "Control",
    "Details",
    "Difference",
    "Entries",
    "Key",
    "Overlay",
    "Page",
    "Part",
    "Picture",
    "Precision",
    "Run",
    "Section",
    "SlatePicture",
    "Table",
    "TableRow",
    "VolumeScore",
    "alignment_warnings",
    "as_csv",
    "bootstrap_interval",
    "by_subgroup",
    "collect_figures",
    "collect_json",
    "column",
    "compared",
    "difference",
    "doubt",
    "gains_by_patient",
    "judge_sections",
    "judge_structure_table",
    "judge_table",
    "latex",
    "lines_chart",
    "markdown",
    "mean_and_spread",
    "more_votes",
    "overlay_pictures",
    "picture_grid",
    "plane_of",
    "precision_of_models",
    "precision_of_raters",
    "raters_csv",
    "read_groups",
    "relative_to_start",
    "rich_table",
    "round_table",
    "slate_tiles",
    "strengths_csv",
    "structure_table",
    "study_report",
    "table",
    "typical",
    "validation_chart",
    "variance_pictures",
    "verdict",
    "view_of",
    "volume_ratios",
    "votes_page",
    "worst_volumes",
    "write_page",
    "write_pictures",
    "write_report",
]
