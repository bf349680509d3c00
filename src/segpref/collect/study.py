"""The folder of a study: what is asked, how it is shown, and what is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segpref.collect.contents import Contents, Mode
from segpref.collect.contents_file import (
    contents_from_json,
    contents_to_json,
    made_of,
)
from segpref.collect.displays import Display, bytes_of, changed, display_file
from segpref.data.cache import write_atomically
from segpref.data.splits import Split
from segpref.disk import Damaged, from_checked_json, to_checked_json
from segpref.types import LabelSpace, Region, SegprefError

__all__ = ["DATABASE", "StudyFolder", "StudyNote"]

DATABASE = "votes.sqlite"
"""Where a study keeps its votes if nothing else is said."""

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class StudyNote:
    """What is known of a study besides its contents.

    Args:
        mode: what is asked.
        title: at the top of the page.
        question: in words, as raters read it.
        instructions: how to answer.
        label_space: what the masks mean.
        model: path of the model that made the masks, as it was given.
        model_digest: of its weights.
        made_at: when, in UTC.
        votes: how many raters are to answer each pair.
        settings: how it was made.
    """

    mode: Mode
    title: str
    question: str
    instructions: str
    label_space: LabelSpace
    model: str
    model_digest: str
    made_at: str
    votes: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        content = asdict(self)
        del content["label_space"]["unlabelled"]  # which is of a dataset
        return {"format_version": VERSION, **content}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StudyNote:
        """The note back.

        Raises:
            Damaged: it is none, or of another version.
        """
        if content.get("format_version") != VERSION:
            raise Damaged("it is of another version of segpref")
        try:
            space = dict(content["label_space"])
            regions = tuple(Region(one["name"], tuple(one["values"])) for one in space["regions"])
            label_space = LabelSpace(
                space["kind"], tuple(space["names"]), regions, tuple(space["on_disk"])
            )
            own = {k: v for k, v in content.items() if k not in ("format_version", "label_space")}
            return made_of(cls, {"label_space": label_space, **own})
        except (KeyError, TypeError, ValueError, AttributeError, SegprefError) as error:
            raise Damaged(f"it describes no study ({error})") from error


class StudyFolder:
    """A study on disk, opened.

    Args:
        path: its folder.

    Raises:
        SegprefError: no study there, or files that were changed.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        file = self.path / "study.json"
        if not file.is_file():
            raise SegprefError(f"{self.path} holds no study: make one with segpref collect init")
        try:
            self.note = StudyNote.from_json(from_checked_json(bytes_of(file)))
        except Damaged as error:
            raise changed(file, error) from error

    @classmethod
    def create(cls, path: Path, note: StudyNote, contents: Contents) -> StudyFolder:
        """Finish a study whose masks and images are in place.

        Args:
            path: folder in which ``base.safetensors``, the standing sets and the display are.
            note: what is known of it.
            contents: what it asks.
        """
        write_atomically(path / "contents.json", contents_to_json(contents))
        write_atomically(path / "study.json", to_checked_json(note.to_json()))
        return cls(path)

    @property
    def base(self) -> Path:
        """The model that made the masks, in segpref's format."""
        return self.path / "base.safetensors"

    @property
    def database(self) -> Path:
        """Where votes are kept if nothing else is said."""
        return self.path / DATABASE

    @property
    def slates(self) -> Path:
        """The standing set that is trained on, as ``training.align(slates=...)`` takes it."""
        return self.path / "set"

    @property
    def held_out(self) -> Path:
        """The standing set of the patients whose votes choose the checkpoint."""
        return self.path / "choose"

    @property
    def train_cases(self) -> tuple[str, ...]:
        """Cases of :attr:`slates`, in its order: the pool that it was made of. Empty where none is."""
        from segpref.collect.standing import kept_cases

        return kept_cases(self.slates)

    @property
    def held_out_cases(self) -> tuple[str, ...]:
        """Cases of :attr:`held_out`, in its order."""
        from segpref.collect.standing import kept_cases

        return kept_cases(self.held_out)

    def contents(self) -> Contents:
        """Everything that it asks."""
        return self._contents

    @cached_property
    def _contents(self) -> Contents:
        file = self.path / "contents.json"
        try:
            return contents_from_json(bytes_of(file))
        except Damaged as error:
            raise changed(file, error) from error

    def read_display(self, asset: str) -> np.ndarray:
        """An image or a mask as it is shown, ``[z, y, x]`` or ``[z, y, x, 3]``.

        Args:
            asset: its opaque name.

        Raises:
            SegprefError: no such asset, or its file is damaged.
        """
        return self.open_display(asset).whole()

    def open_display(self, asset: str) -> Display:
        """An image or a mask of which only what is asked for is unpacked.

        Args:
            asset: its opaque name.

        Raises:
            SegprefError: no such asset, or its file is damaged.
        """
        return Display(display_file(self.path, asset))

    def erase(self, patient: str) -> dict[str, int]:
        """Remove a patient's images, masks and pairs from every file of the folder; votes are apart.

        The standing sets are written anew without the patient's cases, and the patient is taken out of
        the split. It can be repeated: a call that was stopped is finished by the next one.

        Returns:
            How many images, masks and pairs there were.
        """
        from segpref.collect.standing import drop_cases

        contents = self.contents()
        items = {one.id: one for one in contents.items if one.patient == patient}
        masks = [one for one in contents.masks if one.item in items]
        pairs = [one for one in contents.pairs if one.item in items]
        assets = [one.asset for one in masks] + [one.display.asset for one in items.values()]
        for asset in assets:
            display_file(self.path, asset).unlink(missing_ok=True)
        cases = {one.case for one in items.values()}
        for folder in (self.slates, self.held_out):
            drop_cases(folder, lambda case: case in cases)
        if (split := self.path / "split.json").is_file():
            Split.load(split).without(patient).save(split)
        left = Contents(
            items=tuple(one for one in contents.items if one.id not in items),
            masks=tuple(one for one in contents.masks if one.item not in items),
            pairs=tuple(one for one in contents.pairs if one.item not in items),
        )
        write_atomically(self.path / "contents.json", contents_to_json(left))
        self.__dict__.pop("_contents", None)
        return {"images": len(items), "masks": len(masks), "pairs": len(pairs)}
