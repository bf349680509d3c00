"""Pictures as viewers show them, with all their bits or not at all."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from written import grey, picture

from segpref.data import images_for, read_volume
from segpref.types import SegprefError

RNG = np.random.default_rng(0)


AS_STORED = {
    1: lambda shown: shown,
    2: np.fliplr,
    3: lambda shown: np.rot90(shown, 2),
    4: np.flipud,
    5: np.transpose,
    6: np.rot90,  # shown after a quarter turn clockwise
    7: lambda shown: np.rot90(shown, 2).T,
    8: lambda shown: np.rot90(shown, -1),
}


def oriented(path: Path, shown: np.ndarray, orientation: int) -> Path:
    """A picture that viewers show so, stored in another way."""
    image, exif = Image.fromarray(np.ascontiguousarray(AS_STORED[orientation](shown))), Image.Exif()
    exif[274] = orientation
    tags = {"tiffinfo": {274: orientation}} if path.suffix == ".tif" else {"exif": exif}
    image.save(path, **tags, **({"quality": 100} if path.suffix == ".jpg" else {}))
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg"])
def test_pictures_are_read_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    shown = np.arange(24, dtype=np.uint8).reshape(4, 6) * 5
    found = read_volume(oriented(tmp_path / f"a{ending}", shown, orientation)).array[0]
    np.testing.assert_allclose(found, shown, atol=2 if ending == ".jpg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiff_is_upright_too(tmp_path: Path, orientation: int) -> None:
    shown = RNG.random((4, 6))
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.ascontiguousarray(AS_STORED[orientation](shown)),
        photometric="minisblack",
        extratags=[(274, "H", 1, orientation, True)],
    )
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0], shown)


@pytest.mark.parametrize(
    "kind",
    [
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    ],
)
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6)])
def test_tiff_keeps_every_number(
    tmp_path: Path, kind: str, compression: str | None, shape: tuple[int, ...]
) -> None:
    pixels = (RNG.random(shape) * 100).astype(kind)
    if kind[0] in "ui":
        pixels.flat[:2] = np.iinfo(kind).min, np.iinfo(kind).max
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", compression=compression)
    np.testing.assert_array_equal(read_volume(path).array[0], pixels)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_lzw_is_read(tmp_path: Path, kind: str) -> None:
    stack = (RNG.random((3, 4, 6)) * 200).astype(kind)
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0], stack[0])
    pages[0].save(
        tmp_path / "b.tif", compression="tiff_lzw", save_all=True, append_images=pages[1:]
    )
    np.testing.assert_array_equal(read_volume(tmp_path / "b.tif").array[0], stack)


@pytest.mark.parametrize("planar", [False, True])
def test_sixteen_bit_colour_tiff_keeps_all_bits(tmp_path: Path, planar: bool) -> None:
    pixels = RNG.integers(0, 65535, (3, 4, 6), dtype=np.uint16)
    path = tmp_path / "a.tif"
    if planar:
        tifffile.imwrite(path, pixels, photometric="rgb", planarconfig="separate")
    else:
        tifffile.imwrite(path, np.moveaxis(pixels, 0, -1), photometric="rgb")
    np.testing.assert_array_equal(read_volume(path).array, pixels)
    luminance = np.tensordot([0.299, 0.587, 0.114], pixels, axes=1)
    np.testing.assert_allclose(read_volume(path, "grey").array[0], luminance, rtol=1e-5)
    with pytest.raises(SegprefError, match="colour picture where a label map is expected"):
        read_volume(path, "labels")


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32"])
def test_white_is_zero_is_turned_round(tmp_path: Path, kind: str) -> None:
    pixels = RNG.integers(0, 200, (4, 6)).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(
        read_volume(tmp_path / "a.tif").array[0], np.iinfo(kind).max - pixels
    )


def test_pages_that_are_no_stack_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(grey((4, 6)), photometric="minisblack")
        file.write(grey((5, 6)), photometric="minisblack")
    with pytest.raises(SegprefError, match=r"a\.tif is a TIFF of 2 pages that are no stack"):
        read_volume(tmp_path / "a.tif")


def png(path: Path, kind: int, samples: int) -> Path:
    """A PNG of 16 bits per sample, which Pillow does not write."""
    pixels = RNG.integers(0, 65535, (4, 6 * samples)).astype(">u2")

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    head = struct.pack(">IIBBBBB", 6, 4, 16, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(("kind", "samples"), [(2, 3), (4, 2), (6, 4)])
def test_png_that_would_lose_bits_is_refused(tmp_path: Path, kind: int, samples: int) -> None:
    with pytest.raises(SegprefError, match=r"a\.png .*16 bits.*TIFF"):
        read_volume(png(tmp_path / "a.png", kind, samples))


def test_grey_png_of_sixteen_bits_is_whole(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", 0, 1)
    assert read_volume(path).array.dtype == np.uint16
    assert read_volume(path).array.max() > 255


def test_a_mask_drawn_on_a_transparent_layer_is_refused(tmp_path: Path) -> None:
    layer = np.full((4, 6, 4), 255, np.uint8)
    layer[:2, :, 3] = 0
    path = picture(tmp_path / "a.png", layer)
    with pytest.raises(SegprefError, match=r"a\.png is a label map with transparent parts"):
        read_volume(path, "labels")
    assert read_volume(path).array.shape == (3, 4, 6)


def test_colours_for_a_model_of_one_channel_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flat = np.full((4, 5), 90, np.uint8)
    for name, pixels in {
        "a": flat,
        "b": np.stack([flat] * 3, -1),
        "c": np.stack([flat, flat // 2, flat], -1),
        "d": np.stack([flat, flat // 3, flat], -1),
    }.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    images = images_for(tmp_path, ("image",))
    for source in images.sources():
        assert images.read(source).image.shape == (1, 4, 5)
    assert caplog.text.count("is in colour") == 1
    assert "c.png is in colour" in caplog.text
