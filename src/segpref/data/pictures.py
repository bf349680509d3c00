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

__all__ = ["Colours", "is_colour", "is_lossy", "read_picture", "states_grey"]

tifffile = late("tifffile")

Colours = Literal["channels", "grey", "labels", "mask"]

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
"""Pillow goes by the content, and for some of its formats (EPS) it runs another program."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NOT_PILLOWS = _TIFF[3]
"""BigTIFF in the byte order that Pillow does not know."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_PILLOW_KEEPS = ("uint16", "int16", "int32", "float32")
"""Numbers of one sample above 8 bits that Pillow leaves as they are."""

_ASSOCIATED, _ALPHA = 1, (1, 2)
"""Values of the tag ExtraSamples: transparency that colours are multiplied by, and any."""

_LOSSY_TIFF = (6, 7, 34712, 34892, 50001, 50002)
"""JPEG of both kinds, JPEG 2000, lossy JPEG of DNG, WebP, JPEG XL."""

_TINT = 64
"""Red, green and blue of a mask that is meant to be grey are no farther apart than this."""


def is_colour(channels: Sequence[str]) -> bool:
    """Whether channels of these names are the red, green and blue of a picture."""
    return tuple(name.strip().lower() for name in channels) in (
        ("red", "green", "blue"),
        ("r", "g", "b"),
    )


def is_lossy(path: Path) -> bool:
    """Whether pixels may be others than were saved: JPEG, also under another name or in a TIFF.

    Of what can't be read it is False: the error about it is due when it is read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head in _TIFF:
            with tifffile.TiffFile(path) as opened:
                return int(opened.pages.first.compression) in _LOSSY_TIFF
    except Exception:  # a damaged TIFF makes the library stumble in any way
        return False
    return head.startswith(b"\xff\xd8\xff")


def states_grey(path: Path) -> bool:
    """Whether a picture is grey by its header, its pixels unread; False where that can't be told."""
    try:
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as picture:
            return picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;16")
    except Exception:  # a damaged file makes Pillow stumble in any way; what reads it says so
        return False


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
        return _read_tiff(path, head[:4], colours)
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
    if colours in ("labels", "mask"):
        _refuse_transparency(path, picture, colours)
    if colours == "labels" and picture.mode == "P":
        _refuse_grey_palette(path, picture)
    upright = ImageOps.exif_transpose(picture)
    array = np.asarray(_converted(path, upright, colours))
    array = array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="))
    array = np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
    if colours == "labels":
        return _one_plane(path, array)
    return _one_structure(path, array) if colours == "mask" else array


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


def _refuse_transparency(path: Path, picture: Image.Image, colours: Colours) -> None:
    """Of a mask that is drawn on a transparent layer the colours below tell nothing."""
    if picture.mode not in ("RGBA", "LA", "PA"):
        return
    alpha = np.asarray(picture.getchannel("A"))
    below = np.asarray(picture.convert("RGB"))[alpha < 255]
    # Where a mask is black wherever it is transparent, both say background.
    if alpha.min() != alpha.max() and (colours == "labels" or below.any()):
        raise _transparent(path)


def _transparent(path: Path) -> SegprefError:
    return SegprefError(
        f"{path} is a label map with transparent parts: save the class numbers as grey levels "
        "without transparency"
    )


def _refuse_grey_palette(path: Path, picture: Image.Image) -> None:
    """Colours are there to show the indices, but greys may be what was meant, and be compressed."""
    assert picture.palette is not None
    palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)
    if (palette != palette[:, :1]).any():
        return
    indices = np.unique(np.asarray(picture))
    levels = palette[indices.clip(max=len(palette) - 1), 0]
    black_and_white = (indices <= 1).all() and (levels == indices * 255).all()
    if (levels != indices).any() and not black_and_white:
        raise SegprefError(
            f"{path} is a label map whose palette shows the numbers {_listed(indices)} as the grey "
            f"levels {_listed(levels)}, so that either may be the classes: save the class numbers as "
            "grey levels without a palette"
        )


def _listed(values: np.ndarray) -> str:
    return ", ".join(map(str, values[:5].tolist())) + (" ..." if len(values) > 5 else "")


def _one_structure(path: Path, array: Num[np.ndarray, "channel *space"]) -> np.ndarray:
    """A mask as grey levels; of colours there may be one, on black."""
    if len(array) != 3:
        return array
    if np.ptp(array.astype(np.float32), axis=0).max(initial=0) <= _TINT:
        grey = np.tensordot(_LUMINANCE, array.astype(np.float32), axes=1)
        return (grey if array.dtype.kind == "f" else np.round(grey).astype(array.dtype))[None]
    drawn = array.any(axis=0)
    if len(np.unique(array[:, drawn], axis=1).T) > 1:
        raise SegprefError(
            f"{path} is a colour picture where the mask of one structure is expected: save it as black "
            "and white"
        )
    return np.where(drawn, 255, 0).astype(np.uint8)[None]


def _one_plane(path: Path, array: Num[np.ndarray, "channel *space"]) -> np.ndarray:
    if not (array == array[:1]).all():
        raise SegprefError(
            f"{path} is a colour picture where a label map is expected: save the class numbers as grey "
            "levels"
        )
    return array[:1]


def _read_tiff(path: Path, head: bytes, colours: Colours) -> Num[np.ndarray, "channel *space"]:
    with tifffile.TiffFile(path) as file:
        pages, page = len(file.pages), file.pages.first
        series, axes = len(file.series), file.series[0].axes
    assert isinstance(page, tifffile.TiffPage)
    one, kind = page.samplesperpixel == 1, page.photometric.name
    grey = kind in ("MINISBLACK", "MINISWHITE") or colours == "labels"
    if pages > 1 and (series > 1 or len(axes) != 3 or not one or not grey):
        raise SegprefError(
            f"{path} is a TIFF of {pages} pages that are no stack of grey slices: save it as grey "
            "pages of one size, or export it again"
        )
    if one and len(axes) == 3 and axes[0] in "CT":
        what = "channels" if axes[0] == "C" else "time points"
        raise SegprefError(
            f"{path} is a TIFF of {what} and not of slices, as its "
            "description says: save each as a file of its own, or slices with the axes ZYX"
        )
    # ImageJ hides large stacks behind one page, of which Pillow would see the first slice.
    hidden = pages == 1 and one and len(axes) == 3
    if hidden or not _pillow_reads(page) or head == _NOT_PILLOWS:
        array = _deep_tiff(path, page, colours)
    else:
        # Pillow knows all compressions, palettes and colour spaces. Given a name it would map the file,
        # and then mixes up rows and columns of those that are stored on their side.
        with path.open("rb") as opened, Image.open(opened, formats=_FORMATS) as picture:
            planes = []
            for number in range(pages):
                picture.seek(number)
                planes.append(_pixels(path, picture, colours if pages == 1 else "labels"))
        array = planes[0] if pages == 1 else np.stack(planes, axis=1)
    if kind == "MINISWHITE" and colours in ("labels", "mask") and page.bitspersample > 1:
        _refuse_inverted(path, array)
    return array


def _pillow_reads(page: Any) -> bool:
    """Whether Pillow reads the pixels of a TIFF with all their bits and samples."""
    extra = [int(kind) for kind in page.extrasamples]
    if any(kind not in _ALPHA or kind == _ASSOCIATED for kind in extra):
        return False
    if page.bitspersample <= 8 and page.dtype is not None and page.dtype.kind in "bu":
        return page.samplesperpixel - len(extra) in ((1,) if page.photometric <= 1 else (1, 3, 4))
    kept = page.photometric.name == "MINISBLACK" and str(page.dtype) in _PILLOW_KEEPS
    return kept and page.samplesperpixel == 1


def _refuse_inverted(path: Path, array: np.ndarray) -> None:
    """Class numbers are no greys: turned round, 0 and 1 would be 255 and 254."""
    top = array.max() if array.dtype.kind == "f" else np.iinfo(array.dtype).max
    if not np.isin(array, (0, top)).all():
        raise SegprefError(
            f"{path} is a TIFF of labels in which white is zero (MINISWHITE), so that its numbers "
            "may be inverted: save the class numbers with black as zero (MINISBLACK)"
        )


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
    if page.samplesperpixel > 1 and array.ndim == 3:
        array = array if page.axes.startswith("S") else np.moveaxis(array, -1, 0)
        array = _without_alpha(path, array, page, colours)
    elif array.ndim in (2, 3):
        array = array[None]
    else:
        raise SegprefError(f"{path} is a TIFF stack of shape {array.shape}: save it as grey pages")
    array = _upright(array, int(page.tags.valueof("Orientation") or 1))
    return _shades(path, array, page, colours)


def _without_alpha(path: Path, array: np.ndarray, page: Any, colours: Colours) -> np.ndarray:
    """The samples that are no transparency, which they must not depend on."""
    extra = [int(kind) for kind in page.extrasamples]
    first = len(array) - len(extra)
    for number, kind in enumerate(extra, first):
        alpha = array[number]
        opaque = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
        if kind == _ASSOCIATED and (alpha != opaque).any():
            raise SegprefError(
                f"{path} is a TIFF whose colours are multiplied by its transparency "
                "(associated alpha): save it without transparency"
            )
        if kind in _ALPHA and colours in ("labels", "mask") and alpha.min() != alpha.max():
            raise _transparent(path)
    keep = [*range(first), *(n for n, kind in enumerate(extra, first) if kind not in _ALPHA)]
    return array[keep]


def _shades(path: Path, array: np.ndarray, page: Any, colours: Colours) -> np.ndarray:
    """The samples of a TIFF as grey levels or as red, green and blue."""
    kind = page.photometric.name
    if kind == "MINISWHITE":
        array = array.max() - array if array.dtype.kind == "f" else ~array
    elif kind not in ("MINISBLACK", "RGB"):
        raise SegprefError(
            f"{path} is a TIFF of {page.bitspersample} bits with colours in {kind}, which can't be "
            "read here: save it as grey or RGB"
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(1 if colours == "labels" else 255)
    if colours == "labels":
        return _one_plane(path, array)
    if colours == "mask":
        return _one_structure(path, array)
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
