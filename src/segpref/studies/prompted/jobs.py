"""The jobs of the study with their needs, the most informative folds first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

from segpref.studies.engine import Job, named_jobs
from segpref.studies.prompted import work
from segpref.studies.prompted.rows import (
    FLIPPED,
    KINDS,
    MORE,
    RANDOM,
    UNET,
    asked_prompts,
    asks_clip,
    measured_boxes,
    row_file,
    untuned_row,
)
from segpref.studies.prompted.work import Alignment
from segpref.studies.prompted.workspace import PromptedWorkspace
from segpref.training import RunFolder

__all__ = ["prompted_jobs"]

_START = "start"
_REDUCTIONS: tuple[Literal["image", "region"], ...] = ("image", "region")


def prompted_jobs(workspace: PromptedWorkspace, only: Sequence[str] = ()) -> list[Job]:
    """All jobs, each after those that it needs.

    Args:
        workspace: the study.
        only: words; just jobs with one of them in their title, and what they need.

    Raises:
        SegprefError: no job has such a title.
    """
    return named_jobs(list(_jobs(workspace)), only)


def _jobs(workspace: PromptedWorkspace) -> Iterator[Job]:
    recipe = workspace.recipe
    folds = range(recipe.folds)
    asked = asked_prompts(recipe)
    yield _start(workspace)
    for number in folds:
        if any(map(asks_clip, asked)):
            yield _clip(workspace, number)
        if "U-Net box" in asked:
            yield _unet(workspace, number)
        yield _boxes(workspace, number)
    for number in folds:
        yield _stage1(workspace, number, recipe.prompts[0])
    for share in recipe.unlabelled:
        for number in folds:
            for kind in KINDS[::-1]:
                for how in _REDUCTIONS:
                    yield _aligned(workspace, number, Alignment(share, kind, how))
    for number in folds:
        for row in (*recipe.prompts[1:], MORE):
            yield _stage1(workspace, number, row)
        for prompts in recipe.untuned:
            run = partial(work.score_untuned, workspace, number, prompts)
            needs = (_START, *_needs_of(number, prompts))
            yield _row(workspace, number, untuned_row(prompts), "score", run, needs)
        if "U-Net box" not in asked:
            yield _unet(workspace, number)
    for number in folds:
        yield from _noisy(workspace, number)


def _start(workspace: PromptedWorkspace) -> Job:
    """The model that all rows begin with."""
    recipe, outputs = workspace.recipe, (RunFolder(workspace.start).summary,)
    if recipe.checkpoint is not None:
        return Job(
            _START,
            outputs,
            partial(work.keep_checkpoint, workspace),
            kind="checkpoint",
            title=f"checkpoint {recipe.checkpoint.name}",
            check=partial(work.check_checkpoint, workspace),
        )
    return Job(
        _START,
        outputs,
        partial(work.fit_stand_in, workspace),
        kind="stand-in",
        title="stand-in for SAM",
        epochs=recipe.start.epochs,
        memory={"start: batch_size": recipe.start.batch_size},
    )


def _noisy(workspace: PromptedWorkspace, number: int) -> Iterator[Job]:
    """Alignments whose ratings and rankings are wrong now and then."""
    recipe = workspace.recipe
    share = max(recipe.unlabelled)
    for rate in recipe.flips:
        for kind in FLIPPED:
            for how in _REDUCTIONS:
                yield _aligned(workspace, number, Alignment(share, kind, how, rate))
    for rate in recipe.reversals:
        for how in _REDUCTIONS:
            wanted = Alignment(share, "ranking", how, reversals=rate)
            yield _aligned(workspace, number, wanted)
    if recipe.controls:
        for kind in KINDS:
            if kind != "ranking" or RANDOM not in recipe.reversals:
                for how in _REDUCTIONS:
                    yield _aligned(workspace, number, Alignment(share, kind, how, reversals=RANDOM))


def _clip_name(number: int) -> str:
    # The model's own folder appears whole, so lock and log lie elsewhere.
    return f"fold{number}/stand-in"


def _needs_of(number: int, prompts: str) -> tuple[str, ...]:
    """What must be there before images can be prompted in this way."""
    if asks_clip(prompts):
        return (_clip_name(number),)
    return (f"fold{number}/{UNET}",) if prompts == "U-Net box" else ()


def _unet(workspace: PromptedWorkspace, number: int) -> Job:
    return _row(workspace, number, UNET, "unet", partial(work.fit_unet, workspace, number), ())


def _clip(workspace: PromptedWorkspace, number: int) -> Job:
    return Job(
        _clip_name(number),
        (workspace.folder(number) / "clip",),
        partial(work.fit_stand_in_clip, workspace, number),
        kind="clip",
        title=f"fold {number}: stand-in for CLIP",
        memory={"clip: batch_size": workspace.recipe.clip.batch_size},
    )


def _boxes(workspace: PromptedWorkspace, number: int) -> Job:
    file = workspace.folder(number) / "boxes.csv"
    start = () if workspace.recipe.checkpoint is None else (_START,)
    return Job(
        f"fold{number}/boxes",
        (file,),
        partial(work.measure_boxes, workspace, number, file),
        needs=(*start, *_needs_of(number, measured_boxes(workspace.recipe))),
        kind="boxes",
        title=f"fold {number}: boxes",
    )


def _stage1(workspace: PromptedWorkspace, number: int, row: work.Stage1Row) -> Job:
    stage = workspace.recipe.stage1
    run = partial(work.fit_row, workspace, number, row)
    prompts = workspace.recipe.prompts[0] if row == MORE else row
    needs = (_START, *_needs_of(number, prompts))
    memory = {"stage1: batch_size": stage.batch_size}
    return _row(workspace, number, row, "fit", run, needs, stage.epochs, memory)


def _aligned(workspace: PromptedWorkspace, number: int, wanted: Alignment) -> Job:
    how = workspace.recipe.align
    run = partial(work.run_alignment, workspace, number, wanted)
    prompts = workspace.recipe.prompts[0]
    needs = (_START, *_needs_of(number, prompts), f"fold{number}/{prompts}")
    memory = {"align: batch_size": how.batch_size}
    return _row(workspace, number, wanted.row, "align", run, needs, how.epochs, memory)


def _row(
    workspace: PromptedWorkspace,
    number: int,
    row: str,
    kind: str,
    run: Callable[[], None],
    needs: tuple[str, ...],
    epochs: int | None = None,
    memory: dict[str, int] | None = None,
) -> Job:
    """What ends with the scores of a row of a table."""
    return Job(
        f"fold{number}/{row}",
        (row_file(workspace, number, row),),
        run,
        needs=needs,
        kind=kind,
        title=f"fold {number}: {row}",
        epochs=epochs,
        memory=dict(memory or {}),
    )
