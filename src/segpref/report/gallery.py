"""A few cases with the contours of several models to look at: typical ones, and the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from segpref.data.dataset import Dataset
from segpref.inference.evaluation import predict_masks
from segpref.report.pictures import Overlay
from segpref.report.volume_scores import VolumeScore, worst_volumes
from segpref.types import IGNORE, Case, Predictor

__all__ = ["overlays", "typical", "worst_overlays"]


def overlays(cases: Dataset, models: Mapping[str, Predictor]) -> list[Overlay]:
    """Outlines of several models on the same cases."""
    result = []
    for index in range(len(cases)):
        case: Case = cases[index]
        images = torch.from_numpy(np.array(case.image))[None]
        result.append(
            Overlay(
                name=case.id,
                image=np.asarray(case.image),
                masks={
                    name: model.label_space.decode(model.logits(images))[0].cpu().numpy()
                    for name, model in models.items()
                },
                label_space=cases.label_space,
                truth=None if case.label is None else np.asarray(case.label),
                spacing_mm=case.spacing_mm,
                colour=case.colour,
            )
        )
    return result


def worst_overlays(
    cases: Dataset, models: Mapping[str, Predictor], scores: Sequence[VolumeScore], count: int
) -> list[Overlay]:
    """Outlines of base and tuned model on the volumes to look at, worst first.

    Of slices that are images of their own, the one is shown in which the tuned model is wrong in most
    pixels.

    Args:
        cases: labelled.
        models: ``base`` and ``tuned``.
        scores: of all volumes of the cases.
        count: how many volumes at most.
    """
    chosen = worst_volumes(scores, count)
    if not chosen:
        return []
    own = cases.of_patients({one.patient for one in scores if one.volume in chosen})
    shown: dict[str, Overlay] = {}
    predicted = [predict_masks(model, own) for model in models.values()]
    for made in zip(*predicted, strict=True):
        volume, items, last = made[0][0], made[0][1], made[-1][2]
        name = volume.source.id
        if name not in chosen or volume.labels is None:
            continue
        truth = np.asarray(volume.labels[items])
        wrong = ((last != truth) & (truth != IGNORE)).reshape(len(items), -1).sum(axis=1)
        at = int(wrong.argmax())
        shown[name] = Overlay(
            name=name if len(items) == 1 else f"{name}, slice {items[at] + 1}",
            image=np.asarray(volume.images[[items[at]]])[0],
            masks={one: mask[at] for one, (_, _, mask) in zip(models, made, strict=True)},
            label_space=own.label_space,
            truth=truth[at],
            spacing_mm=volume.spacing_mm,
            colour=volume.colour,
            focus=list(models)[-1],
            scores=_dice_told(scores, name),
            why=chosen[name],
        )
    return [shown[name] for name in chosen if name in shown]


def _dice_told(scores: Sequence[VolumeScore], volume: str) -> dict[str, str]:
    """Dice of each structure of the whole volume, before and after."""
    own = [one for one in scores if one.volume == volume]
    if not any(one.size_label > 0 for one in own):
        return dict.fromkeys(("base", "tuned"), "The label has none of the structures.")
    return {
        "base": "Dice " + ", ".join(_told(one, one.dice_base) for one in own),
        "tuned": "Dice " + ", ".join(_told(one, one.dice_tuned) for one in own),
    }


def _told(one: VolumeScore, dice: float) -> str:
    if one.size_label > 0:
        return f"{one.structure} {dice:.2f}"
    return f"{one.structure} absent" if math.isnan(dice) else f"{one.structure} not in the label"


def typical(cases: Dataset, count: int) -> Dataset:
    """A few cases with many structures, of different patients."""
    patients = cases.patients
    chosen = [patients[i] for i in np.linspace(0, len(patients) - 1, count).round().astype(int)]
    picked = []
    for patient in dict.fromkeys(chosen):
        own = [i for i in range(len(cases)) if cases[i].patient == patient]
        picked.append(max(own, key=lambda i: _foreground(cases[i])))
    return cases.take(picked)


def _foreground(case: Case) -> tuple[int, int]:
    if case.label is None:
        return 0, 0
    label = np.asarray(case.label)
    drawn = (label > 0) & (label < 255)
    return len(np.unique(label[drawn])), int(drawn.sum())
