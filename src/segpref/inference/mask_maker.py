"""The masks of an image, from what is on disk to what is on disk: everything that a worker does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segpref.data.source import Source
from segpref.data.volumes import is_nifti
from segpref.inference.case_masks import CaseMasks
from segpref.inference.mask_writing import write_mask
from segpref.inference.user_prompts import UserPrompts, prompted_with
from segpref.inference.windows import whole_network
from segpref.memory import Setting
from segpref.policies import TunablePolicy
from segpref.policies.model_formats import OpenModel
from segpref.prompts import prompted
from segpref.types import Case

__all__ = ["MaskMaker", "MaskOptions", "like"]


@dataclass(frozen=True)
class MaskOptions:
    """How masks are made; see :func:`~segpref.inference.predict.predict_folder`."""

    patch: Sequence[int] | None = None
    overlap: float = 0.5
    batch_size: int = 8
    prompts: UserPrompts = field(default_factory=UserPrompts)
    carry: bool = False
    reorient: bool = True

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
        carry = self._options.carry and case.image.ndim == 4
        given = self._options.prompts.moved(source, case, self._card.preparation)
        name, policy = source.images[0], self.policy
        if given.slice is not None:
            mask = self._masks.carried(prompted(policy), case, name, given.prompts, given.slice)
        elif given.prompts:
            with prompted_with(policy, given.prompts):
                if carry:
                    mask = self._masks.carried(prompted(policy), case, name)
                else:
                    mask = self._masks(case, name, turn=False)
        elif carry:
            mask = self._masks.carried(prompted(policy), case, name)
        else:
            mask = self._masks(case, name)
        return write_mask(path, mask, self._card.label_space, like(source, case))


def like(source: Source, case: Case) -> Path | Case:
    """What tells the geometry: a NIfTI header goes over as it is, of other formats the case knows."""
    return source.images[0] if is_nifti(source.images[0]) else case
