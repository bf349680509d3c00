"""Datasets, slates and predictors that are small enough to be counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from segpref.data import Dataset, Source, Volume
from segpref.types import Candidate, Case, LabelSpace, Slate

CLASSES = LabelSpace("multi-class", ("background", "a", "b"))
LABELS = LabelSpace("multi-label", ("a", "b"))
BINARY = LabelSpace("multi-label", ("a",))
FOUR = [[[1, 1, 1, 1, 0, 0]]]
TWO = [[[1, 1, 0, 0, 0, 0]]]
NONE = [[[0, 0, 0, 0, 0, 0]]]


def slate(*masks: object) -> Slate:
    arrays = [np.asarray(mask) for mask in masks]
    return Slate(
        np.stack(arrays).astype(np.uint8), tuple(Candidate(f"{n}") for n in range(len(masks)))
    )


def noise_slate(
    rng: np.random.Generator, space: LabelSpace, shape: tuple[int, ...], size: int
) -> Slate:
    masks = rng.integers(0, space.values, (size, space.fields, *shape)).astype(np.uint8)
    return slate(*masks)


def dataset(images: object, space: LabelSpace, labels: object = None) -> Dataset:
    """One patient per image ``[channel, *space]``; labels ``[field, *space]`` or None."""
    volumes = []
    for number, image in enumerate(images):  # type: ignore[call-overload]
        name = f"p{number:02d}"
        array = np.asarray(image, np.float32)[None]
        label = None if labels is None else np.asarray(labels[number], np.uint8)[None]  # type: ignore[index]
        volumes.append(
            Volume(
                Source(id=name, patient=name, images=()),
                {"name": name, "sum": float(array.sum())},
                array,
                label,
                None,
            )
        )
    return Dataset(volumes, space)


class Fixed:
    """Says the same of every image: these logits ``[C, *space]``."""

    def __init__(self, label_space: LabelSpace, logits: object, name: str = "fixed") -> None:
        self.label_space, self.name = label_space, name
        self.answer = torch.as_tensor(np.asarray(logits, np.float32))

    def logits(self, images: Tensor) -> Tensor:
        return self.answer.expand(len(images), *self.answer.shape)

    def digest(self) -> str:
        return self.name


def says(label_space: LabelSpace, mask: object, name: str) -> Fixed:
    """A predictor that is sure of one mask ``[field, *space]``."""
    array = np.asarray(mask)
    if label_space.kind == "multi-label":
        return Fixed(label_space, np.where(array == 1, 5.0, -5.0), name)
    planes = array[0][None] == np.arange(label_space.channels).reshape(-1, *[1] * (array.ndim - 1))
    return Fixed(label_space, 10.0 * planes, name)


def rated(*masks: object, space: LabelSpace = BINARY) -> Case:
    """A case without content that these raters drew on."""
    raters = np.asarray(masks, np.uint8)
    return replace(dataset([np.zeros((1, *raters.shape[2:]))], space)[0], raters=raters)
