"""Prompts that a user gives for images on disk, in place of a promptable policy's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpref.data.preparation import Preparation
from segpref.data.prepared import ImagePreparation
from segpref.data.source import Source
from segpref.prompts import FixedPrompts, Prompt, in_prepared, prompted
from segpref.trust import read_json
from segpref.types import Case, Predictor, SegprefError

__all__ = ["ImagePrompts", "UserPrompts", "prompted_with", "read_prompts"]


_KEYS = {"box", "points", "text", "slice"}


@dataclass(frozen=True)
class ImagePrompts:
    """The prompts of one image, in the pixels of its file.

    Args:
        prompts: one per structure; none where nothing is given.
        slice: of a volume, the slice that they are drawn on, from 0; from there they are carried on.
            Texts are drawn nowhere, and go for every slice where it is None.
    """

    prompts: tuple[Prompt, ...] = ()
    slice: int | None = None

    @property
    def drawn(self) -> bool:
        """Whether there is a box or a point."""
        return any(prompt.box is not None or prompt.points for prompt in self.prompts)


class UserPrompts:
    """Prompts of images.

    An image without given prompts is asked with the policy's own.

    Args:
        every: for every image.
        named: by file name or name without ending, in place of ``every``.
    """

    def __init__(
        self, every: ImagePrompts = ImagePrompts(), named: Mapping[str, ImagePrompts] | None = None
    ) -> None:
        self.every = every
        self.named = dict(named or {})

    def check(self, model: Predictor, sources: Sequence[Source]) -> None:
        """Refuse what no image could be asked with, before any work.

        Raises:
            SegprefError: a model that takes no prompts, another number of structures, a name that no
                image has, or a text that the model can't read.
        """
        rows = [one.prompts for one in (self.every, *self.named.values()) if one.prompts]
        if not rows:
            return
        asked = prompted(model)
        structures = asked.label_space.structures
        for row in rows:
            if len(row) != len(structures):
                raise SegprefError(
                    f"the model draws {len(structures)} structure(s) ({', '.join(structures)}) and was "
                    f"given {len(row)} prompt(s): give one per structure, in this order, in a file of "
                    "prompts"
                )
        known = {name for source in sources for name in _names(source)}
        if unknown := sorted(set(self.named) - known):
            raise SegprefError(
                f"prompts name {unknown[0]!r}, but there is no such image: name the image's file"
            )
        asked.read([prompt.text for row in rows for prompt in row if prompt.text is not None])

    def of(self, source: Source) -> ImagePrompts:
        """What is given for an image."""
        found = (self.named[name] for name in _names(source) if name in self.named)
        return next(found, self.every)

    def moved(self, source: Source, case: Case, preparation: ImagePreparation) -> ImagePrompts:
        """What is given for an image, in the frame of the policy's input.

        Raises:
            SegprefError: a prompt outside the image, a volume without the slice, or an image with one.
        """
        given = self.of(source)
        if not given.prompts:
            return given
        # Promptable models are prepared for by segpref's own preparation.
        assert isinstance(preparation, Preparation)
        volume = case.image.ndim == 4
        if volume and given.drawn and given.slice is None:
            raise SegprefError(
                f"{source.images[0]} is a volume: say on which slice the prompts are drawn, from 0 "
                '(--slice, or "slice" in the file of prompts), and they are carried on from there'
            )
        if volume and given.slice is not None and not given.slice < case.image.shape[3]:
            raise SegprefError(
                f"{source.images[0]} has {case.image.shape[3]} slices, counted from 0: there is no "
                f"slice {given.slice}"
            )
        if not volume and given.slice is not None:
            raise SegprefError(f"{source.images[0]} is not a volume: leave the slice out")
        try:
            return ImagePrompts(in_prepared(given.prompts, case, preparation), given.slice)
        except SegprefError as error:
            raise SegprefError(f"{source.images[0]}: {error}") from error


@contextmanager
def prompted_with(model: Predictor, prompts: Sequence[Prompt]) -> Iterator[None]:
    """Within it the model uses these prompts, or its own where there are none."""
    if not prompts:
        yield
        return
    asked = prompted(model)
    own, asked.prompter = asked.prompter, FixedPrompts(prompts)
    try:
        yield
    finally:
        asked.prompter = own


def read_prompts(path: Path) -> dict[str, ImagePrompts]:
    """Prompts of a JSON file: ``{"scan1.png": {"box": [10, 20, 60, 80], "points": [[30, 40, 1]]}}``.

    A prompt has ``box``, ``points`` and ``text``, or some of them, and on a volume the ``slice`` that
    it is drawn on; for several structures give a list of prompts, one per structure, of one slice.

    Raises:
        SegprefError: a file that can't be read, or something else than that.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise SegprefError(f"{path} holds no object: give prompts by the names of images")
    return {name: _given(row, f"{path}, {name}") for name, row in content.items()}


def _given(written: Any, place: str) -> ImagePrompts:
    rows = written if isinstance(written, list) else [written]
    prompts = tuple(_prompt(one, place) for one in rows)
    slices = [one.get("slice") for one in rows]
    start = slices[0] if slices and all(one == slices[0] for one in slices) else -1
    if start is not None and (not isinstance(start, int) or start < 0):
        raise SegprefError(
            f"{place}: a slice is a whole number from 0, and the same for all structures"
        )
    return ImagePrompts(prompts, start)


def _prompt(written: Any, place: str) -> Prompt:
    if not isinstance(written, dict) or set(written) - _KEYS or not written:
        raise SegprefError(
            f"{place}: a prompt is an object with box, points or text, not {written!r:.80}"
        )
    try:
        return Prompt(
            None if written.get("box") is None else tuple(map(float, written["box"])),  # type: ignore[arg-type]
            tuple((float(x), float(y), int(label)) for x, y, label in written.get("points") or ()),
            text=None if written.get("text") is None else str(written["text"]),
        )
    except SegprefError as error:
        raise SegprefError(f"{place}: {error}") from error
    except (TypeError, ValueError) as error:
        raise SegprefError(
            f"{place}: a box is four numbers and a point three (x, y and 1 or 0), not {written!r:.80}"
        ) from error


def _names(source: Source) -> tuple[str, ...]:
    return source.images[0].name, source.id
