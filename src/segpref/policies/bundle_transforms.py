"""Translates the preprocessing transforms of a MONAI bundle into a preparation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai.bundle import ConfigParser


__all__ = ["settings_of", "transforms_of"]

_SECTION = "preprocessing"
_REFERENCES = re.compile(r"\$?\s*@[\w:#]+(\s*\+\s*@[\w:#]+)*\s*")
_HARMLESS = (
    *("LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor"),
    *("CastToType", "Identity", "ToDevice", "CopyItems", "DeleteItems", "SelectItems"),
    # Files of one channel each: datasets have them as the channels of one image.
    "ConcatItems",
    # Windows that slide are padded as they need it.
    *("SpatialPad", "DivisiblePad"),
)
_LABELS = re.compile(r"label|seg|mask|gt|pred", re.IGNORECASE)
_BY_STATISTICS = ("NormalizeIntensity", "ScaleIntensity", "ScaleIntensityRangePercentiles")


def transforms_of(parser: ConfigParser) -> list[Any] | None:
    """Transforms of images before the network, as text and in their order; None where none are told.

    Other entries, such as code, are kept unchanged.
    """
    try:
        return list(_transforms(parser, parser.get(_SECTION)))
    except (KeyError, RecursionError):  # a reference to nothing, or to itself
        return None


def settings_of(
    transforms: Sequence[Any], dims: int, channels: int = 1
) -> tuple[dict[str, Any], list[str]]:
    """What a preparation must say to do the same, and what it can't say.

    Args:
        transforms: from :func:`transforms_of`.
        dims: axes of what the network sees.
        channels: of the images; a preparation normalises each by itself.

    Returns:
        Settings of :class:`~segpref.data.Preparation`, and the transforms that none of them is for.
    """
    settings: dict[str, Any] = {"normalise": "none"}
    unknown = []
    images = _image_keys(transforms)
    for transform in transforms:
        if not isinstance(transform, Mapping) or "_target_" not in transform:
            unknown.append(str(transform)[:60])
            continue
        if transform.get("_disabled_") or not _is_of(images, transform):
            continue
        name = _name(transform)
        together = channels > 1 and name in _BY_STATISTICS and not transform.get("channel_wise")
        told = {} if name in _HARMLESS else None if together else _told(name, transform, dims)
        if name == "CropForeground" and settings["normalise"] != "none":
            told = {}  # of what is prepared it leaves out what is empty
        if told == {"normalise": "z-score"} and settings["normalise"] == "min-max":
            settings["normalise"] = "none"  # it undoes any scaling before it
        if told is None or any(settings.get(key, "none") != "none" for key in told):
            unknown.append(name)
        else:
            settings |= told
    return settings, unknown


def _transforms(parser: ConfigParser, part: Any) -> Iterator[Any]:
    if part is None:
        return
    if isinstance(part, str) and _REFERENCES.fullmatch(part):
        for reference in re.findall(r"@([\w:#]+)", part):
            yield from _transforms(parser, parser[reference])
    elif isinstance(part, list):
        for one in part:
            yield from _transforms(parser, one)
    elif isinstance(part, Mapping) and _name(part) == "Compose":
        yield from _transforms(parser, part.get("transforms"))
    elif isinstance(part, Mapping):
        yield {name: _plain(parser, value) for name, value in part.items()}
    else:
        yield part


def _plain(parser: ConfigParser, value: Any) -> Any:
    """References replaced by what they refer to."""
    if isinstance(value, list):
        return [_plain(parser, one) for one in value]
    if isinstance(value, str) and value.startswith("@"):
        return _plain(parser, parser[value[1:]])
    return value


def _name(transform: Mapping[str, Any]) -> str:
    """Of the transform of arrays: the same of dictionaries has one more letter, or four."""
    name = str(transform.get("_target_", "")).rpartition(".")[2]
    return re.sub(r"(?<=[a-z])(d|D|Dict)$", "", name)


def _keys(transform: Any) -> list[str]:
    keys = transform.get("keys", []) if isinstance(transform, Mapping) else []
    return [str(key) for key in keys] if isinstance(keys, list) else [str(keys)]


def _image_keys(transforms: Sequence[Any]) -> set[str]:
    """What images are called, which may be read as one file per channel."""
    loaded = {key for one in transforms if _name_of(one) == "LoadImage" for key in _keys(one)}
    joined = {key for one in transforms if _name_of(one) == "ConcatItems" for key in _keys(one)}
    loaded = {"image"} if "image" in loaded else {key for key in loaded if not _LABELS.search(key)}
    return {"image"} | loaded | (joined if joined & loaded else set())


def _name_of(transform: Any) -> str:
    return _name(transform) if isinstance(transform, Mapping) else ""


def _is_of(images: set[str], transform: Mapping[str, Any]) -> bool:
    keys = _keys(transform)
    return not keys or any(key in images or "@" in key for key in keys)


def _told(name: str, given: Mapping[str, Any], dims: int) -> dict[str, Any] | None:
    """Settings that do the same; None where there are none."""
    if name == "Orientation":
        codes = "RAS" if given.get("as_closest_canonical") else given.get("axcodes")
        return {"orientation": codes} if isinstance(codes, str) else None
    if name == "Spacing":
        pixdim = given.get("pixdim")
        sizes = [pixdim] * dims if isinstance(pixdim, int | float) else pixdim
        if not isinstance(sizes, list) or len(sizes) < dims:
            return None
        if not all(isinstance(size, int | float) and size > 0 for size in sizes[:dims]):
            return None
        return {"spacing_mm": tuple(float(size) for size in sizes[:dims])}
    if name == "NormalizeIntensity" and not {"subtrahend", "divisor"} & {*given}:
        return {"normalise": "z-score-nonzero" if given.get("nonzero") else "z-score"}
    if name == "ScaleIntensity" and "factor" not in given:
        return _to_unit(given, "minv", "maxv", {"normalise": "min-max"}, default=(0, 1))
    if name == "ScaleIntensityRange" and given.get("clip"):
        window = (given.get("a_min"), given.get("a_max"))
        if not all(isinstance(end, int | float) for end in window):
            return None
        return _to_unit(given, "b_min", "b_max", {"normalise": "window", "window": window})
    if name == "ScaleIntensityRangePercentiles" and given.get("clip"):
        if (given.get("lower"), given.get("upper")) != (0.5, 99.5):
            return None
        return _to_unit(given, "b_min", "b_max", {"normalise": "percentile"})
    return None


def _to_unit(
    given: Mapping[str, Any],
    low: str,
    high: str,
    settings: dict[str, Any],
    default: tuple[Any, Any] = (None, None),
) -> dict[str, Any] | None:
    """The settings where intensities go to 0..1, and no others can be said."""
    ends = (given.get(low, default[0]), given.get(high, default[1]))
    return settings if ends == (0, 1) else None
