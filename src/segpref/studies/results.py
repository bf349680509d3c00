"""Results of a study so far, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segpref.report.runs import BASE, SELECT_BEST, Change, Run, read_scores
from segpref.studies.planning import Task, plan
from segpref.studies.recipe import Recipe
from segpref.studies.workspace import Workspace
from segpref.training.folder import RunFolder

__all__ = ["Results", "collect"]


@dataclass(frozen=True, slots=True)
class Results:
    """All finished runs of a study.

    Args:
        recipe: the study.
        runs: what is finished.
        audits: a judge's diagnostics by (base, judge, seed).
        failed: why a task failed, by its name.
        missing: what has neither finished nor failed.
        seeds: which were asked for instead of the recipe's.
    """

    recipe: Recipe
    runs: tuple[Run, ...]
    audits: Mapping[tuple[str, str, int], Mapping[str, Any]]
    failed: Mapping[str, str]
    missing: tuple[Task, ...] = ()
    seeds: Sequence[int] | None = None

    def of(
        self, method: str, base: str, judge: str = "", changes: tuple[Change, ...] = ()
    ) -> list[Run]:
        """The runs of a method, by seed; of the base itself without a judge."""
        found = [
            run
            for run in self.runs
            if (run.method, run.base, run.judge, run.changes) == (method, base, judge, changes)
        ]
        return sorted(found, key=lambda run: run.seed)


def collect(
    workspace: Workspace,
    seeds: Sequence[int] | None = None,
    failed: Mapping[str, str] | None = None,
) -> Results:
    """Read what is finished in the study's folder."""
    tasks = plan(workspace.recipe, seeds)
    done = [task for task in tasks if task.finished(workspace.out)]
    audits = {
        (task.base, task.judge, task.seed): json.loads(
            (task.folder(workspace.out) / "audit.json").read_text()
        )
        for task in done
        if task.kind == "audit"
    }
    runs = [_read(workspace, task) for task in done if task.kind != "judge"]
    names = {task.name for task in done}
    failed = {name: why for name, why in (failed or {}).items() if name not in names}
    return Results(
        recipe=workspace.recipe,
        # A judge of certain masks selects none of other images, and may know none with a label.
        runs=tuple(run for run in runs if run.test or run.method != SELECT_BEST),
        audits={key: found for key, found in audits.items() if found is not None},
        failed=failed,
        missing=tuple(task for task in tasks if task.name not in names | failed.keys()),
        seeds=seeds,
    )


def _read(workspace: Workspace, task: Task) -> Run:
    folder = task.folder(workspace.out)
    trained = task.kind != "audit"
    names = {"base": BASE, "audit": SELECT_BEST, "run": task.method}
    return Run(
        method=names[task.kind],
        base=task.base,
        judge=task.judge,
        seed=task.seed,
        changes=task.changes,
        folder=folder if trained else None,
        summary=RunFolder(folder).read_summary() if trained else {},
        test=read_scores(folder / ("test.csv" if trained else "select-best.csv")),
        test_last=read_scores(folder / "test-last.csv") if task.kind == "run" else [],
    )
