"""PNG, JPEG, TIFF, BMP and GIF as arrays: upright, and with all their bits or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Num
from PIL import Image, ImageOps

from segpref.late import late
from segpref.types import SegprefError

__all__ = ["Colours", "is_colour", "read_picture"]

tifffile = late("tifffile")

Colours = Literal["channels", "grey", "labels"]

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
"""Pillow goes by the content, and for some of its formats (EPS) it runs another program."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_PILLOW_KEEPS = ("uint16", "int16", "int32", "float32")
"""Numbers of one sample above 8 bits that Pillow leaves as they are."""


def is_colour(channels: Sequence[str]) -> bool:
    """Whether channels of these names are the red, green and blue of a picture."""
    return tuple(name.strip().lower() for name in channels) in (
        ("red", "green", "blue"),
        ("r", "g", "b"),
    )


def read_picture(path: Path, colours: Colours) -> Num[np.ndarray, "channel *space"]:
    """Pixels as viewers show them: turned as EXIF or TIFF say, axes (row, column).

    The pages of a TIFF are a volume (page, row, column). Transparency is left out.

    Args:
        path: the file.
        colours: see :func:`~segpref.data.volumes.read_volume`.

    Raises:
        SegprefError: several frames, colours where none belong, or numbers that can't be kept.
    """
    with path.open("rb") as file:
        head = file.read(26)
    if head[:4] in _TIFF:
        return _read_tiff(path, colours)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06"):
        raise SegprefError(
            f"{path} is a colour (or transparent) PNG of 16 bits, of which 8 would be lost: save it as "
            "TIFF, as a grey PNG of 16 bits, or with 8 bits"
        )
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as picture:
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise SegprefError(
                f"{path} holds {frames} frames: save every frame as a file of its own"
            )
        return _pixels(path, picture, colours)


def _pixels(
    path: Path, picture: Image.Image, colours: Colours
) -> Num[np.ndarray, "channel *space"]:
    picture.load()
    if colours == "labels":
        _refuse_transparency(path, picture)
    upright = ImageOps.exif_transpose(picture)
    array = np.asarray(_converted(path, upright, colours))
    array = array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="))
    array = np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
    return _one_plane(path, array) if colours == "labels" else array


def _converted(path: Path, picture: Image.Image, colours: Colours) -> Image.Image:
    mode = picture.mode
    if mode in ("LAB", "HSV"):
        raise SegprefError(f"{path} has colours in {mode}: save it as grey or RGB")
    if mode in ("RGBA", "CMYK", "YCbCr", "PA", "RGBX", "RGBa"):
        picture = picture.convert("RGB")
    elif mode in ("LA", "La"):
        picture = picture.convert("L")
    elif mode == "P" and colours != "labels":
        picture = picture.convert("RGB")
    elif mode == "1" and colours != "labels":
        picture = picture.convert("L")
    return picture.convert("L") if colours == "grey" and picture.mode == "RGB" else picture


def _refuse_transparency(path: Path, picture: Image.Image) -> None:
    """Of a mask that is drawn on a transparent layer the colours below tell nothing."""
    if picture.mode not in ("RGBA", "LA", "PA"):
        return
    lowest, highest = picture.getchannel("A").getextrema()
    if lowest != highest:
        raise SegprefError(
            f"{path} is a label map with transparent parts: save the class numbers as grey levels "
            "without transparency"
        )


def _one_plane(path: Path, array: Num[np.ndarray, "channel *space"]) -> np.ndarray:
    if not (array == array[:1]).all():
        raise SegprefError(
            f"{path} is a colour picture where a label map is expected: save the class numbers as grey "
            "levels"
        )
    return array[:1]


def _read_tiff(path: Path, colours: Colours) -> Num[np.ndarray, "channel *space"]:
    with tifffile.TiffFile(path) as file:
        pages, page = len(file.pages), file.pages.first
        series, axes = len(file.series), file.series[0].ndim
    assert isinstance(page, tifffile.TiffPage)
    one = page.samplesperpixel == 1
    if pages > 1 and (series > 1 or axes != 3 or not one):
        raise SegprefError(
            f"{path} is a TIFF of {pages} pages that are no stack of grey slices: save it as grey "
            "pages of one size, or export it again"
        )
    # ImageJ hides large stacks behind one page, of which Pillow would see the first slice.
    hidden = pages == 1 and one and axes == 3
    small = page.bitspersample <= 8 and page.dtype is not None and page.dtype.kind in "bu"
    kept = one and page.photometric.name == "MINISBLACK" and str(page.dtype) in _PILLOW_KEEPS
    if not hidden and (small or kept):
        # Pillow knows all compressions, palettes and colour spaces. Given a name it would map the file,
        # and then mixes up rows and columns of those that are stored on their side.
        with path.open("rb") as opened, Image.open(opened, formats=_FORMATS) as picture:
            planes = []
            for number in range(pages):
                picture.seek(number)
                planes.append(_pixels(path, picture, colours if pages == 1 else "labels"))
        return planes[0] if pages == 1 else np.stack(planes, axis=1)
    return _deep_tiff(path, page, colours)


def _deep_tiff(path: Path, page: Any, colours: Colours) -> Num[np.ndarray, "channel *space"]:
    try:
        array = tifffile.imread(path)
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise SegprefError(
            f"{path} is a TIFF of {page.bitspersample} bits per sample compressed by "
            f"{page.compression.name}, which can't be read here: save it without compression, or "
            "install the package imagecodecs"
        ) from error
    samples = page.samplesperpixel
    if samples > 1 and array.ndim == 3:
        array = array if page.axes.startswith("S") else np.moveaxis(array, -1, 0)
        array = array[: samples - len(page.extrasamples)] if page.extrasamples else array
    elif array.ndim in (2, 3):
        array = array[None]
    else:
        raise SegprefError(f"{path} is a TIFF stack of shape {array.shape}: save it as grey pages")
    array = _upright(array, int(page.tags.valueof("Orientation") or 1))
    return _shades(path, array, page.photometric.name, colours)


def _shades(path: Path, array: np.ndarray, kind: str, colours: Colours) -> np.ndarray:
    """The samples of a TIFF as grey levels or as red, green and blue."""
    if kind == "MINISWHITE":
        array = array.max() - array if array.dtype.kind == "f" else ~array
    elif kind not in ("MINISBLACK", "RGB"):
        raise SegprefError(
            f"{path} is a TIFF of more than 8 bits with colours in {kind}: save it as grey or RGB"
        )
    if colours == "labels":
        return _one_plane(path, array)
    if colours == "grey" and len(array) == 3:
        return np.tensordot(_LUMINANCE, array.astype(np.float32), axes=1)[None]
    return array


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns, the last two axes, turned as the TIFF tag of that name says."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, -1, -2)
    if orientation in (2, 3, 6, 7):
        array = array[..., ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[..., ::-1, :]
    return array
