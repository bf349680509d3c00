"""A folder of preferences with the masks that they are about: what goes to others, and comes back.

Its files are those of :mod:`segpref.preferences.exchange_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from segpref.checking import check_type
from segpref.data.cache import write_atomically
from segpref.disk import Damaged, cannot_read, from_checked_json, to_checked_json
from segpref.preferences.candidates import content_id
from segpref.preferences.exchange_rows import (
    Form,
    order_of_row,
    preference_of_row,
    read_table,
    rows_by_table,
    table_file,
    write_table,
)
from segpref.preferences.record import Preference, is_content_id
from segpref.types import Candidate, SegprefError, Slate

__all__ = ["PreferenceFolder", "save_mask", "write_preferences"]

_TABLES = ("preferences", "ratings", "undecided")
_VERSION = 1


def save_mask(folder: Path, mask: UInt8[np.ndarray, "field *space"], name: str) -> None:
    """Keep a mask under its content id, if it is not there."""
    file = folder / "masks" / f"{name}.npy"
    if not file.exists():
        buffer = BytesIO()
        np.save(buffer, np.ascontiguousarray(mask, np.uint8), allow_pickle=False)
        write_atomically(file, buffer.getvalue())


def write_preferences(
    folder: Path,
    records: Sequence[Preference],
    *,
    model_digest: str,
    cases: Sequence[str],
    anchors: Mapping[str, str],
    form: Form = "jsonl",
    model: str = "",
) -> None:
    """Write the tables of a folder whose masks are there (:func:`save_mask`).

    Args:
        folder: in which they go.
        records: in the order in which they count.
        model_digest: of the weights of the model that made the masks.
        cases: of the set that the masks are of, in its order.
        anchors: content id of the model's own mask of each case, as far as they are known.
        form: of the tables.
        model: where that model is.
    """
    names = {one for record in records for one in record.candidates}
    for name, rows in rows_by_table(records, {one: f"masks/{one}.npy" for one in names}).items():
        write_table(folder, name, rows, form)
    about = {
        "format_version": _VERSION, "model": model, "model_digest": model_digest,
        "cases": list(cases), "anchors": dict(anchors),
    }  # fmt: skip
    write_atomically(folder / "about.json", to_checked_json(about))


def _check_about(about: Mapping[str, Any], file: Path) -> None:
    """Names of masks lead to files of the folder alone."""
    anchors = about.get("anchors")
    try:
        check_type("cases", about.get("cases"), list[str])
        check_type("anchors", anchors, dict[str, str])
        check_type("model_digest", about.get("model_digest"), str)
    except SegprefError as error:
        raise SegprefError(f"{file} can't be used ({error}): export it again") from error
    if strange := [one for one in anchors.values() if not is_content_id(one)]:  # type: ignore[union-attr]
        raise SegprefError(
            f"{file} names the mask {strange[0][:60]!r}, which is no content id: export it again"
        )


@dataclass(frozen=True)
class PreferenceFolder:
    """A folder of preferences, opened.

    Args:
        path: of the folder.
        records: in their order.
        about: what its ``about.json`` says.
    """

    path: Path
    records: Sequence[Preference]
    about: Mapping[str, Any]

    @classmethod
    def is_one(cls, path: Path) -> bool:
        """Whether there is such a folder."""
        return (path / "about.json").is_file()

    @classmethod
    def open(cls, path: Path) -> PreferenceFolder:
        """Read it.

        Raises:
            SegprefError: no such folder, or files that are damaged.
        """
        file = path / "about.json"
        try:
            about = from_checked_json(file.read_bytes())
        except Damaged as error:
            raise SegprefError(
                f"{file} is not what was written ({error}): export it again"
            ) from error
        except OSError as error:
            raise cannot_read(file, error) from error
        if about.get("format_version") != _VERSION:
            raise SegprefError(f"{file} is of another version of segpref: export it again")
        _check_about(about, file)
        rows = [
            row
            for name in _TABLES
            if (table := table_file(path, name)) is not None
            for row in read_table(table)
        ]
        told = [
            (preference_of_row(row, at), order_of_row(row, n, at))
            for n, (at, row) in enumerate(rows)
        ]
        return cls(path, [record for record, _ in sorted(told, key=lambda one: one[1])], about)

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases of the set, in its order."""
        return tuple(self.about["cases"])

    @property
    def model_digest(self) -> str:
        """Of the model that made the masks."""
        return str(self.about["model_digest"])

    def mask(self, name: str) -> UInt8[np.ndarray, "field *space"]:
        """A mask by its content id.

        Raises:
            SegprefError: it is missing, or another one has its name.
        """
        file = self.path / "masks" / f"{name}.npy"
        try:
            mask: np.ndarray = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError) as error:  # of a size that is not there
            raise SegprefError(
                f"{file} can't be read ({str(error)[:100]}): export the preferences again"
            ) from error
        if mask.dtype != np.uint8 or content_id(mask) != name:
            raise SegprefError(f"{file} is another mask than was written: export them again")
        return mask

    def slates(self) -> Callable[[str], Slate]:
        """The slate of every case: its anchor, where that is known, and the masks that were judged."""
        names: dict[str, dict[str, None]] = {case: {} for case in self.cases}
        anchors = self.about["anchors"]
        for case, anchor in anchors.items():
            names.setdefault(case, {})[anchor] = None
        for record in self.records:
            names.setdefault(record.case, {}).update(dict.fromkeys(record.candidates))
        some = next((one for own in names.values() for one in own), None)
        if some is None:
            raise SegprefError(f"{self.path} holds no preferences: check the folder")
        nothing = np.zeros_like(self.mask(some))

        def slate(case: str) -> Slate:
            masks = [self.mask(name) for name in names.get(case, ())]
            if any(mask.shape != masks[0].shape for mask in masks):
                raise SegprefError(
                    f"{self.path} holds masks of different sizes of {case}, which can't be one set: "
                    "export the preferences again"
                )
            if case not in anchors:
                masks.insert(0, np.zeros_like(masks[0]) if masks else nothing)
            made = [Candidate("recorded", {"number": number}) for number in range(len(masks))]
            return Slate(np.stack(masks), tuple(made))

        return slate
