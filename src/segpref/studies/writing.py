"""Writes tables, figures and the page of a study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segpref.data.cache import write_atomically
from segpref.policies import load_model
from segpref.proposals import SlateProposals
from segpref.report.gallery import overlays, typical
from segpref.report.page import Picture, Section, write_page, write_pictures
from segpref.report.pictures import overlay_pictures, picture_grid
from segpref.report.runs import BASE, LOW_IS_GOOD, MEASURE_NAMES, SELECT_BEST, Entries, Run
from segpref.report.study_page import Part, study_report
from segpref.report.study_structures import judge_sections
from segpref.report.table_files import TABLE_FILES, TitledTable, write_tables
from segpref.report.tables import round_table
from segpref.studies.examples import variance_rows
from segpref.studies.planning import Task
from segpref.studies.recorded_settings import plain
from segpref.studies.results import Results
from segpref.studies.run_files import RUN_FILES, write_run_files
from segpref.studies.tables import StudyTable, judges_of, study_tables
from segpref.studies.workspace import Workspace
from segpref.training.folder import RunFolder
from segpref.types import Predictor

__all__ = ["STUDY_FILES", "write_study"]

STUDY_FILES = (
    *("recipe.yaml", "data.json", "models.json", "split.json"),
    *TABLE_FILES,
    *RUN_FILES,
    "report.html",
)
"""Every file that a study writes into its folder, beside those of its jobs."""


def write_study(workspace: Workspace, results: Results, pictures: int = 4) -> Path:
    """Write tables, figures and ``report.html`` into its folder, and every run as CSV.

    Args:
        workspace: the study.
        results: what it found.
        pictures: how many test images are shown with outlines.

    Returns:
        Path of the page.
    """
    tables = study_tables(results)
    # Of the seed whose models are shown.
    first = min(run.seed for runs in tables[0].entries.values() for run in runs)
    write_tables(workspace.out, _listed(results, tables))
    write_run_files(workspace.out, results.runs, results.recipe.measures)
    shown = overlays(typical(workspace.test(first), pictures), _models(tables[0].entries))
    ways = {
        base: (variance_rows(folder, typical(workspace.test(first), 2), several), [*several])
        for base, (folder, several) in _ways(workspace, results, first).items()
    }
    page = study_report(
        [_part(workspace, one) for one in tables],
        title=f"segpref: {results.recipe.name}",
        lead=results.recipe.description,
        overlays=shown,
        sections=[
            *judge_sections(*judges_of(results)),
            *(_variance_section(*one) for one in ways.items()),
        ],
        warnings=[f"{name} failed: {why}" for name, why in results.failed.items()],
        details={"Recipe": (workspace.out / "recipe.yaml").read_text()},
    )
    write_pictures(workspace.out / "figures", page)
    if shown:
        grid = picture_grid(overlay_pictures(shown), [*shown[0].masks])
        write_atomically(workspace.out / "figures" / "outlines.png", grid)
    for base, (tiles, columns) in ways.items():
        name = Task(first, "base", base).folder(workspace.out).name
        grid = picture_grid(tiles, columns)
        write_atomically(workspace.out / "figures" / f"variance-{name}.png", grid)
    return write_page(workspace.out / "report.html", page)


def _ways(
    workspace: Workspace, results: Results, seed: int
) -> dict[str, tuple[Path, dict[str, SlateProposals]]]:
    """Folder of each base whose methods make candidates in several ways, by the first of each."""
    found: dict[str, dict[str, tuple[str, SlateProposals]]] = {}
    for run in results.runs:
        method = results.recipe.methods.get(run.method)
        if run.seed != seed or method is None or method.method == "supervised" or method.feedback:
            continue
        families: Any = method.families
        slates = workspace.proposals or SlateProposals(method.candidates, families)
        key = json.dumps(plain(families))
        found.setdefault(run.base, {}).setdefault(key, (run.method, slates))
    return {
        base: (workspace.base_folder(seed, base), dict(ways.values()))
        for base, ways in found.items()
        if len(ways) > 1
    }


def _variance_section(base: str, shown: tuple[Sequence[Picture], Sequence[str]]) -> Section:
    pictures, columns = shown
    return Section(
        f"Where the candidates of {base} differ",
        "By the first method that makes them so: dark is where all agree, white where half of them say "
        "otherwise.",
        pictures=tuple(pictures),
        layout="rows",
        columns=len(columns),
    )


def _part(workspace: Workspace, one: StudyTable) -> Part:
    return Part(
        title=one.title,
        rows=one.rows,
        histories={name: _histories(runs) for name, runs in _trained(one.entries).items()},
        differences=one.claims,
        columns=one.columns,
        reports={
            f"{name}, seed {run.seed}": str((run.folder / "report.html").relative_to(workspace.out))
            for name, runs in _trained(one.entries).items()
            for run in runs
            if run.folder is not None
        },
        structures=one.structures,
        controls=one.controls,
    )


def _trained(entries: Entries) -> Mapping[str, Sequence[Run]]:
    return {name: runs for name, runs in entries.items() if name not in (BASE, SELECT_BEST)}


def _histories(runs: Sequence[Run]) -> list[list[dict[str, float]]]:
    return [RunFolder(run.folder).read_metrics() for run in runs if run.folder is not None]


def _models(entries: Entries) -> dict[str, Predictor]:
    first = {name: runs[0].folder for name, runs in entries.items()}
    return {name: load_model(folder)[0] for name, folder in first.items() if folder is not None}


def _listed(results: Results, tables: Sequence[StudyTable]) -> list[TitledTable]:
    """Every table with its title, columns and claims, the judges' last."""
    listed = []
    for one in tables:
        title = one.title or "Methods"
        listed.append(TitledTable(title, one.rows, one.columns, one.claims))
        for measure, rows in one.structures.items():
            if measure in LOW_IS_GOOD:
                continue  # in bold would be the highest; the page has it
            name = f"{title}, test {MEASURE_NAMES[measure]} of every structure"
            listed.append(TitledTable(name, rows))
        refresh, methods = results.recipe.align.refresh, results.recipe.methods
        if refresh is not None:
            histories = {
                name: _histories(runs)
                for name, runs in _trained(one.entries).items()
                if methods[runs[0].method].refresh == refresh
            }
            if shares := round_table(histories, refresh):
                listed.append(TitledTable(f"{title}, share of images with a pair", shares))
    judges, structures = judges_of(results)
    if judges:
        listed.append(TitledTable("Judges on validation", judges))
    for name in dict.fromkeys(name for name, _ in structures):
        rows = [row for other, row in structures if other == name]
        listed.append(TitledTable(f"Judges on validation, {name}", rows))
    return listed
