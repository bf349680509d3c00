"""A few typical cases with the contours of several models, for visual inspection."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from segpref.data.dataset import Dataset
from segpref.report.pictures import Overlay
from segpref.types import Case, Predictor

__all__ = ["overlays", "typical"]


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
