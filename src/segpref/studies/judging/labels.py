"""Judges without training: existing masks and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segpref.checking import checked
from segpref.data.cache import write_atomically
from segpref.data.index import image_files
from segpref.judges import MasksJudge, OracleJudge
from segpref.studies.judging.inputs import JudgeInputs
from segpref.types import Judge, SegprefError

__all__ = ["Masks", "Oracle"]

_CONTENT = "masks.txt"


@checked()
@dataclass(frozen=True)
class Masks:
    """Masks that another program made of the images.

    Args:
        folder: of the masks, named as :class:`~segpref.data.MaskFolder` describes.
    """

    folder: Path
    of_base = False

    def train(self, inputs: JudgeInputs) -> None:
        """Nothing, but a folder without masks is refused now, and the hashes of the masks are kept."""
        inputs.masks(self.folder)
        inputs.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(inputs.folder / _CONTENT, self._content(inputs))

    def build(self, inputs: JudgeInputs) -> Judge:
        """IoU with the masks.

        Raises:
            SegprefError: the masks are no longer those that this study has begun with.
        """
        if (inputs.folder / _CONTENT).read_bytes() != self._content(inputs):
            raise SegprefError(
                f"the masks in {self.folder} were changed since this study has begun: put the old ones "
                "back, or write the study into a new folder"
            )
        return MasksJudge(inputs.masks(self.folder))

    def _content(self, inputs: JudgeInputs) -> bytes:
        return inputs.cache.digest_of_files(image_files(self.folder)).encode()


@checked()
@dataclass(frozen=True)
class Oracle:
    """Knows the truth: not a method, but what a perfect judge would lead to.

    Args:
        measure: ``iou``, or ``dice``, by which MAPO ranks.
    """

    measure: Literal["iou", "dice"] = "iou"
    of_base = False

    def train(self, inputs: JudgeInputs) -> None:
        """Nothing."""

    def build(self, inputs: JudgeInputs) -> Judge:
        """IoU or Dice with the ground truth."""
        return OracleJudge(inputs.judge_cases.label_space, self.measure)
