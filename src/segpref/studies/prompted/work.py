"""Doing the jobs of the study: stand-ins, trainings and scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch

from segpref.data.csv_files import write_csv
from segpref.inference.evaluation import score_model
from segpref.judges import OracleJudge
from segpref.policies import ModelCard, PolicySpec, load_model, save_model
from segpref.policies.promptable import load_promptable, promptable_card
from segpref.prompts import LabelPrompts, box_iou, box_of, prompted
from segpref.studies.prompted.clip import fit_clip
from segpref.studies.prompted.rows import BASE, MORE, UNET, UNTUNED, aligned_row
from segpref.studies.prompted.stand_in import OneStructure
from segpref.studies.prompted.workspace import Fold, PromptedWorkspace, Prompts
from segpref.studies.recorded import as_recorded
from segpref.training import RunFolder, align, fit, fit_promptable
from segpref.training.feedback import Feedback, FeedbackKind

__all__ = [
    "Alignment",
    "Stage1Row",
    "fit_row",
    "fit_stand_in",
    "fit_stand_in_clip",
    "fit_unet",
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


def fit_stand_in(workspace: PromptedWorkspace) -> None:
    """Train the stand-in for SAM."""
    folder = RunFolder(workspace.out / "start")
    recipe = workspace.recipe
    learned, held_out = workspace.other_data()
    network = workspace.blank()
    card = promptable_card(network, OneStructure, recipe.preparation, labelled=learned.patients)
    settings = {"start": recipe.start, "seed": recipe.seed}
    folder.open(as_recorded(folder, settings), resume=True)
    fit_promptable(
        learned,
        held_out,
        network,
        card,
        folder,
        guide=LabelPrompts(shift=0.15, box_rate=0.8, point_rate=0.7),
        focal=recipe.start.focal,
        epochs=recipe.start.epochs,
        images_per_epoch=recipe.start.images_per_epoch,
        batch_size=recipe.start.batch_size,
        learning_rate=recipe.start.learning_rate,
        halve_every=recipe.start.epochs / 3,
        augment="dihedral",
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
    """How well boxes that nobody drew cover the structure, on the images that are tested on."""
    fold = workspace.fold(number)
    prompter = workspace.prompter(number, "box and points")
    policy = PolicySpec(_PROMPTABLE, {"prompter": prompter}).build(
        workspace.blank(), fold.test.label_space
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
    folder = RunFolder(workspace.folder(number) / row)
    recipe, fold = workspace.recipe, workspace.fold(number)
    cases = fold.labelled
    prompts: Prompts = BASE
    if row == MORE:
        cases = workspace.images.of_patients([*cases.patients, *fold.more.patients])
    else:
        prompts = row
    network = load_promptable(workspace.out / "start")[0].inner
    stage = recipe.stage1
    settings = {"stage1": stage, "prompts": prompts, "seed": recipe.seed}
    folder.open(as_recorded(folder, settings), resume=True)
    fit_promptable(
        cases,
        fold.validation,
        network,
        workspace.card(network, fold, cases, prompts),
        folder,
        focal=stage.focal,
        epochs=stage.epochs,
        images_per_epoch=stage.images_per_epoch,
        batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        augment="dihedral",
        seed=recipe.seed,
        cache=workspace.cache,
    )
    _score(workspace, fold, folder)


def score_untuned(workspace: PromptedWorkspace, number: int) -> None:
    """Scores of the stand-in for SAM as it is."""
    folder = workspace.folder(number) / UNTUNED
    network = load_promptable(workspace.out / "start")[0].inner
    fold = workspace.fold(number)
    card = workspace.card(network, fold, fold.labelled.take([]), "box and points")
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / "best.safetensors", network, card)
    _score(workspace, fold, RunFolder(folder))


def fit_unet(workspace: PromptedWorkspace, number: int) -> None:
    """The U-Net that promptable models are compared with."""
    folder = RunFolder(workspace.folder(number) / UNET)
    recipe, fold = workspace.recipe, workspace.fold(number)
    stage, space = recipe.stage1, fold.labelled.label_space
    settings = {"stage1": stage, "seed": recipe.seed}
    folder.open(as_recorded(folder, settings), resume=True)
    card = ModelCard(
        stage.unet.for_data(len(workspace.reader.channels), space.channels),
        space,
        recipe.preparation,
        workspace.reader.channels,
        fold.labelled.patients,
    )
    fit(
        fold.labelled,
        fold.validation,
        card,
        folder,
        epochs=stage.unet_epochs,
        images_per_epoch=stage.images_per_epoch,
        batch_size=stage.batch_size,
        learning_rate=stage.unet_learning_rate,
        seed=recipe.seed,
    )
    _score(workspace, fold, folder)


def run_alignment(workspace: PromptedWorkspace, number: int, wanted: Alignment) -> None:
    """Align the fold's model, and score it."""
    folder = RunFolder(workspace.folder(number) / wanted.row)
    recipe, fold = workspace.recipe, workspace.fold(number)
    how, space = recipe.align, fold.test.label_space
    feedback = Feedback(
        wanted.kind,
        how.betas,
        wanted.reduction,
        how.thresholds,
        wanted.flips,
        seed=recipe.seed + number,
        reverse_rate=wanted.reversals,
    )
    settings = {"align": how, "feedback": feedback, "seed": recipe.seed}
    folder.open(as_recorded(folder, settings), resume=True)
    align(
        workspace.folder(number) / BASE,
        fold.pools[wanted.share],
        fold.validation,
        feedback.judge(OracleJudge(space, measure="dice")),
        feedback.signal(space),
        folder,
        proposals=feedback.proposals(),
        epochs=how.epochs,
        images_per_epoch=how.images_per_epoch,
        batch_size=how.batch_size,
        learning_rate=how.learning_rate,
        schedule="halved",
        seed=recipe.seed,
        cache=workspace.cache,
    )
    _score(workspace, fold, folder)


def _score(workspace: PromptedWorkspace, fold: Fold, folder: RunFolder) -> None:
    """Scores on the images that the fold tests on, of the weights that validation chose."""
    policy, _ = load_model(folder.path)
    policy.learn()
    policy.prepare(fold.test, workspace.cache)
    rows = score_model(policy, fold.test, surface=True)
    write_csv(folder.path / "test.csv", rows)
