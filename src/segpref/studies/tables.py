"""The tables of a study and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from segpref.report.differences import Difference, difference
from segpref.report.runs import BASE, SELECT_BEST, Change, Entries, Measure, Run, label
from segpref.report.tables import (
    COLUMNS,
    GAP_CLOSED,
    SWEEP_COLUMNS,
    TableRow,
    judge_structure_table,
    judge_table,
    structure_table,
    table,
)
from segpref.studies.judging import Oracle, StandingRecipe
from segpref.studies.planning import in_block
from segpref.studies.recipe import Block
from segpref.studies.results import Results

__all__ = ["StudyTable", "judges_of", "study_tables"]


@dataclass(frozen=True)
class StudyTable:
    """One table of a study.

    Args:
        title: of it; empty where the study has no other.
        entries: the runs of each row.
        columns: which figures are shown.
        against: what each row is compared with: pairs of rows.
        measures: in what they are compared.
        ceilings: by row, the first base and the best that it could become, where *gap closed* is asked
            for.
        controls: rows that are random-preference controls; None where no method learns from
            preferences.
    """

    title: str
    entries: Entries
    columns: Sequence[str]
    against: Sequence[tuple[str, str]]
    measures: Sequence[Measure]
    ceilings: Mapping[str, tuple[Sequence[Run], Sequence[Run]]]
    controls: Sequence[str] | None = None

    @property
    def tried(self) -> bool:
        """Whether a method was run, or there is nothing but bases to compare."""
        rows = [runs[0].method for runs in self.entries.values()]
        return len(rows) > 1 and (not {BASE, SELECT_BEST}.issuperset(rows) or {*rows} == {BASE})

    @cached_property
    def rows(self) -> list[TableRow]:
        """Mean and spread of every figure."""
        found = table(self.entries)
        return [
            replace(
                row, figures={**row.figures, GAP_CLOSED: (self._gap_closed(row.method), np.nan)}
            )
            for row in found
        ]

    @cached_property
    def structures(self) -> Mapping[Measure, list[TableRow]]:
        """Every structure on test, by measure; nothing in the table of a sweep, which has many rows."""
        if not set(COLUMNS) <= set(self.columns):
            return {}
        return {one: structure_table(self.entries, one) for one in self.measures}

    @cached_property
    def claims(self) -> list[Difference]:
        """Every method against the base, the last first; then the study's own against the others."""
        found = [
            difference(self.entries, one, other, measure)
            for measure in self.measures
            for one, other in self.against
        ]
        return [one for one in found if one is not None]

    def _gap_closed(self, row: str) -> float:
        """(method - base) / (ceiling - base), means of test IoU over the seeds that all three have."""
        base, ceiling = self.ceilings.get(row, ((), ()))
        own = self.entries[row]
        seeds = set.intersection(*({run.seed for run in runs} for runs in (own, base, ceiling)))
        if not seeds:
            return float("nan")
        low, high, reached = (
            float(np.mean([run.iou for run in runs if run.seed in seeds]))
            for runs in (base, ceiling, own)
        )
        return (reached - low) / (high - low) if high > low else float("nan")


_BY_PAIRS = ("preference", "calibrated")


def study_tables(results: Results) -> list[StudyTable]:
    """The tables that have a row."""
    several = sum(1 for block in results.recipe.blocks for _ in _layouts(results, block)) > 1
    found = [
        _table(results, block, bases, judges, several)
        for block in results.recipe.blocks
        for bases, judges in _layouts(results, block)
    ]
    return [one for one in found if one.entries and (one.tried or not any(t.tried for t in found))]


def judges_of(results: Results) -> tuple[list[TableRow], list[tuple[str, TableRow]]]:
    """The table of judges, a row for every base and judge, and that of each on every structure."""
    audits: dict[str, list[Mapping[str, Any]]] = {}
    for (base, judge, _), audit in results.audits.items():
        standing = isinstance(results.recipe.judges[judge], StandingRecipe)
        where = " (on the masks that people saw)" if standing else ""
        audits.setdefault(f"{base} base, {judge} judge{where}", []).append(audit)
    return judge_table(audits), judge_structure_table(audits)


def _layouts(results: Results, block: Block) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Bases and judges of each table of a block."""
    recipe = results.recipe
    bases = list(recipe.bases) if block.bases is None else block.bases
    judges = list(recipe.judges) if block.judges is None else block.judges
    if block.compare == "bases":
        # Bases alone, where nothing is made of them.
        yield from ((bases, [judge]) for judge in judges) if judges else [(bases, judges)]
    elif block.compare == "judges":
        yield from (([base], judges) for base in bases)
    elif block.compare == "all":
        yield bases, judges
    else:
        yield from (([base], [judge]) for base in bases for judge in judges)


def _table(
    results: Results, block: Block, bases: Sequence[str], judges: Sequence[str], several: bool
) -> StudyTable:
    entries: dict[str, Sequence[Run]] = {}
    against_base: list[tuple[str, str]] = []
    against_rivals: list[tuple[str, str]] = []
    against_controls: list[tuple[str, str]] = []
    ours: set[str] = set()  # rows of the proposed method
    ceilings: dict[str, tuple[Sequence[Run], Sequence[Run]]] = {}
    proposed = results.recipe.proposed
    results = _of_seeds(results, block)

    def add(name: str, runs: Sequence[Run], *others: str) -> None:
        if runs:
            entries[name] = runs
            against_base.extend((name, other) for other in others if other in entries)
            # Bases that stand side by side have the first one's labels: what counts is where they end.
            ceilings[name] = results.of(BASE, bases[0]), _ceiling(results, bases[0])

    # With one base its row is just called Base, and methods need no "on".
    base_names = {base: BASE if len(bases) == 1 else f"{base} base" for base in bases}

    def suffix(base: str, judge: str) -> str:
        on = "" if len(bases) == 1 else f" on the {base_names[base]}"
        return on if len(judges) == 1 else f"{on}, {judge} judge"

    for base in bases:
        name = base_names[base]
        add(name, results.of(BASE, base), *([] if base == bases[0] else [base_names[bases[0]]]))
        for judge in judges:
            named = suffix(base, judge)
            elsewhere = len(bases) > 1 and (base, judge) != (bases[0], judges[0])
            methods = _methods(results, block, base, judge)
            for method, changes in methods:
                runs = results.of(method, base, judge, changes)
                others = [name]
                if elsewhere and method != SELECT_BEST:
                    others.append(f"{proposed}{suffix(bases[0], judges[0])}")
                if len(bases) == 1 and judge != judges[0]:
                    others.append(label(method, changes) + suffix(base, judges[0]))
                add(label(method, changes) + named, runs, *others)
            if f"{proposed}{named}" in entries:
                ours.add(f"{proposed}{named}")
                rivals = (label(*one) + named for one in methods if one != (proposed, ()))
                against_rivals.extend(
                    (f"{proposed}{named}", one) for one in rivals if one in entries
                )
            own = {label(*one) + named: entries.get(label(*one) + named, ()) for one in methods}
            chance = _controls(results, {name: runs for name, runs in own.items() if runs}) or ()
            against_controls.extend(
                (name, control)
                for control in chance
                for name, runs in own.items()
                if runs and name not in chance and _learned(results, runs)
                if (name, control) not in against_rivals
            )
    title = ", ".join(
        part
        for part in (block.title if several else "", _regime(results, block, bases, judges))
        if part
    )
    columns: tuple[str, ...] = (*SWEEP_COLUMNS, "IoU") if block.sweep else COLUMNS
    if "dice" in results.recipe.measures and "Dice" not in columns:
        columns = (*columns, "Dice")
    if "assd" in results.recipe.measures:
        columns = (*columns, "ASSD", "Missed")
    if results.recipe.ceiling is not None and not block.sweep:
        columns = (*columns, GAP_CLOSED)
    controls = _controls(results, entries)
    gains = against_base[::-1]
    gains.sort(key=lambda pair: pair[0] not in ours)
    against = [*gains, *against_rivals, *against_controls]
    # A claim is about a method, and the control tells what it is worth: so controls come last.
    against.sort(key=lambda pair: pair[0] in (controls or ()))
    return StudyTable(title, entries, columns, against, results.recipe.measures, ceilings, controls)


def _controls(results: Results, entries: Mapping[str, Sequence[Run]]) -> Sequence[str] | None:
    """Rows of random-preference controls; None where no row learns from preferences."""
    methods = results.recipe.methods
    learned = {name: methods[r[0].method] for name, r in entries.items() if _learned(results, r)}
    return [name for name, one in learned.items() if one.control] if learned else None


def _learned(results: Results, runs: Sequence[Run]) -> bool:
    """Whether a row learned from preferences."""
    method = results.recipe.methods.get(runs[0].method)
    return method is not None and method.method in _BY_PAIRS


def _of_seeds(results: Results, block: Block) -> Results:
    """Without the seeds that other blocks have more: means over other seeds can't be compared."""
    seeds = results.seeds or block.seeds or results.recipe.seeds
    return replace(results, runs=tuple(run for run in results.runs if run.seed in seeds))


def _methods(
    results: Results, block: Block, base: str, judge: str
) -> list[tuple[str, tuple[Change, ...]]]:
    tasks = in_block(results.recipe, block, results.seeds)
    own = [(t.method, t.changes) for t in tasks if (t.base, t.judge) == (base, judge)]
    return list(dict.fromkeys([(SELECT_BEST, ()), *own]))


def _ceiling(results: Results, base: str) -> Sequence[Run]:
    """Runs with the judge that knows the truth."""
    if results.recipe.ceiling is None:
        return ()
    oracles = (name for name, one in results.recipe.judges.items() if isinstance(one, Oracle))
    return [run for name in oracles for run in results.of(results.recipe.ceiling, base, name)]


def _regime(results: Results, block: Block, bases: Sequence[str], judges: Sequence[str]) -> str:
    """What to add to the title if tables would have the same one."""
    if sum(1 for _ in _layouts(results, block)) == 1 and len(results.recipe.blocks) > 1:
        return ""
    parts = []
    if len(bases) == 1 and len(results.recipe.bases) > 1:
        parts.append(f"{bases[0]} base")
    if len(judges) == 1 and len(results.recipe.judges) > 1:
        parts.append(f"{judges[0]} judge")
    return ", ".join(parts)
