"""Automatic prompts, from the image and the names of its structures alone (Sec. 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from segpref.checking import checked
from segpref.prompts.answers import QUESTION, Answerer
from segpref.prompts.clip import ContrastiveModel
from segpref.prompts.crf import DenseCRF
from segpref.prompts.descriptions import Descriptions
from segpref.prompts.masks import box_of, largest_components, points_in
from segpref.prompts.prompt import Box, Prompt
from segpref.prompts.saliency import GScoreCAM, Saliency
from segpref.types import SegprefError

__all__ = ["SaliencyPrompts", "Target", "WholeImage", "image_digest"]


@checked()
@dataclass(frozen=True)
class Target:
    """A structure that is looked for.

    Args:
        text: what the CLIP-like model is asked for, such as *benign breast tumor*.
        components: how many connected components it may have (2 for the lungs).
        description: name in the descriptions; ``text`` if None.
    """

    text: str
    components: int = 1
    description: str | None = None

    def __post_init__(self) -> None:
        if self.components < 1:
            raise SegprefError(f"a target needs at least 1 component, not {self.components}")


@checked(structures={"least": 1})
class WholeImage:
    """The box is the image and there is nothing else: what a model does that is told nothing.

    Args:
        structures: number of structures.
        texts: one text per structure, or none.
    """

    def __init__(self, structures: int = 1, texts: Sequence[str] = ()) -> None:
        if texts and len(texts) != structures:
            raise SegprefError(f"{structures} structure(s) need as many texts, not {len(texts)}")
        self.structures = structures
        self.texts = tuple(texts)

    def __call__(self, images: Float[Tensor, "B channel H W"]) -> list[list[Prompt]]:
        """One prompt per image and structure."""
        box = whole(images.shape[-2:])
        row = [Prompt(box, text=text) for text in self.texts or [None] * self.structures]
        return [list(row) for _ in images]

    def key(self) -> dict[str, object]:
        """What the prompts depend on besides the image."""
        return {"prompts": "whole-image", "structures": self.structures, "texts": self.texts}


@checked(points={"least": 0}, least_share={"least": 0, "most": 1}, seed={"least": 0})
class SaliencyPrompts:
    """Box, points and text from vision-language models, as in Konwer et al. (2025, Sec. 3.1).

    Saliency of the target's text, sharpened by a dense CRF and cut at 1/2; the largest one or two
    components are a coarse mask; its box is the box prompt (one box around both components, for a
    prompt of SAM has one) and random pixels of it are the points. The text prompt is the answer of
    a question answering model, where there is one, followed by the general description. The
    points' chance depends on the image and the seed alone, so that equal images have equal prompts.

    Where nothing is salient the box is the whole image, without points: the model is told so little
    as it is known. Saliency is stretched to 0..1 first, so this happens only where it is flat.

    Args:
        clip: compares image and text.
        targets: one per structure of the label space, in its order.
        saliency: how the map is made; gScoreCAM, as in the paper, if None.
        crf: sharpens it; its default settings if None.
        points: how many points; 0 for none. The paper does not give its number.
        use_box: whether to give the box (Table 1 leaves parts out).
        descriptions: general descriptions; None for no such text.
        answerer: answers what the shape is and where; None for no such text.
        question: put to the answerer; ``{structure}`` is the target's text.
        least_share: components below this share of the image are noise.
        seed: of the points.

    Raises:
        SegprefError: no target, a missing description, or nothing to prompt with.
    """

    def __init__(
        self,
        clip: ContrastiveModel,
        targets: Sequence[Target],
        saliency: Saliency | None = None,
        crf: DenseCRF | None = None,
        points: int = 3,
        use_box: bool = True,
        descriptions: Descriptions | None = None,
        answerer: Answerer | None = None,
        question: str = QUESTION,
        least_share: float = 0.001,
        seed: int = 0,
    ) -> None:
        if not targets:
            raise SegprefError("there is no target to look for: name one per structure")
        self.clip = clip
        self.targets = tuple(targets)
        self.saliency = saliency or GScoreCAM()
        self.crf = crf or DenseCRF()
        self.points = points
        self.use_box = use_box
        self.answerer = answerer
        self.question = question
        self.least_share = least_share
        self.seed = seed
        self._texts = [
            descriptions(target.description or target.text) if descriptions else None
            for target in self.targets
        ]
        if not (use_box or points or descriptions or answerer):
            raise SegprefError("a prompter needs a box, points or a text")

    def __call__(self, images: Float[Tensor, "B channel H W"]) -> list[list[Prompt]]:
        """One prompt per image and structure."""
        return [
            [self._prompt(image, number) for number in range(len(self.targets))]
            for image in images.detach().cpu().float()
        ]

    def coarse_mask(
        self, image: Float[Tensor, "channel H W"], number: int
    ) -> Bool[np.ndarray, "H W"]:
        """Where the structure may be, before it becomes box and points."""
        target = self.targets[number]
        found = self.saliency(self.clip, image, target.text)
        if not found.any():
            return np.zeros(tuple(image.shape[1:]), dtype=bool)
        sharp = self.crf(image, found).numpy() > 0.5
        return largest_components(sharp, target.components, self.least_share)

    def key(self) -> dict[str, object]:
        """What the prompts depend on besides the image."""
        return {
            "prompts": "saliency",
            "clip": self.clip.key(),
            "targets": [[target.text, target.components] for target in self.targets],
            "texts": self._texts,
            "saliency": self.saliency.key(),
            "crf": self.crf.key(),
            "points": self.points,
            "box": self.use_box,
            "answerer": None if self.answerer is None else self.answerer.key(),
            "question": self.question,
            "least_share": self.least_share,
            "seed": self.seed,
        }

    def _prompt(self, image: Float[Tensor, "channel H W"], number: int) -> Prompt:
        text = self._text(image, number)
        if not (self.use_box or self.points):
            return Prompt(text=text)
        mask = self.coarse_mask(image, number)
        box = box_of(mask)
        if box is None:
            return Prompt(whole(image.shape[1:]), text=text)
        key = int(image_digest(image)[:15], 16)
        rng = np.random.default_rng([self.seed, number, key])
        points = points_in(mask, self.points, rng)
        return Prompt(box if self.use_box else None, points, text=text)

    def _text(self, image: Float[Tensor, "channel H W"], number: int) -> str | None:
        parts = [self._texts[number]]
        if self.answerer is not None:
            asked = self.question.format(structure=self.targets[number].text)
            parts.insert(0, self.answerer(image, asked))
        return " ".join(part.strip() for part in parts if part and part.strip()) or None


def whole(shape: Sequence[int]) -> Box:
    """The box of an image of ``shape = (H, W)``."""
    height, width = shape
    return -0.5, -0.5, width - 0.5, height - 0.5


def image_digest(image: Float[Tensor, "channel H W"]) -> str:
    """Hash of an image's content: equal images have equal prompts and embeddings."""
    plain = image.detach().to("cpu", torch.float32).contiguous().numpy()
    whole_hash = hashlib.blake2b(str(plain.shape).encode(), digest_size=16)
    whole_hash.update(plain.tobytes())
    return whole_hash.hexdigest()
