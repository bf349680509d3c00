"""Cached prompts of a dataset, since vision-language models are slow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset, Volume
from segpref.data.prepared import ImagePreparation
from segpref.progress import track
from segpref.prompts.prompt import Prompt
from segpref.prompts.promptable import ParticularPrompter, Prompter
from segpref.prompts.sources import image_digest
from segpref.types import LabelSpace

__all__ = ["KeptPrompts"]


class KeptPrompts:
    """Another prompter's prompts, looked up by the content of the image.

    An image that was not prepared is prompted anew at every call, so it does not matter for the
    result what was prepared.

    Args:
        prompter: makes the prompts. Mask prompts are not kept.
    """

    def __init__(self, prompter: Prompter) -> None:
        self.prompter = prompter
        self._known: dict[str, list[Prompt]] = {}

    def check(self, label_space: LabelSpace, preparation: ImagePreparation) -> None:
        """Let the other prompter refuse structures and images that are not its own.

        Raises:
            SegprefError: it does.
        """
        if isinstance(self.prompter, ParticularPrompter):
            self.prompter.check(label_space, preparation)

    def prepare(self, dataset: Dataset, cache: Cache | None = None) -> None:
        """Make what is missing for all images of the dataset."""
        cache = cache or Cache()
        wanted = [
            (volume, {"what": "prompts", "by": self.prompter.key(), "input": volume.key})
            for volume, _ in dataset.by_volume()
        ]
        todo = sum(not cache.has(key) for _, key in wanted)
        steps = track(wanted, "making prompts", len(wanted)) if todo else wanted
        for volume, key in steps:
            found = cache.entry(key, partial(self._compute, volume))
            rows = json.loads(np.asarray(found["prompts"]).tobytes())
            for image, row in zip(volume.images, rows, strict=True):
                digest = image_digest(torch.from_numpy(np.array(image)))
                self._known[digest] = [_read(one) for one in row]

    def __call__(self, images: Float[Tensor, "B channel H W"]) -> list[list[Prompt]]:
        """One prompt per image and structure."""
        return [
            self._known.get(image_digest(image)) or list(self.prompter(image[None])[0])
            for image in images
        ]

    def key(self) -> dict[str, object]:
        """What the prompts depend on besides the image."""
        return self.prompter.key()

    def _compute(self, volume: Volume) -> dict[str, np.ndarray]:
        rows = [
            [_written(one) for one in self.prompter(torch.from_numpy(np.array(image))[None])[0]]
            for image in volume.images
        ]
        return {"prompts": np.frombuffer(json.dumps(rows).encode(), dtype=np.uint8)}


def _written(prompt: Prompt) -> dict[str, Any]:
    return {"box": prompt.box, "points": prompt.points, "text": prompt.text}


def _read(row: dict[str, Any]) -> Prompt:
    box: Sequence[float] | None = row["box"]
    return Prompt(
        None if box is None else (box[0], box[1], box[2], box[3]),
        tuple((x, y, label) for x, y, label in row["points"]),
        text=row["text"],
    )
