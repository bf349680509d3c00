"""Prompts drawn from the label: for training, and as an upper bound."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.checking import checked
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.prompts.masks import box_of, jittered, points_in
from segpref.prompts.prompt import Prompt
from segpref.prompts.promptable import Prompter
from segpref.prompts.sources import image_digest, whole
from segpref.types import SegprefError

__all__ = ["ExpertPrompts", "LabelPrompts"]


@checked()
@dataclass(frozen=True)
class LabelPrompts:
    """Draws box and points from a label, as SAM and its medical variants are trained.

    A structure that is not there is asked for by the whole image, without points.

    Args:
        points: how many points lie on the structure.
        shift: standard deviation of each side of the box, as a share of its width or height.
        box_rate: how often there is a box; where there is none, there are points.
        point_rate: how often there are points besides a box.
    """

    points: int = 3
    shift: float = 0.1
    box_rate: float = 1.0
    point_rate: float = 1.0

    def __post_init__(self) -> None:
        rates = (self.box_rate, self.point_rate)
        if self.points < 0 or self.shift < 0 or min(rates) < 0 or max(rates) > 1:
            raise SegprefError(
                "prompts from labels have points and a shift from 0 and rates from 0 to 1, not "
                f"{self.points}, {self.shift} and {rates}"
            )

    def __call__(
        self,
        label: UInt8[np.ndarray, "field H W"],
        rng: np.random.Generator,
        texts: tuple[str | None, ...] | None = None,
    ) -> list[Prompt]:
        """One prompt per structure."""
        texts = texts or (None,) * len(label)
        return [self._drawn(held == 1, rng, text) for held, text in zip(label, texts, strict=True)]

    def _drawn(self, mask: np.ndarray, rng: np.random.Generator, text: str | None) -> Prompt:
        with_box, with_points = rng.random(2) < (self.box_rate, self.point_rate)
        box = box_of(mask)
        if box is None:
            return Prompt(whole(mask.shape), text=text)
        points = points_in(mask, self.points, rng)
        if not (with_box or points):
            with_box = True
        prompt = Prompt(
            box if with_box else None, points if with_points or not with_box else (), text=text
        )
        return jittered(prompt, mask.shape, rng, self.shift)


@checked(seed={"least": 0})
class ExpertPrompts:
    """Prompts from the labels of prepared datasets: what a policy does that an expert prompts.

    Args:
        draw: how they are drawn from a label.
        seed: random seed, together with the image.
        texts_of: whose text prompts are added; None for none.
    """

    def __init__(
        self, draw: LabelPrompts | None = None, seed: int = 0, texts_of: Prompter | None = None
    ) -> None:
        self.draw = draw or LabelPrompts(shift=0.0)
        self.seed = seed
        self.texts_of = texts_of
        self._known: dict[str, list[Prompt]] = {}

    def prepare(self, dataset: Dataset, cache: Cache | None = None) -> None:
        """Draw prompts for all labelled cases of the dataset."""
        for case in dataset:
            if case.label is None:
                continue
            digest = image_digest(torch.from_numpy(np.array(case.image)))
            rng = np.random.default_rng([self.seed, int(digest[:15], 16)])
            self._known[digest] = self.draw(case.label, rng)

    def __call__(self, images: Float[Tensor, "B channel H W"]) -> list[list[Prompt]]:
        """One prompt per image and structure.

        Raises:
            SegprefError: the label of an image is not known.
        """
        found = [self._known.get(image_digest(image)) for image in images]
        if any(row is None for row in found):
            raise SegprefError(
                "an image has no expert prompts: prepare them for its dataset, and give it labels"
            )
        rows = [row for row in found if row is not None]
        if self.texts_of is None:
            return rows
        own = self.texts_of(images)
        return [
            [replace(prompt, text=told.text) for prompt, told in zip(row, texts, strict=True)]
            for row, texts in zip(rows, own, strict=True)
        ]

    def key(self) -> dict[str, object]:
        """What the prompts depend on besides the image."""
        texts = None if self.texts_of is None else self.texts_of.key()
        return {"prompts": "expert", "draw": vars(self.draw), "seed": self.seed, "texts": texts}
