"""The tasks of a study: what is trained and scored, their folders and dependencies."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from segpref.data.names import check_folder_name
from segpref.objectives import DPO
from segpref.preferences import TopVsRandom
from segpref.report.runs import Change
from segpref.studies.judging import LabelledRecipe, StandingRecipe
from segpref.studies.recipe import Block, Recipe
from segpref.training.config import AlignConfig
from segpref.types import SegprefError

__all__ = ["Task", "check_names", "in_block", "judge_task", "needs_flips", "plan"]

_OUTPUTS = {
    "base": ("summary.json", "test.csv"),
    "judge": ("judge.json",),
    "audit": ("audit.json", "select-best.csv"),
    "run": ("summary.json", "test.csv", "test-last.csv"),
}
_DEFAULTS = {"objective": DPO(), "miner": TopVsRandom()}
"""Whose settings are swept where a method names none."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do, with a folder of its own.

    Args:
        seed: of everything that it draws.
        kind: ``base`` and ``judge`` train networks, ``audit`` measures a judge on a base's slates and
            scores Select-best, ``run`` is one method of stage 2.
        base: name of the base; empty for a judge that all bases share.
        judge: name of the judge; empty for a base.
        method: name of the method of a run.
        changes: settings that differ from the recipe's.
    """

    seed: int
    kind: Literal["base", "judge", "audit", "run"]
    base: str = ""
    judge: str = ""
    method: str = ""
    changes: tuple[Change, ...] = ()

    @property
    def name(self) -> str:
        """Its folder inside the study's."""
        parts = [f"seed-{self.seed}", f"{self.kind}s"]
        parts += [_slug(name) for name in (self.base, self.judge, self.method) if name]
        if self.changes:
            parts[-1] += "".join(f",{key}={_short(value)}" for key, value in self.changes)
        return "/".join(parts)

    def folder(self, out: Path) -> Path:
        """Where its files are."""
        return out / self.name

    def outputs(self, out: Path) -> tuple[Path, ...]:
        """Files that are there when it is finished."""
        return tuple(self.folder(out) / name for name in _OUTPUTS[self.kind])

    def finished(self, out: Path) -> bool:
        """Whether all that it leaves behind is there."""
        return all(path.exists() for path in self.outputs(out))

    def needs(self, recipe: Recipe) -> tuple[Task, ...]:
        """What must be finished before."""
        base = Task(self.seed, "base", self.base)
        if self.kind == "base":
            start = recipe.bases[self.base].start
            return () if start is None else (Task(self.seed, "base", start),)
        if self.kind == "judge":
            return (base,) if self.base else ()
        judge = judge_task(recipe, self.seed, self.base, self.judge)
        if self.kind == "run" and needs_flips(recipe, self.judge, self.method):
            return base, judge, Task(self.seed, "audit", self.base, self.judge)
        return base, judge

    def without_idle_changes(self, recipe: Recipe) -> Task:
        """The same run; a sweep over a value that the recipe has anyway is no other run.

        Raises:
            SegprefError: a change names a setting that nothing has.
        """
        told = tuple(change for change in self.changes if not _idle(self, recipe, change))
        return replace(self, changes=told)

    def config(self, recipe: Recipe) -> AlignConfig:
        """Stage 2 of a run, with the changes made, and without its seed."""
        found = recipe.methods[self.method]
        for key, value in self.changes:
            owner, _, name = key.removeprefix("align.").rpartition(".")
            if owner:
                inner = getattr(found, owner, None) or _DEFAULTS.get(owner)
                name, value = owner, _changed(inner, name, value, key)
            found = _changed(found, name, value, key)
        return found


def _idle(run: Task, recipe: Recipe, change: Change) -> bool:
    """Whether a change leaves everything as the recipe has it."""
    changed, plain = replace(run, changes=(change,)), replace(run, changes=())
    return changed.config(recipe) == plain.config(recipe)


def needs_flips(recipe: Recipe, judge: str, method: str) -> bool:
    """Whether a run waits for flip rates of the judge's audit; raters' come with their votes."""
    standing = isinstance(recipe.judges[judge], StandingRecipe)
    return recipe.methods[method].needs_flips and not standing


def judge_task(recipe: Recipe, seed: int, base: str, judge: str) -> Task:
    """The training of a judge, which bases share unless it is made from the base."""
    return Task(seed, "judge", base if recipe.judges[judge].of_base else "", judge)


def plan(
    recipe: Recipe, seeds: Sequence[int] | None = None, only: Sequence[str] = ()
) -> list[Task]:
    """All tasks of a recipe, each once, every one after those that it needs.

    Args:
        recipe: the study.
        seeds: instead of those of the recipe and its blocks.
        only: words; just the parts of the grid with one of them in their title. All where empty.

    Raises:
        SegprefError: the grid names what the recipe does not have, or a setting that nothing has; no
            part has such a title.
    """
    check_names(recipe)
    blocks = [block for block in recipe.blocks if not only or _titled(block, only)]
    if not blocks:
        titles = "; ".join(block.title for block in recipe.blocks)
        raise SegprefError(
            f"no part of the recipe has {' or '.join(only)} in its title; the titles are: {titles}"
        )
    wanted = [task for block in blocks for tasks in _tasks(recipe, block, seeds) for task in tasks]
    order = {"base": 0, "judge": 1, "audit": 2, "run": 3}
    # A seed is finished before the next begins: the first results are there early.
    return sorted(dict.fromkeys(wanted), key=lambda task: (task.seed, order[task.kind]))


def in_block(recipe: Recipe, block: Block, seeds: Sequence[int] | None = None) -> list[Task]:
    """The stage-2 runs of a block."""
    return [
        task
        for tasks in _tasks(recipe, block, seeds)
        for task in tasks
        if task.kind == "run"
    ]  # fmt: skip


def _titled(block: Block, words: Sequence[str]) -> bool:
    return any(word.lower() in block.title.lower() for word in words)


def check_names(recipe: Recipe) -> None:
    """Refuse a grid with unknown names, and names that would share a folder."""
    for name, stage in recipe.bases.items():
        if stage.start is not None and stage.start not in recipe.bases:
            raise SegprefError(
                f"the base {name} starts from {stage.start!r}, but the recipe has only "
                f"{', '.join(recipe.bases)}: correct the name"
            )
        if stage.labels_of is not None:
            _check_labels_of(recipe, name, stage.labels_of)
    asking = [
        name
        for name in recipe.methods
        if any(needs_flips(recipe, judge, name) for judge in recipe.judges)
    ]
    if asking and not recipe.audits:
        raise SegprefError(
            f"{' and '.join(asking)} needs the audit's flip rates, but the recipe has `audits` false: "
            "leave that out"
        )
    for what in ("ceiling", "proposed"):
        name = getattr(recipe, what)
        if name is not None and name not in recipe.methods:
            raise SegprefError(
                f"the recipe's `{what}` is {name!r}, but its methods are only "
                f"{', '.join(recipe.methods)}: correct the name"
            )
    for what, named in (
        ("bases", recipe.bases),
        ("judges", recipe.judges),
        ("methods", recipe.methods),
    ):
        slugs: dict[str, str] = {}
        for name in named:
            check_folder_name(_slug(name), f"{name!r} among the recipe's {what}")
            if other := slugs.get(_slug(name)):
                raise SegprefError(
                    f"the {what} {other} and {name} would share a folder: rename one in the recipe"
                )
            slugs[_slug(name)] = name
        for block in recipe.blocks:
            for name in getattr(block, what) or ():
                if name not in named:
                    raise SegprefError(
                        f"the grid names {name!r} among its {what}, but the recipe has only "
                        f"{', '.join(named)}: correct the name"
                    )


def _check_labels_of(recipe: Recipe, base: str, judge: str) -> None:
    if judge not in recipe.judges:
        raise SegprefError(
            f"the base {base} learns from the labels of the judge {judge!r}, but the recipe has only "
            f"{', '.join(recipe.judges)}: correct the name"
        )
    if not isinstance(recipe.judges[judge], LabelledRecipe):
        raise SegprefError(
            f"the base {base} learns from the labels of the judge {judge}, which has none of its own: "
            "name one that is trained on labelled cases, or leave labels_of out"
        )


def _tasks(recipe: Recipe, block: Block, seeds: Sequence[int] | None) -> Iterator[tuple[Task, ...]]:
    bases = list(recipe.bases) if block.bases is None else block.bases
    judges = list(recipe.judges) if block.judges is None else block.judges
    methods = list(recipe.methods) if block.methods is None else block.methods
    own = recipe.seeds if block.seeds is None else block.seeds
    for seed in own if seeds is None else seeds:
        for base in bases:
            yield _with_starts(recipe, Task(seed, "base", base))
            for judge in judges:
                yield (judge_task(recipe, seed, base, judge),)
                if recipe.audits:
                    yield (Task(seed, "audit", base, judge),)
                for method in methods:
                    for changes in _combinations(block.sweep):
                        run = Task(seed, "run", base, judge, method, changes)
                        yield (run.without_idle_changes(recipe),)


def _with_starts(recipe: Recipe, base: Task) -> tuple[Task, ...]:
    """A base after those that it begins from."""
    chain = [base]
    while needed := chain[0].needs(recipe):
        if needed[0] in chain:
            raise SegprefError(
                f"the base {base.base} would start from itself: correct `start` in the recipe"
            )
        chain.insert(0, needed[0])
    return tuple(chain)


def _combinations(sweep: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Change, ...]]:
    for values in itertools.product(*sweep.values()):
        yield tuple(
            (key, tuple(value) if isinstance(value, list) else value)
            for key, value in zip(sweep, values, strict=True)
        )


def _changed(owner: Any, name: str, value: Any, key: str) -> Any:
    try:
        return replace(owner, **{name: value})
    except TypeError as error:
        raise SegprefError(
            f"the sweep changes {key}, which {type(owner).__name__} does not have: correct the name "
            "in the recipe's grid"
        ) from error


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name.lower())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else _slug(str(value))
