"""The parts of the study, each with a folder of its own and finished when its last file is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from segpref.data.csv_files import write_csv
from segpref.inference.evaluation import score_model
from segpref.judges import OracleJudge
from segpref.policies import ModelCard, PolicySpec, load_model, save_model
from segpref.policies.promptable import PromptableNetwork, PromptablePolicy, promptable_card
from segpref.prompts import LabelPrompts, box_iou, box_of
from segpref.studies.parts import Part
from segpref.studies.prompted.clip import fit_clip
from segpref.studies.prompted.lab import Fold, PromptedLab, Prompts
from segpref.studies.prompted.stand_in import OneStructure
from segpref.studies.recipe import plain
from segpref.training import RunFolder, align, fit, fit_promptable
from segpref.training.feedback import Feedback, FeedbackKind

__all__ = [
    "ABLATIONS",
    "BASE",
    "FLIPPED",
    "KINDS",
    "MORE",
    "UNET",
    "aligned_row",
    "parts",
    "row_file",
]

BASE: Prompts = "box, points and text"
"""The model that is aligned, prompted as in the paper but for the answers of a VQA model."""

ABLATIONS: tuple[Prompts, ...] = (BASE, "box and points", "text", "none", "expert")
MORE: Literal["more labels"] = "more labels"
UNET = "U-Net"
UNTUNED = "box and points, not tuned"
"""The stand-in for SAM as it is, which has not seen an image of the dataset."""
KINDS: tuple[FeedbackKind, ...] = ("best-only", "rating", "ranking")
FLIPPED: tuple[FeedbackKind, ...] = ("rating", "ranking")
"""Feedback that is flipped on purpose."""

_PROMPTABLE = "segpref.policies.promptable.PromptablePolicy"


def parts(lab: PromptedLab) -> list[Part]:
    """All parts, each after those that it needs, and of the folds what says most first."""
    folds = range(lab.recipe.folds)
    start = RunFolder(lab.out / "start")
    found = [_part("stand-in", "stand-in for SAM", start.summary, partial(_start, lab, start))]
    for number in folds:
        folder = lab.folder(number) / "clip"
        clip = partial(_clip, lab, number)
        found.append(_part("clip", f"fold {number}: stand-in for CLIP", folder, clip))
        boxes = lab.folder(number) / "boxes.csv"
        find = partial(_boxes, lab, number, boxes)
        found.append(_part("boxes", f"fold {number}: boxes", boxes, find))
    found += [_stage1(lab, number, BASE) for number in folds]
    shares = lab.recipe.unlabelled
    for share in shares:
        for number in folds:
            for kind in KINDS[::-1]:
                found += [_aligned(lab, number, share, kind, how) for how in ("image", "region")]
    for number in folds:
        found += [_stage1(lab, number, prompts) for prompts in (*ABLATIONS[1:], MORE)]
        found += [_untuned(lab, number), _unet(lab, number)]
    for number in folds:
        for rate in lab.recipe.flips:
            for kind in FLIPPED:
                found += [
                    _aligned(lab, number, max(shares), kind, how, rate)
                    for how in ("image", "region")
                ]
        for rate in lab.recipe.reversals:
            found += [
                _aligned(lab, number, max(shares), "ranking", how, reversals=rate)
                for how in ("image", "region")
            ]
    return found


def _part(kind: str, name: str, file: Path, do: Callable[[], None]) -> Part:
    return Part(kind, name, file.exists, do)


def row_file(lab: PromptedLab, fold: int, row: str) -> Path:
    """Scores of a row of a table on the images that the fold tests on."""
    return lab.folder(fold) / row / "test.csv"


def aligned_row(
    share: float, kind: FeedbackKind, reduction: str, flips: float = 0.0, reversals: float = 0.0
) -> str:
    """Name of a row: how much is unlabelled, what is said, and how it is reduced."""
    noise = f", {flips:.0%} flipped" if flips else ""
    noise += f", {reversals:.0%} reversed" if reversals else ""
    return f"+ {share:.0%}, {kind}, {reduction}{noise}"


def _start(lab: PromptedLab, folder: RunFolder) -> None:
    recipe = lab.recipe
    learned, held_out = lab.other_data()
    network = lab.blank()
    card = promptable_card(network, OneStructure, recipe.preparation, labelled=learned.patients)
    folder.open({"start": plain(recipe.start), "seed": recipe.seed}, resume=True)
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


def _clip(lab: PromptedLab, number: int) -> None:
    recipe = lab.recipe
    folder = lab.folder(number) / "clip"
    folder.parent.mkdir(parents=True, exist_ok=True)
    fold = lab.fold(number)
    fit_clip(folder, fold.labelled, lab.empty, recipe.structure, recipe.clip, recipe.seed + number)


def _boxes(lab: PromptedLab, number: int, file: Path) -> None:
    """How well boxes that nobody drew cover the structure, on the images that are tested on."""
    fold = lab.fold(number)
    prompter = lab.prompter(number, "box and points")
    policy = PolicySpec(_PROMPTABLE, {"prompter": prompter}).build(
        lab.blank(), fold.test.label_space
    )
    assert isinstance(policy, PromptablePolicy)
    policy.prepare(fold.test, lab.cache)
    rows = []
    for case in fold.test.labelled():
        (mask,) = np.asarray(case.label) == 1
        ((prompt,),) = policy.prompts_for(torch.from_numpy(np.array(case.image))[None])
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


def _stage1(lab: PromptedLab, number: int, row: Prompts | Literal["more labels"]) -> Part:
    """A model that is asked in one way, from the fold's labels; or from some more of them."""
    folder = RunFolder(lab.folder(number) / row)

    def perform() -> None:
        recipe, fold = lab.recipe, lab.fold(number)
        cases = fold.labelled
        prompts: Prompts = BASE
        if row == MORE:
            cases = lab.images.of_patients([*cases.patients, *fold.more.patients])
        else:
            prompts = row
        network = load_model(lab.out / "start")[0].network
        assert isinstance(network, PromptableNetwork)
        stage = recipe.stage1
        folder.open({"stage1": plain(stage), "prompts": prompts, "seed": recipe.seed}, resume=True)
        fit_promptable(
            cases,
            fold.validation,
            network,
            lab.card(network, fold, cases, prompts),
            folder,
            focal=stage.focal,
            epochs=stage.epochs,
            images_per_epoch=stage.images_per_epoch,
            batch_size=stage.batch_size,
            learning_rate=stage.learning_rate,
            augment="dihedral",
            seed=recipe.seed,
            cache=lab.cache,
        )
        _score(lab, fold, folder)

    return _part("fit", f"fold {number}: {row}", row_file(lab, number, row), perform)


def _untuned(lab: PromptedLab, number: int) -> Part:
    folder = lab.folder(number) / UNTUNED

    def perform() -> None:
        network = load_model(lab.out / "start")[0].network
        assert isinstance(network, PromptableNetwork)
        fold = lab.fold(number)
        card = lab.card(network, fold, fold.labelled.take([]), "box and points")
        folder.mkdir(parents=True, exist_ok=True)
        save_model(folder / "best.safetensors", network, card)
        _score(lab, fold, RunFolder(folder))

    return _part("score", f"fold {number}: {UNTUNED}", row_file(lab, number, UNTUNED), perform)


def _unet(lab: PromptedLab, number: int) -> Part:
    folder = RunFolder(lab.folder(number) / UNET)

    def perform() -> None:
        recipe, fold = lab.recipe, lab.fold(number)
        stage, space = recipe.stage1, fold.labelled.label_space
        folder.open({"stage1": plain(stage), "seed": recipe.seed}, resume=True)
        card = ModelCard(
            stage.unet.for_data(len(lab.reader.channels), space.channels),
            space,
            recipe.preparation,
            lab.reader.channels,
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
        _score(lab, fold, folder)

    return _part("unet", f"fold {number}: {UNET}", row_file(lab, number, UNET), perform)


def _aligned(
    lab: PromptedLab,
    number: int,
    share: float,
    kind: FeedbackKind,
    reduction: Literal["image", "region"],
    flips: float = 0.0,
    reversals: float = 0.0,
) -> Part:
    row = aligned_row(share, kind, reduction, flips, reversals)
    folder = RunFolder(lab.folder(number) / row)

    def perform() -> None:
        recipe, fold = lab.recipe, lab.fold(number)
        how, space = recipe.align, fold.test.label_space
        feedback = Feedback(
            kind,
            how.betas,
            reduction,
            how.thresholds,
            flips,
            seed=recipe.seed + number,
            reverse_rate=reversals,
        )
        settings = {"align": plain(how), "feedback": plain(feedback), "seed": recipe.seed}
        folder.open(settings, resume=True)
        align(
            lab.folder(number) / BASE,
            fold.pools[share],
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
            cache=lab.cache,
        )
        _score(lab, fold, folder)

    return _part("align", f"fold {number}: {row}", row_file(lab, number, row), perform)


def _score(lab: PromptedLab, fold: Fold, folder: RunFolder) -> None:
    """Scores on the images that the fold tests on, of the weights that validation chose."""
    policy, _ = load_model(folder.path)
    policy.learn()
    policy.prepare(fold.test, lab.cache)
    rows = score_model(policy, fold.test, surface=True)
    write_csv(folder.path / "test.csv", rows)
