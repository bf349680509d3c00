"""Versions of the model card: what older files say is brought into today's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segpref.types import SegprefError

__all__ = ["FORMAT", "current"]

FORMAT = 2
"""Of the cards that are written. 1 has no number of its own, and names classes where they were."""

_MOVED = {
    "segpref.prompts.OpenClip": "segpref.contrib.prompts.OpenClip",
    "segpref.prompts.clip.OpenClip": "segpref.contrib.prompts.OpenClip",
}


def current(raw: Mapping[str, Any], file: object) -> dict[str, Any]:
    """A card's content as a file of today would have it.

    Args:
        raw: what the file says.
        file: what it stands in, for messages.

    Raises:
        SegprefError: it was written by a later version of segpref.
    """
    written = int(raw.get("format", 1))
    if written > FORMAT:
        raise SegprefError(
            f"{file} was written by a later version of segpref (format {written} of its card, where "
            f"this one knows {FORMAT}): update segpref"
        )
    content = dict(raw)
    if written < FORMAT:
        # The oldest files know segmenters alone.
        policy = raw.get("policy", {"init_args": {"tail": raw.get("tail")}})
        content["policy"] = _renamed(policy)
    return content


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _MOVED.get(one, one)
            if name == "class_path" and isinstance(one, str)
            else _renamed(one)
            for name, one in value.items()
        }
    return [_renamed(one) for one in value] if isinstance(value, list) else value
