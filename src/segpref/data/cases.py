"""From the files of a source to a case: channels, label fields, and the checks between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Num, Shaped, UInt8

from segpref.data.dicom_series import Series
from segpref.data.grids import check_grid
from segpref.data.pictures import is_colour, is_lossy, states_grey
from segpref.data.source import Source
from segpref.data.volumes import Colours, VolumeFile, is_picture, read_volume
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

__all__ = [
    "make_case",
    "multilabel_space",
    "picture_channels",
    "read_binary",
    "read_class_case",
    "read_classes",
    "read_image",
    "read_labels",
    "to_multilabel",
]

MIDDLE_GREY = 127
_SLACK = 1e-3
"""Interpolation leaves values farther from whole numbers than this, float arithmetic nearer ones."""


def read_image(
    source: Source,
    channels: Sequence[str],
    colour: bool | None = None,
    coloured: Callable[[Path], None] | None = None,
) -> VolumeFile:
    """Read the channels of a source, float32.

    Args:
        source: its images are joined along the channel axis in their order.
        channels: names of the channels; their number must come out.
        colour: of pictures: True gives three channels whatever the file has, False one, None what
            the file has.
        coloured: is told of pictures in colour that are read as one channel.
    """
    colours: Colours = "grey" if colour is False else "channels"
    if colour is False and coloured is not None:
        parts = [_single(path, _in_grey(path, coloured)) for path in source.parts]
    else:
        parts = [_single(path, read_volume(path, colours)) for path in source.parts]
    for path, part in zip(source.images[1:], parts[1:], strict=True):
        check_grid(parts[0], source.images[0], part, path)
    array = np.concatenate([part.array for part in parts])
    if colour and len(array) == 1:
        array = np.repeat(array, 3, axis=0)
    if len(array) != len(channels):
        raise SegprefError(
            f"{source.images[0]} has {len(array)} channels but {len(channels)} are expected "
            f"({', '.join(channels)}): use images with exactly these, or correct the description"
        )
    return parts[0]._replace(array=np.ascontiguousarray(array), colour=is_colour(channels))


def picture_channels(
    parts: Sequence[Path | Series], colour: bool | None
) -> tuple[tuple[str, ...], bool]:
    """Names of the channels, and whether pictures are read in colour: where one of several is.

    Some pictures, spread over the list, decide: the first may be the one grey picture of a colour data
    set. Damaged files are passed over: the error about them is due when they are read.
    """
    first, path = _first_readable(parts)
    files = [part for part in parts if isinstance(part, Path)]
    if colour is None:
        colour = is_picture(path) and any(map(has_colours, _spread(files)))
    if colour:
        return ("red", "green", "blue"), True
    if len(first) == 1 or is_picture(path):
        return ("image",), False
    return tuple(f"channel {number}" for number in range(len(first))), False


def make_case(source: Source, image: VolumeFile, label: UInt8[np.ndarray, "f *s"] | None) -> Case:
    """The case of a whole volume."""
    return Case(
        id=source.id,
        patient=source.patient,
        volume=source.id,
        image=image.array,
        label=label,
        spacing_mm=image.spacing_mm,
        affine=image.affine,
        oriented=image.oriented,
        colour=image.colour,
        stratum=source.stratum,
    )


def read_labels(
    path: Path,
    image: VolumeFile,
    image_path: Path,
    classes: Mapping[int, int],
    names: Sequence[str],
) -> UInt8[np.ndarray, "1 *space"]:
    """Read a label map and renumber its values.

    Args:
        path: the label map; a JPEG is refused, for compression invents values.
        image: what it belongs to.
        image_path: for messages.
        classes: class (or :data:`IGNORE`) of every value that the file may hold.
        names: class names, for messages.
    """
    if is_lossy(path):
        raise SegprefError(
            f"{path} holds a JPEG, which blurs class numbers: save label maps as PNG"
        )
    mask = _read_mask(path, image, image_path, "labels")
    whole = _whole_numbers(path, mask)
    values = np.array(sorted(classes))
    place = np.searchsorted(values, whole).clip(max=len(values) - 1)
    if (unknown := values[place] != whole).any():
        strange = ", ".join(f"{value:g}" for value in np.unique(mask[unknown])[:5].tolist())
        raise SegprefError(
            f"{path} holds the label value {strange}, but the classes are "
            f"{', '.join(f'{value} {_name(names, new)}' for value, new in classes.items())}: "
            "correct the file or the list of classes"
        )
    table = np.array([classes[int(value)] for value in values], np.uint8)
    label: UInt8[np.ndarray, "*space"] = table[place]
    return label[None]


def read_classes(
    path: Path, image: VolumeFile, image_path: Path, space: LabelSpace
) -> UInt8[np.ndarray, "1 *space"]:
    """Read a label map that holds the values which a label space has on disk.

    Of two classes the second may be 1 or 255 in any file, and JPEG is cut in the middle.
    """
    found = {value: number for number, value in enumerate(space.disk_values)}
    if set(found) in ({0, 1}, {0, 255}):
        if is_lossy(path):
            return read_binary(path, image, image_path)[None]
        top = _read_mask(path, image, image_path, "labels").max(initial=0)
        found = {0: 0, 255 if top > 1 else 1: 1}
    return read_labels(path, image, image_path, found, space.names)


def read_class_case(
    source: Source,
    channels: Sequence[str],
    values: Mapping[int, int],
    space: LabelSpace,
    as_multilabel: bool,
) -> Case:
    """Read an image and, where there is one, its label map.

    Args:
        source: where they lie.
        channels: names of the image's channels, in their order.
        values: class (or :data:`IGNORE`) of every value that the label map may hold.
        space: the exclusive classes of the label map.
        as_multilabel: give one binary field per structure instead of the label map.
    """
    image = read_image(source, channels)
    if not source.labels:
        return make_case(source, image, None)
    label = read_labels(source.labels[0], image, source.images[0], values, space.names)
    return make_case(source, image, to_multilabel(label, space) if as_multilabel else label)


def read_binary(
    path: Path, image: VolumeFile, image_path: Path, threshold: float | None = None
) -> UInt8[np.ndarray, "*space"]:
    """Read the mask of one structure as 0 and 1.

    Without a threshold, pictures that hold only 0 and 1 are taken as they are, others and all JPEGs
    are cut at grey level 127, which must lie between the darkest and the brightest of several; one
    colour on black counts as white. NIfTI must hold 0 and one of 1 or 255.
    """
    colours: Colours = "mask" if threshold is None else "grey"
    mask = _read_mask(path, image, image_path, colours)
    if threshold is not None:
        return np.asarray(mask > threshold, dtype=np.uint8)
    mask = _near_whole(mask)
    top = mask.max(initial=0)
    if is_picture(path) and top > MIDDLE_GREY:
        if MIDDLE_GREY < mask.min() < top:
            raise SegprefError(
                f"{path} should be the mask of one structure but holds light greys alone, from "
                f"{mask.min():g} to {top:g}: save it with 0 and 1 (or 255), or set threshold"
            )
        return np.asarray(mask > MIDDLE_GREY, dtype=np.uint8)
    if top > 0 and is_lossy(path):
        raise SegprefError(
            f"{path} holds a JPEG of dark greys alone, up to {top:g}, where a mask is black and white: "
            "save it as PNG, or set threshold"
        )
    if not np.isin(top, (0, 1, 255)) or not np.isin(mask, (0, top)).all():
        raise SegprefError(
            f"{path} should be the mask of one structure but holds values other than 0 and 1 (or 255), "
            f"up to {top:g}: save it with these, or set threshold"
        )
    return np.asarray(mask != 0, dtype=np.uint8)


def multilabel_space(space: LabelSpace) -> LabelSpace:
    """The structures of a label space (classes, regions) as independent ones."""
    return LabelSpace("multi-label", space.structures)


def to_multilabel(
    label: UInt8[np.ndarray, "1 *space"], space: LabelSpace
) -> UInt8[np.ndarray, "field *space"]:
    """One binary field per structure of a multi-class label; ignored pixels are so in every field."""
    fields = space.structure_masks(label).astype(np.uint8)
    fields[:, label[0] == IGNORE] = IGNORE
    return fields


def _single(path: Path | Series, part: VolumeFile) -> VolumeFile:
    """The image in single precision, if that keeps its values apart and finite."""
    wide = part.array
    path = path.folder if isinstance(path, Series) else path
    with np.errstate(over="ignore"):
        array = wide.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise SegprefError(
            f"{path} holds values up to {np.abs(wide.astype(np.float64)).max():.3g}, too large for "
            "single precision: replace them with finite values, such as the background's"
        )
    if array.size and array.min() == array.max() and wide.min() != wide.max():
        raise SegprefError(
            f"{path} holds values from {wide.min():.10g} to {wide.max():.10g}, which are all one in "
            "single precision: rescale them"
        )
    return part._replace(array=array)


_LOOKED_AT = 16
"""Pictures that decide about colour."""


def _spread(files: Sequence[Path]) -> Sequence[Path]:
    step = max(1, len(files) // _LOOKED_AT)
    return files[::step]


def has_colours(path: Path) -> bool:
    """Whether a picture has channels that differ; a damaged one has none."""
    if not is_picture(path) or states_grey(path):
        return False
    try:
        found = read_volume(path).array
    except SegprefError:
        return False
    return len(found) == 3 and not bool((found == found[:1]).all())


def _in_grey(path: Path | Series, coloured: Callable[[Path], None]) -> VolumeFile:
    """One channel of an image; a picture whose colours are equal, or that is grey, is read once."""
    if isinstance(path, Series) or not is_picture(path) or states_grey(path):
        return read_volume(path, "grey")
    found = read_volume(path)
    if len(found.array) == 1:
        return found
    grey = len(found.array) == 3 and bool((found.array == found.array[:1]).all())
    if grey and found.array.dtype == np.uint8:
        return found._replace(array=found.array[:1])
    if len(found.array) == 3 and not grey:
        coloured(path)
    return read_volume(path, "grey")


def _first_readable(
    parts: Sequence[Path | Series],
) -> tuple[Num[np.ndarray, "channel *space"], Path]:
    for part in parts:
        try:
            return read_volume(part).array, part if isinstance(part, Path) else part.folder
        except SegprefError:
            continue
    return np.zeros((1, 1, 1), np.uint8), Path()


def _read_mask(
    path: Path, image: VolumeFile, image_path: Path, colours: Colours
) -> Num[np.ndarray, "*space"]:
    mask = read_volume(path, colours)
    if len(mask.array) != 1:
        raise SegprefError(
            f"{path} has {len(mask.array)} channels where one mask is expected: save one mask per file"
        )
    check_grid(image, image_path, mask, path)
    return np.asarray(mask.array[0])


def _whole_numbers(path: Path, mask: Num[np.ndarray, "*space"]) -> Shaped[np.ndarray, "*space"]:
    if mask.dtype.kind != "f":
        return np.asarray(mask, dtype=np.int64)
    rounded = _near_whole(mask)
    if (rounded % 1).any():
        strange = float(rounded[rounded % 1 != 0].flat[0])
        raise SegprefError(
            f"{path} holds label values that are not whole numbers, such as {strange:g}: resample it "
            "with nearest neighbours and save it as integers"
        )
    return np.asarray(rounded, dtype=np.int64)


def _near_whole(mask: Num[np.ndarray, "*space"]) -> Num[np.ndarray, "*space"]:
    """The mask with values such as 0.9999999, which a rescale slope makes of 1, put right."""
    if mask.dtype.kind != "f":
        return mask
    rounded = np.round(mask)
    return np.where(np.abs(mask - rounded) < _SLACK, rounded, mask)


def _name(names: Sequence[str], value: int) -> str:
    return "ignore" if value == IGNORE else names[value]
