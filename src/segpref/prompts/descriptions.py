"""Text descriptions of organs and diseases: those shipped with segpref or the user's own."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from segpref.checking import checked
from segpref.types import SegprefError

__all__ = ["Descriptions"]


@checked()
class Descriptions:
    """General descriptions of structures, from a JSON object ``{structure: text}``.

    The shipped ones were written for this package and not made by a language model at run time.

    Args:
        file: the user's own; the shipped file if None.

    Raises:
        SegprefError: the file is no such object.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        shipped = files("segpref.prompts") / "descriptions.json"
        self._name = "the shipped descriptions" if file is None else str(file)
        try:
            text = shipped.read_text("utf-8") if file is None else Path(file).read_text("utf-8")
            found = json.loads(text)
        except (OSError, ValueError) as error:
            raise SegprefError(
                f"{self._name} can't be read ({error}): give a JSON file {{structure: text}}"
            ) from error
        right = isinstance(found, dict) and all(
            isinstance(value, str) and value.strip() for value in found.values()
        )
        if not right:
            raise SegprefError(
                f"{self._name} is not a JSON object of texts: write {{structure: text}} and no "
                f"empty text"
            )
        self._texts = {str(name).casefold(): str(value) for name, value in found.items()}

    def __call__(self, structure: str) -> str:
        """The description of a structure; upper and lower case are the same.

        Raises:
            SegprefError: there is none.
        """
        try:
            return self._texts[structure.casefold()]
        except KeyError:
            raise SegprefError(
                f"{self._name} know no {structure!r} (only {', '.join(self.names())}): add it "
                "to a JSON file of your own and name that file"
            ) from None

    def names(self) -> tuple[str, ...]:
        """The structures that are described, sorted."""
        return tuple(sorted(self._texts))
