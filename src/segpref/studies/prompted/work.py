"""Doing the jobs of the study: stand-ins, trainings and scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from segpref.data.csv_files import write_csv
from segpref.inference.evaluation import score_model
from segpref.judges import OracleJudge
from segpref.policies import ModelCard, PolicySpec, load_model, save_model
from segpref.policies.promptable import load_promptable, promptable_card
from segpref.prompts import LabelPrompts, box_iou, box_of, prompted
from segpref.studies.prompted.clip import fit_clip
from segpref.studies.prompted.earlier import run_settings
from segpref.studies.prompted.recipe import Prompts
from segpref.studies.prompted.rows import MORE, UNET, aligned_row, measured_boxes, untuned_row
from segpref.studies.prompted.stand_in import OneStructure
from segpref.studies.prompted.workspace import Fold, PromptedWorkspace
from segpref.studies.recorded_settings import as_recorded
from segpref.training import RunFolder, align, fit, fit_promptable
from segpref.training.feedback import FeedbackKind
from segpref.training.methods import method_of

__all__ = [
    "Alignment",
    "Stage1Row",
    "check_checkpoint",
    "fit_row",
    "fit_stand_in",
    "fit_stand_in_clip",
    "fit_unet",
    "keep_checkpoint",
    "measure_boxes",
    "run_alignment",
    "score_untuned",
]

Stage1Row: TypeAlias = Prompts | Literal["more labels"]
_PROMPTABLE = "segpref.policies.promptable.PromptablePolicy"


@dataclass(frozen=True)
class Alignment:
    """One alignment of a fold.

    Args:
        share: of the images that is unlabelled.
        kind: what is said of the candidates.
        reduction: of log-ratios.
        flips: how often neighbours change places.
        reversals: how often a ranking is turned round.
    """

    share: float
    kind: FeedbackKind
    reduction: Literal["image", "region"]
    flips: float = 0.0
    reversals: float = 0.0

    @property
    def row(self) -> str:
        """Name of its row."""
        return aligned_row(self.share, self.kind, self.reduction, self.flips, self.reversals)


def keep_checkpoint(workspace: PromptedWorkspace) -> None:
    """Put the recipe's checkpoint where a stand-in for it would have been trained.

    Raises:
        SegprefError: no promptable model there, or another than the study was begun with.
    """
    recipe = workspace.recipe
    assert recipe.checkpoint is not None
    policy = workspace.checkpoint
    folder = _begun(workspace, workspace.start, checkpoint=policy.digest())
    card = promptable_card(policy.inner, OneStructure, recipe.preparation)
    save_model(folder.best, policy.inner, card)
    folder.write_summary({"kind": "existing", "model": str(recipe.checkpoint)})


def check_checkpoint(workspace: PromptedWorkspace) -> None:
    """Refuse another checkpoint than the study was begun with.

    Raises:
        SegprefError: it is one.
    """
    if workspace.recipe.checkpoint is not None:
        _begun(workspace, workspace.start, checkpoint=workspace.checkpoint.digest())


def fit_stand_in(workspace: PromptedWorkspace) -> None:
    """Train the stand-in for SAM."""
    recipe = workspace.recipe
    learned, held_out = workspace.other_data()
    network = workspace.network()
    fit_promptable(
        learned,
        held_out,
        network,
        promptable_card(network, OneStructure, recipe.preparation, labelled=learned.patients),
        _begun(workspace, workspace.start, start=recipe.start),
        recipe.start,
        guide=LabelPrompts(shift=0.15, box_rate=0.8, point_rate=0.7),
        seed=recipe.seed,
    )


def fit_stand_in_clip(workspace: PromptedWorkspace, number: int) -> None:
    """Train a fold's stand-in for CLIP."""
    recipe = workspace.recipe
    folder = workspace.folder(number) / "clip"
    folder.parent.mkdir(parents=True, exist_ok=True)
    fold = workspace.fold(number)
    fit_clip(
        folder, fold.labelled, workspace.empty, recipe.structure, recipe.clip, recipe.seed + number
    )


def measure_boxes(workspace: PromptedWorkspace, number: int, file: Path) -> None:
    """How well automatic boxes cover the structure, on the images that are tested on."""
    fold = workspace.fold(number)
    prompter = workspace.prompter(number, measured_boxes(workspace.recipe))
    policy = PolicySpec(_PROMPTABLE, {"prompter": prompter}).build(
        workspace.network(), fold.test.label_space
    )
    policy.prepare(fold.test, workspace.cache)
    rows = []
    for case in fold.test.labelled():
        (mask,) = np.asarray(case.label) == 1
        ((prompt,),) = prompted(policy).prompts_for(torch.from_numpy(np.array(case.image))[None])
        drawn, found = box_of(mask), prompt.box
        assert drawn is not None
        assert found is not None
        left, top, right, bottom = (round(side + 0.5) for side in found)
        inside = int(mask[max(top, 0) : bottom, max(left, 0) : right].sum())
        whole = right - left >= mask.shape[1] and bottom - top >= mask.shape[0]
        rows.append(
            {
                "image": case.id,
                "recall": inside / int(mask.sum()),
                "box_iou": box_iou(drawn, found),
                "box_share": (right - left) * (bottom - top) / mask.size,
                "points_on": float(
                    np.mean([mask[int(y), int(x)] for x, y, _ in prompt.points] or [0])
                ),
                "nothing_found": float(whole and not prompt.points),
            }
        )
    write_csv(file, rows)


def fit_row(workspace: PromptedWorkspace, number: int, row: Stage1Row) -> None:
    """A model that is asked in one way, from the fold's labels; or from some more of them."""
    recipe, fold = workspace.recipe, workspace.fold(number)
    cases, prompts = fold.labelled, recipe.prompts[0]
    if row == MORE:
        cases = workspace.images.of_patients([*cases.patients, *fold.more.patients])
    else:
        prompts = row
    network = load_promptable(workspace.start)[0].inner
    place = workspace.folder(number) / row
    folder = _begun(workspace, place, stage1=recipe.stage1, prompts=prompts)
    fit_promptable(
        cases,
        fold.validation,
        network,
        workspace.card(network, fold, cases, prompts),
        folder,
        recipe.stage1,
        seed=recipe.seed,
        cache=workspace.cache,
    )
    _score(workspace, fold, folder)


def score_untuned(workspace: PromptedWorkspace, number: int, prompts: Prompts) -> None:
    """Scores of the stand-in for SAM, or of the checkpoint, as it is."""
    folder = workspace.folder(number) / untuned_row(prompts)
    network = load_promptable(workspace.start)[0].inner
    fold = workspace.fold(number)
    card = workspace.card(network, fold, fold.labelled.take([]), prompts)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / "best.safetensors", network, card)
    _score(workspace, fold, RunFolder(folder))


def fit_unet(workspace: PromptedWorkspace, number: int) -> None:
    """The U-Net that promptable models are compared with."""
    recipe, fold = workspace.recipe, workspace.fold(number)
    channels, space = workspace.reader.channels, fold.labelled.label_space
    card = ModelCard(
        recipe.unet.network.for_data(len(channels), space.channels),
        space,
        recipe.preparation,
        channels,
        fold.labelled.patients,
    )
    folder = _begun(workspace, workspace.folder(number) / UNET, unet=recipe.unet)
    fit(fold.labelled, fold.validation, card, folder, recipe.unet, seed=recipe.seed)
    _score(workspace, fold, folder)


def run_alignment(workspace: PromptedWorkspace, number: int, wanted: Alignment) -> None:
    """Align the fold's model, and score it."""
    recipe, fold = workspace.recipe, workspace.fold(number)
    space = fold.test.label_space
    assert recipe.align.feedback is not None
    feedback = replace(
        recipe.align.feedback,
        kind=wanted.kind,
        reduction=wanted.reduction,
        flip_rate=wanted.flips,
        reverse_rate=wanted.reversals,
        seed=recipe.seed + number,
    )
    config = replace(recipe.align, feedback=feedback)
    folder = _begun(workspace, workspace.folder(number) / wanted.row, align=config)
    config = replace(config, seed=recipe.seed).resolved()
    method = method_of(config, space, OracleJudge(space, measure="dice"))
    align(
        workspace.folder(number) / recipe.prompts[0],
        fold.pools[wanted.share],
        fold.validation,
        method.judge,
        method.signal,
        folder,
        config,
        proposals=method.proposals,
        cache=workspace.cache,
    )
    _score(workspace, fold, folder)


def _begun(workspace: PromptedWorkspace, place: Path, **settings: Any) -> RunFolder:
    """A run folder, opened; it keeps its settings and the study's seed."""
    folder = RunFolder(place)
    kept = {**settings, "seed": workspace.recipe.seed}
    folder.open(as_recorded(folder, kept, run_settings), resume=True)
    return folder


def _score(workspace: PromptedWorkspace, fold: Fold, folder: RunFolder) -> None:
    """Scores on the images that the fold tests on, of the weights that validation chose."""
    policy, _ = load_model(folder.path)
    policy.learn()
    policy.prepare(fold.test, workspace.cache)
    rows = score_model(policy, fold.test, surface=True)
    write_csv(folder.path / "test.csv", rows)
