"""Tables, figures and the page of a study, written from what its folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from segpref.data.cache import write_atomically
from segpref.policies import Segmenter, load_model
from segpref.studies.gallery import overlays, typical
from segpref.studies.lab import Lab
from segpref.studies.recipe import Block
from segpref.studies.results import BASE, SELECT_BEST, Results, Run
from segpref.studies.study_report import Part, write_study_report
from segpref.studies.tables import (
    COLUMNS,
    SWEEP_COLUMNS,
    Difference,
    Entries,
    TableRow,
    as_csv,
    difference,
    judge_table,
    latex,
    markdown,
    structure_table,
    table,
)
from segpref.training.folder import RunFolder

__all__ = ["StudyTable", "judges_of", "study_tables", "write_study"]

Listed: TypeAlias = tuple[str, Sequence[TableRow], Sequence[str] | None, Sequence[Difference]]


class StudyTable:
    """One table: a block of the grid for one base and one judge.

    Args:
        results: of the study.
        block: the part of the grid.
        base: name of the base.
        judge: name of the judge.
    """

    def __init__(self, results: Results, block: Block, base: str, judge: str) -> None:
        self.entries: Entries = results.entries(base, judge, block)
        several = len(results.recipe.blocks) > 1
        regime = f"{base} base, {judge} judge"
        alone = len(results.regimes()) == 1
        self.title = ", ".join(
            part for part in (block.title if several else "", "" if alone else regime) if part
        )
        self.columns = (*SWEEP_COLUMNS, "IoU") if block.sweep else COLUMNS
        self.rows = table(self.entries)
        self.structures = structure_table(self.entries)

    def claims(self) -> list[Difference]:
        """Every method against the base, the last of the table first."""
        if BASE not in self.entries:
            return []
        names = [name for name in reversed(list(self.entries)) if name != BASE]
        found = [difference(self.entries, name, BASE) for name in names]
        return [one for one in found if one is not None]


def study_tables(results: Results) -> list[StudyTable]:
    """The tables that have a row."""
    found = [
        StudyTable(results, block, base, judge)
        for block in results.recipe.blocks
        for base, judge in results.regimes(block)
    ]
    return [one for one in found if one.entries]


def write_study(lab: Lab, results: Results, pictures: int = 4) -> Path:
    """Write ``tables.md``, ``tables.csv``, ``tables.tex`` and ``report.html`` into the study's folder.

    Args:
        lab: the study.
        results: what it found.
        pictures: how many test images are shown with outlines.

    Returns:
        Path of the page.
    """
    tables = study_tables(results)
    listed = _listed(results, tables)
    for suffix, render, remark in (("md", markdown, "## {}\n"), ("tex", latex, "% {}")):
        parts = []
        for title, rows, columns, claims in listed:
            parts.append("\n".join([remark.format(title), render(rows, columns)]))
            if claims and suffix == "md":
                parts.append(_claims(claims))
        write_atomically(lab.out / f"tables.{suffix}", ("\n\n".join(parts) + "\n").encode())
    figures = as_csv({title: rows for title, rows, _, _ in listed})
    write_atomically(lab.out / "tables.csv", figures.encode())
    return write_study_report(
        lab.out / "report.html",
        [_part(lab, one) for one in tables],
        title=f"segpref: {results.recipe.name}",
        lead=results.recipe.description,
        overlays=overlays(typical(lab.test, pictures), _models(tables[0].entries)),
        warnings=[f"{task.name} failed: {why}" for task, why in results.failed.items()],
        details={"Recipe": (lab.out / "recipe.yaml").read_text()},
    )


def _part(lab: Lab, one: StudyTable) -> Part:
    return Part(
        title=one.title,
        rows=one.rows,
        histories={name: _histories(runs) for name, runs in _trained(one.entries).items()},
        differences=one.claims(),
        columns=one.columns,
        reports={
            f"{name}, seed {run.seed}": str((run.folder / "report.html").relative_to(lab.out))
            for name, runs in _trained(one.entries).items()
            for run in runs
            if run.folder is not None
        },
    )


def _trained(entries: Entries) -> Mapping[str, Sequence[Run]]:
    return {name: runs for name, runs in entries.items() if name not in (BASE, SELECT_BEST)}


def _histories(runs: Sequence[Run]) -> list[list[dict[str, float]]]:
    return [RunFolder(run.folder).read_metrics() for run in runs if run.folder is not None]


def _models(entries: Entries) -> dict[str, Segmenter]:
    first = {name: runs[0].folder for name, runs in entries.items()}
    return {name: load_model(folder)[0] for name, folder in first.items() if folder is not None}


def _listed(results: Results, tables: Sequence[StudyTable]) -> list[Listed]:
    """Every table with its title, columns and claims, the judges' last."""
    listed: list[Listed] = []
    for one in tables:
        title = one.title or "Methods"
        listed.append((title, one.rows, one.columns, one.claims()))
        if one.columns == COLUMNS:
            listed.append((f"{title}, test IoU of every structure", one.structures, None, []))
    if judges := judges_of(results):
        listed.append(("Judges on validation", judges, None, []))
    return listed


def judges_of(results: Results) -> list[TableRow]:
    """The table of judges, a row for every base and judge."""
    audits: dict[str, list[Mapping[str, Any]]] = {}
    for (base, judge, _), audit in results.audits.items():
        audits.setdefault(f"{base} base, {judge} judge", []).append(audit)
    return judge_table(audits)


def _claims(claims: Sequence[Difference]) -> str:
    names = ("Claim (test IoU)", "difference", "95 % interval", "seeds above", "better?")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += [
        f"| {one.method} against {one.other} | {one.mean:+.3f} | {one.low:+.3f} to {one.high:+.3f} | "
        f"{one.seeds_above} of {one.seeds} | {'yes' if one.better else 'not shown'} |"
        for one in claims
    ]
    return "\n".join(lines)
