"""Versions of the model card: what older files say is brought into today's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segpref.types import SegprefError

__all__ = ["FORMAT", "current"]

FORMAT = 4
"""Of the cards that are written. 1 has no number of its own, and names classes where they were; 2 knows
neither the values of labels on disk nor the geometry of the training images; up to 3, colours were
normalised channel by channel."""

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
    if written < 2:
        # The oldest files know segmenters alone.
        policy = raw.get("policy", {"init_args": {"tail": raw.get("tail")}})
        content["policy"] = _renamed(policy)
    if written < 3:
        content["label_space"] = {"on_disk": [], **raw.get("label_space", {})}
        content |= {"orientation": None, "spacing_range_mm": None}
    preparation = raw.get("preparation")
    # nnU-Net's own preparation has plans, and no such setting.
    if written < 4 and isinstance(preparation, Mapping) and "plans" not in preparation:
        content["preparation"] = {**preparation, "colour_range": "each"}
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
