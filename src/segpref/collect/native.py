"""The grey levels of an image as its file has them, and the window they are first shown in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from segpref.data.dicom_file import read_dicom
from segpref.data.dicom_headers import read_header
from segpref.data.dicom_marks import is_dicom
from segpref.data.dicom_series import Series
from segpref.data.source import Source
from segpref.data.volumes import is_picture, read_volume
from segpref.late import late
from segpref.types import Case, SegprefError

__all__ = ["Native", "default_window", "native_of"]

pydicom = late("pydicom")

SOFT_TISSUE = (40.0, 400.0)
"""Centre and width in HU, as most reading rooms have them."""

_AIR = -500
"""Hounsfield units: only CT has integers below."""

_KEPT = ("uint8", "int16", "uint16", "int32", "float32")
_WINDOW_PERCENT = (0.5, 99.5)
_LOOKED_AT = 2**20
"""Most voxels that percentiles are taken of."""


class Native(NamedTuple):
    """Values of an image as its file has them.

    Args:
        values: ``[channel, *space]``, one channel or red, green and blue.
        window: centre and width that they are first shown in; None in colour.
        inverted: whether low values are shown bright.
    """

    values: Num[np.ndarray, "channel *space"]
    window: tuple[float, float] | None
    inverted: bool = False


def native_of(source: Source, case: Case, channel: int = 0) -> Native:
    """What is shown of an image.

    Colour pictures are shown in colour, also where the model sees them in grey; of other images one
    channel. Integers stay integers. A radiograph whose file says MONOCHROME1 has the values of the file
    and is shown inverted. The window is the one that a DICOM file states; otherwise soft tissue for CT
    (integers below -500), and the percentiles 0.5 and 99.5 for all others.

    Args:
        source: its files.
        case: as its reader read it; its values where the files don't have them so, as after cutting.
        channel: which one is shown of images that are not in colour.

    Raises:
        SegprefError: no such channel.
    """
    if not 0 <= channel < len(case.image):
        raise SegprefError(
            f"{case.id} has {len(case.image)} channels, from 0: there is no channel {channel} to show"
        )
    path = source.images[min(channel, len(source.images) - 1)]
    if is_picture(path):
        colours = _read(path)
        if colours is not None and _in_colour(colours) and _same_grid(colours, case):
            return Native(_plain(colours), None)
    values = _own_values(source, case, channel)
    inverted, window = False, None
    if not is_picture(path) and (file := _dicom_file(source, path)) is not None:
        header = read_dicom(file, stop_before_pixels=True)
        window = _stated_window(header)
        if header.get("PhotometricInterpretation") == "MONOCHROME1":
            values, inverted = _as_stored(values, file), True
    values = _plain(values)
    return Native(values, window or default_window(values), inverted)


def default_window(values: Num[np.ndarray, "..."]) -> tuple[float, float]:
    """Centre and width for values whose file states none."""
    if values.dtype.kind in "iu" and values.min() < _AIR:
        return SOFT_TISSUE
    flat = values.reshape(-1)
    flat = flat[:: max(1, len(flat) // _LOOKED_AT)]
    low, high = (float(one) for one in np.percentile(flat, _WINDOW_PERCENT))
    if low == high:
        low, high = float(values.min()), float(values.max())
    return (low + high) / 2, max(high - low, 1e-6 if values.dtype.kind == "f" else 1.0)


def _own_values(source: Source, case: Case, channel: int) -> Num[np.ndarray, "1 *space"]:
    """The channel as its file has it, where that is what the reader gave."""
    seen = case.image[channel : channel + 1]
    number = min(channel, len(source.images) - 1)
    found = _read(source.parts[number])
    if found is None or not _same_grid(found, case):
        return seen
    within = channel - number if len(source.images) > 1 else channel
    own = found[within : within + 1] if within < len(found) else found[:1]
    return own if np.array_equal(own.astype(np.float32), seen) else seen


def _read(path: Path | Series) -> Num[np.ndarray, "channel *space"] | None:
    try:
        return read_volume(path).array
    except SegprefError:  # a format of the reader's own
        return None


def _in_colour(values: np.ndarray) -> bool:
    return len(values) == 3 and not bool((values == values[:1]).all())


def _same_grid(values: np.ndarray, case: Case) -> bool:
    return values.shape[1:] == case.image.shape[1:]


def _plain(values: np.ndarray) -> np.ndarray:
    """The same values in one of the types that are served."""
    if values.dtype.name in _KEPT[:-1]:
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if not values.size:
        return values.astype(np.float32)
    low, high = values.min(), values.max()
    if values.dtype.kind in "iu" or np.array_equal(values, np.rint(values)):
        for name in ("uint8", "int16", "uint16", "int32"):
            limits = np.iinfo(name)
            if limits.min <= low and high <= limits.max:
                return values.astype(name)
    return values.astype(np.float32)


def _dicom_file(source: Source, path: Path) -> Path | None:
    if source.series is not None:
        return source.series.files[0]
    if path.is_file():
        return path if is_dicom(path) else None
    files = sorted(one for one in path.iterdir() if is_dicom(one)) if path.is_dir() else []
    return files[0] if files else None


def _stated_window(header: Any) -> tuple[float, float] | None:
    try:
        centre, width = (
            float(np.ravel(header[tag].value)[0]) for tag in ("WindowCenter", "WindowWidth")
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return (centre, width) if np.isfinite([centre, width]).all() and width > 0 else None


def _as_stored(values: np.ndarray, file: Path) -> np.ndarray:
    """What reading inverted, so that high was bright, inverted again."""
    header = read_header(file)
    low = -(2 ** (header.bits - 1)) if header.signed else 0
    ends = 2 * low + 2**header.bits - 1
    slope, intercept = header.planes[0].slope, header.planes[0].intercept
    total = (1.0 if slope is None else slope) * ends + 2 * (intercept or 0.0)
    return np.asarray(total - values.astype(np.float32))
