"""Prompts that somebody gives for images on disk, in place of a promptable policy's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segpref.data.preparation import ImagePreparation, Preparation
from segpref.data.source import Source
from segpref.policies.promptable import PromptablePolicy
from segpref.prompts import FixedPrompts, Prompt, in_prepared
from segpref.types import Case, Predictor, SegprefError

__all__ = ["GivenPrompts", "read_prompts"]


class GivenPrompts:
    """Prompts of images, in the pixels of their files.

    An image without given prompts is asked with the policy's own.

    Args:
        every: one prompt per structure, for every image.
        named: by file name or name without ending, in place of ``every``.
    """

    def __init__(
        self, every: Sequence[Prompt] = (), named: Mapping[str, Sequence[Prompt]] | None = None
    ) -> None:
        self.every = tuple(every)
        self.named = dict(named or {})

    def check(self, model: Predictor, sources: Sequence[Source]) -> None:
        """Refuse what no image could be asked with, before any work.

        Raises:
            SegprefError: a model that takes no prompts, another number of structures, a name that no
                image has, or a text that the model can't read.
        """
        rows = [row for row in (self.every, *self.named.values()) if row]
        if not rows:
            return
        if not isinstance(model, PromptablePolicy):
            raise SegprefError(
                "this model is not asked by prompts, it finds its structures by itself: leave the "
                "prompts out, or give a promptable model"
            )
        structures = model.label_space.structures
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
                f"prompts are given for {unknown[0]!r}, but there is no such image: name the image's "
                "file"
            )
        model.read([prompt.text for row in rows for prompt in row if prompt.text is not None])

    def of(self, source: Source) -> tuple[Prompt, ...]:
        """One prompt per structure of an image; empty where none is given."""
        found = (self.named[name] for name in _names(source) if name in self.named)
        return tuple(next(found, self.every))

    @contextmanager
    def asked(
        self, model: Predictor, source: Source, case: Case, preparation: ImagePreparation
    ) -> Iterator[None]:
        """Within it the model is asked with what is given for this image.

        Raises:
            SegprefError: a prompt outside the image, or a volume.
        """
        prompts = self.of(source)
        if not prompts:
            yield
            return
        # Promptable models are prepared for by segpref's own preparation.
        assert isinstance(model, PromptablePolicy)
        assert isinstance(preparation, Preparation)
        if case.image.ndim != 3:
            raise SegprefError(
                f"{source.images[0]} is a volume, and one prompt does not fit all of its slices: carry "
                "it from slice to slice with segpref.inference.propagate"
            )
        try:
            moved = in_prepared(prompts, case, preparation)
        except SegprefError as error:
            raise SegprefError(f"{source.images[0]}: {error}") from error
        own, model.prompter = model.prompter, FixedPrompts(moved)
        try:
            yield
        finally:
            model.prompter = own


def read_prompts(path: Path) -> dict[str, tuple[Prompt, ...]]:
    """Prompts of a JSON file: ``{"scan1.png": {"box": [10, 20, 60, 80], "points": [[30, 40, 1]]}}``.

    A prompt has ``box``, ``points`` and ``text``, or some of them; for several structures give a list
    of prompts, one per structure.

    Raises:
        SegprefError: a file that can't be read, or something else than that.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SegprefError(
            f"the prompts {path} can't be read ({error}): give a JSON file"
        ) from error
    if not isinstance(content, dict):
        raise SegprefError(f"{path} holds no object: give prompts by the names of images")
    return {
        name: tuple(
            _prompt(one, f"{path}, {name}") for one in (row if isinstance(row, list) else [row])
        )
        for name, row in content.items()
    }


def _prompt(written: Any, place: str) -> Prompt:
    if not isinstance(written, dict) or set(written) - {"box", "points", "text"} or not written:
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
