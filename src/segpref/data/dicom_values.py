"""Values of DICOM tags, however they are padded; what is missing or empty is None."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segpref.types import SegprefError

__all__ = ["number_of", "numbers_of", "shown", "text_of"]


def number_of(path: Path, data: Any, tag: str) -> float | None:
    """The one number of a tag; None where it is missing or empty.

    Raises:
        SegprefError: it is no number, or there are several that differ.
    """
    values = numbers_of(path, data, tag)
    if values is None:
        return None
    if len(set(values)) > 1:
        raise SegprefError(
            f"{path} states {len(values)} values of {tag} ({shown(values)}) where one is due: export "
            "it again"
        )
    return values[0]


def numbers_of(path: Path, data: Any, tag: str) -> tuple[float, ...] | None:
    """The numbers of a tag, however they are padded; None where there are none.

    Raises:
        SegprefError: one of them is no number, or not finite.
    """
    if tag not in data:
        return None
    try:
        value = data[tag].value
        texts = np.atleast_1d(np.asarray([] if value is None else value, dtype=object)).tolist()
    except Exception:  # pydicom refuses texts that are padded with zeros, as some writers do
        raw = data.get_item(tag).value
        texts = raw.decode("ascii", "replace").split("\\") if isinstance(raw, bytes) else [raw]
    texts = [str(one).strip(" \0") for one in texts]
    if not any(texts):
        return None
    try:
        values = tuple(float(one) for one in texts)
    except ValueError:
        values = (np.nan,)
    if not np.isfinite(values).all():
        raise SegprefError(
            f"{path} states {tag} as {shown(texts)}, which is no number: export it again"
        )
    return values


def text_of(data: Any, tag: str) -> str:
    """The text of a tag, its parts separated by a backslash; empty where there is none."""
    value = data.get(tag)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return "\\".join(str(one) for one in parts).strip(" \0")


def shown(values: Any) -> str:
    """Values as a message shows them."""
    return "\\".join(f"{one:g}" if isinstance(one, float) else str(one) for one in values)
