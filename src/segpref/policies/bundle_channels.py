"""Names of what goes into a MONAI bundle's network and what comes out, by its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpref.types import LabelSpace, SegprefError

__all__ = ["channels_of", "label_space_of"]

_BACKGROUND = ("background", "bg")


def label_space_of(output: Mapping[str, Any], path: Path) -> LabelSpace:
    """Exclusive classes where channel 0 is the background, structures that may overlap otherwise.

    Args:
        output: its description in the metadata.
        path: of the bundle.

    Raises:
        SegprefError: the metadata do not name its channels.
    """
    names = _names(output.get("channel_def", {}), path)
    if not names:
        raise SegprefError(
            f"{path}/configs/metadata.json does not say what the outputs mean: add channel_def to "
            "network_data_format outputs pred (or, in Python, give label_space)"
        )
    exclusive = len(names) > 1 and names[0].lower() in _BACKGROUND
    return LabelSpace("multi-class" if exclusive else "multi-label", names)


def channels_of(image: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names of the channels of an image, numbers where there are none."""
    names = _names(image.get("channel_def", {}), path)
    count = int(image.get("num_channels", len(names) or 1))
    return names if len(names) == count else tuple(f"channel {n}" for n in range(count))


def _names(channels: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(channels, Mapping):
        return tuple(map(str, channels))
    try:
        return tuple(str(channels[key]) for key in sorted(channels, key=int))
    except ValueError as error:
        raise SegprefError(
            f"{path}/configs/metadata.json has a channel_def whose keys are no numbers of channels "
            f"({error}): correct it"
        ) from error
