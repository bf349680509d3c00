"""The masks of an image, from what is on disk to what is on disk: everything that a worker does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.data.source import Source
from segpref.inference.case_masks import CaseMasks, Ready
from segpref.inference.mask_formats import AS_IMAGES, MaskFormat
from segpref.inference.user_prompts import ImagePrompts, UserPrompts, prompted_with
from segpref.inference.windows import whole_network
from segpref.memory import Setting
from segpref.policies import TunablePolicy
from segpref.policies.model_formats import OpenModel
from segpref.prompts import prompted
from segpref.types import Case

__all__ = ["MaskMaker", "MaskOptions"]


@dataclass(frozen=True)
class MaskOptions:
    """How masks are made; see :func:`~segpref.inference.predict.predict_folder`."""

    patch: Sequence[int] | None = None
    overlap: float = 0.5
    batch_size: int = 8
    prompts: UserPrompts = field(default_factory=UserPrompts)
    carry: bool = False
    reorient: bool = True
    format: MaskFormat = AS_IMAGES

    @property
    def sizes(self) -> Mapping[str, Setting]:
        """What memory grows with, by the names of the options."""
        return {"--batch_size": self.batch_size, "--patch": self.patch}


class MaskMaker:
    """Writes the masks of images that were read.

    Args:
        opened: the model.
        options: how masks are made.

    Raises:
        SegprefError: the model does not suit the options.
    """

    def __init__(self, opened: OpenModel, options: MaskOptions) -> None:
        policies, self._card, self._options = opened.policies(), opened.card, options
        preparation = self._card.preparation
        network = whole_network(
            policies, preparation, opened.mirroring, options.patch, options.overlap,
            options.batch_size,
        )  # fmt: skip
        self._masks = CaseMasks(network, self._card, options.reorient)
        self.policy: TunablePolicy = policies[0]
        if options.carry:
            prompted(self.policy)

    def __call__(self, source: Source, path: Path, case: Case) -> Sequence[Path]:
        """Write the masks of an image to this file, or to one for each structure, and return these."""
        return self.write(source, path, case, self.mask(source, case))

    def ready(self, source: Source, case: Case) -> Ready | None:
        """The image as the network takes it; None where it is asked by prompts of its own."""
        given = self._given(source, case)
        own_way = given.slice is not None or given.prompts or self._carries(case)
        return None if own_way else self._masks.ready(case, source.images[0])

    def together(self, ready: Ready) -> int:
        """How many images of this size go through the network at once."""
        return self._masks.together(ready)

    def one_pass(self, ready: Ready) -> bool:
        """Whether the image is one input of the network, and :meth:`logits` may be asked."""
        return self._masks.one_pass(ready)

    def logits(self, images: Sequence[Ready]) -> Float[Tensor, "image C *grid"]:
        """The network's output for images of one size, each of one input."""
        items = [one.items for one in images if one.items is not None]
        return self._masks.logits(items[0] if len(items) == 1 else np.concatenate(items))

    def mask(
        self, source: Source, case: Case, ready: Ready | None = None
    ) -> UInt8[np.ndarray, "field *space"]:
        """The mask of an image, which may be prepared already."""
        given, name, policy = self._given(source, case), source.images[0], self.policy
        if given.slice is not None:
            return self._masks.carried(prompted(policy), case, name, given.prompts, given.slice)
        if given.prompts:
            with prompted_with(policy, given.prompts):
                if self._carries(case):
                    return self._masks.carried(prompted(policy), case, name)
                return self._masks(case, name, turn=False)
        if self._carries(case):
            return self._masks.carried(prompted(policy), case, name)
        return self._masks.mask(ready or self._masks.ready(case, name))

    def finish(
        self,
        source: Source,
        path: Path,
        case: Case,
        ready: Ready,
        logits: Float[Tensor, "1 C *grid"],
    ) -> Sequence[Path]:
        """Write the masks of an image whose logits are there already, and return their files."""
        return self.write(source, path, case, self._masks.mask_of(ready, logits))

    def write(
        self, source: Source, path: Path, case: Case, mask: UInt8[np.ndarray, "field *space"]
    ) -> Sequence[Path]:
        """Write the masks of an image and return their files."""
        return self._options.format.write(path, mask, self._card.label_space, source, case)

    def _given(self, source: Source, case: Case) -> ImagePrompts:
        return self._options.prompts.moved(source, case, self._card.preparation)

    def _carries(self, case: Case) -> bool:
        return self._options.carry and case.image.ndim == 4
