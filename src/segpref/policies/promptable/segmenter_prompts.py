"""Prompts from another segmenter: boxes around what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from segpref.checking import checked
from segpref.data.prepared import ImagePreparation
from segpref.policies.checkpoints import load_segmenter, read_card
from segpref.policies.tunable import TunablePolicy
from segpref.prompts import Prompt, PromptedModel, box_of, largest_components, points_in
from segpref.prompts.sources import image_digest, whole
from segpref.types import LabelSpace, SegprefError

__all__ = ["SegmenterPrompts"]


@checked(margin={"least": 0}, points={"least": 0}, components={"least": 1}, seed={"least": 0})
class SegmenterPrompts:
    """The box around what a segmenter finds, for a model that follows boxes well.

    A small network that is right about where a structure is, and a large one that is right about its
    edge. The segmenter sees the very images that the promptable model sees, so both have one
    preparation. Where it finds nothing the box is the whole image, without points.

    Args:
        model: run folder or model file of a segmenter that segpref has trained. It is opened when the
            first image is asked about.
        margin: pixels by which the box is wider on every side.
        points: how many points are drawn from what it finds; their chance depends on the image and
            the seed alone.
        components: how many of its connected components count, the largest first.
        structures: which of its structures, in the order of the promptable model's; all if empty.
        seed: of the points.

    Raises:
        SegprefError: no such model, or none of its structures has that name.
    """

    def __init__(
        self,
        model: Path | str,
        margin: float = 0.0,
        points: int = 0,
        components: int = 1,
        structures: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.model = Path(model)
        if self.model.exists() and not (self.model.is_dir() or self.model.is_file()):
            raise SegprefError(f"{model} is no file: name a run folder or a model file")
        self._card = read_card(self.model)
        self.margin = margin
        self.points = points
        self.components = components
        known = self._card.label_space.structures
        self.structures = tuple(structures) or known
        self.seed = seed
        if unknown := [name for name in self.structures if name not in known]:
            raise SegprefError(
                f"{model} segments {', '.join(known)}, not {unknown[0]}: correct the structures of its "
                "prompts"
            )
        self._chosen = [known.index(name) for name in self.structures]

    def check(self, label_space: LabelSpace, preparation: ImagePreparation) -> None:
        """Refuse to prompt a model of other structures, or of images prepared otherwise.

        Raises:
            SegprefError: it is one.
        """
        if label_space.structures != self.structures:
            raise SegprefError(
                f"{self.model} prompts for {', '.join(self.structures)}, and the model that it prompts "
                f"draws {', '.join(label_space.structures)}: name its structures in that order"
            )
        own = self._card.preparation
        if own != preparation:
            raise SegprefError(
                f"{self.model} sees other images than the model that it prompts"
                f"{_differences(own, preparation)}: train it with the same preparation"
            )

    def __call__(self, images: Float[Tensor, "B channel H W"]) -> list[list[Prompt]]:
        """One prompt per image and structure.

        Raises:
            SegprefError: the segmenter needs prompts itself.
        """
        space = self._segmenter.label_space
        masks = space.decode(self._segmenter.logits(images)).cpu().numpy()
        found = space.structure_masks(masks, field_axis=1)[:, self._chosen]
        return [
            [self._prompt(image, mask, number) for number, mask in enumerate(row)]
            for image, row in zip(images, found, strict=True)
        ]

    def key(self) -> dict[str, object]:
        """What the prompts depend on besides the image."""
        return {
            "prompts": "segmenter",
            "model": self._segmenter.digest(),
            "margin": self.margin,
            "points": self.points,
            "components": self.components,
            "structures": self.structures,
            "seed": self.seed,
        }

    @cached_property
    def _segmenter(self) -> TunablePolicy:
        found = load_segmenter(self.model)
        if isinstance(found, PromptedModel):
            raise SegprefError(
                f"{self.model} needs prompts itself: name a segmenter that needs none"
            )
        return found

    def _prompt(
        self, image: Float[Tensor, "channel H W"], mask: Bool[np.ndarray, "H W"], number: int
    ) -> Prompt:
        kept = largest_components(mask, self.components)
        box = box_of(kept, self.margin)
        if box is None:
            return Prompt(whole(mask.shape))
        if not self.points:
            return Prompt(box)
        key = int(image_digest(image)[:15], 16)
        return Prompt(
            box, points_in(kept, self.points, np.random.default_rng([self.seed, number, key]))
        )


def _differences(one: ImagePreparation, other: ImagePreparation) -> str:
    """Which settings of two preparations differ, in brackets; empty where they are of two kinds."""
    if type(one) is not type(other):
        return ""
    names = [
        field.name
        for field in fields(one)  # type: ignore[arg-type]
        if getattr(one, field.name) != getattr(other, field.name)
    ]
    return f" ({', '.join(names)})"
