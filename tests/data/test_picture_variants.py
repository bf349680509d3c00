"""Pictures as programs write them: the right numbers, or one sentence that names the file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segpref.data import Folders, Images, open_dataset, read_volume
from segpref.types import SegprefError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 200, (32, 48)).astype(np.uint8)
STACK = np.stack([GREY, GREY // 2, GREY // 3])
DISC = np.zeros((32, 48), np.uint8)
DISC[4:20, 4:20] = 1
CLASSES = DISC.copy()
CLASSES[10:30, 22:40] = 2
GAPS = CLASSES * np.uint8(2)

Write = Callable[[Path], Any]


def tiff(array: np.ndarray, **how: Any) -> Write:
    return lambda path: tifffile.imwrite(path, array, **how)


def pillow(array: np.ndarray, kind: str | None = None, **how: Any) -> Write:
    return lambda path: Image.fromarray(array).save(path, kind, **how)


def palette(indices: np.ndarray, colours: list[int], **how: Any) -> Write:
    image = Image.fromarray(indices, "P")
    image.putpalette(colours)
    return lambda path: image.save(path, **how)


def layers(*planes: np.ndarray) -> np.ndarray:
    return np.stack(planes, axis=-1)


WHITE, NOTHING = np.full_like(GREY, 255), np.zeros_like(GREY)


# TIFF


@pytest.mark.parametrize(
    "how",
    [
        {"tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"bigtiff": True, "byteorder": ">"},
        {"compression": "lzma"},
        {"rowsperstrip": 3},
        {"metadata": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float16", "float32", "float64"])
def test_tiff_is_the_same_however_it_is_laid_out(
    tmp_path: Path, how: dict[str, Any], kind: str
) -> None:
    tiff(GREY.astype(kind), photometric="minisblack", **how)(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0], GREY)


@pytest.mark.parametrize("how", [{"imagej": True}, {"ome": True}, {}], ids=str)
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_pages_are_slices_and_neither_channels_nor_times(
    tmp_path: Path, how: dict[str, bool], kind: str
) -> None:
    path = tmp_path / "a.tif"
    grey = {} if "imagej" in how else {"photometric": "minisblack"}
    tiff(STACK.astype(kind), metadata={"axes": "ZYX"}, **how, **grey)(path)
    np.testing.assert_array_equal(read_volume(path).array[0], STACK)
    for axes, what in (("CYX", "channels"), ("TYX", "time points")):
        tiff(STACK.astype(kind), metadata={"axes": axes}, **how, **grey)(path)
        with pytest.raises(SegprefError, match=rf"a\.tif is a TIFF of {what} and not of slices"):
            read_volume(path)


def test_pages_of_colours_are_no_volume(tmp_path: Path) -> None:
    pages = [Image.fromarray(DISC, "P") for _ in range(2)]
    for page in pages:
        page.putpalette([0, 0, 0, 0, 255, 0])
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(SegprefError, match=r"a\.tif is a TIFF of 2 pages that are no stack"):
        read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif", "labels").array[0], [DISC, DISC])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_samples_of_no_known_kind_are_channels(tmp_path: Path, kind: str, planar: Any) -> None:
    samples = np.stack([GREY, GREY // 2, GREY // 3, GREY // 4, GREY // 5]).astype(kind)
    stored = samples if planar == "separate" else np.moveaxis(samples, 0, -1)
    tiff(stored, photometric="minisblack", planarconfig=planar)(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, samples)
    reader = Images(tmp_path)
    with pytest.raises(SegprefError, match=r"a\.tif has 5 channels but 1 are expected"):
        reader.read(reader.sources()[0])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_transparency_is_left_out_but_not_where_colours_depend_on_it(
    tmp_path: Path, kind: str
) -> None:
    path, half = tmp_path / "a.tif", np.full(GREY.shape, 1 if kind == "float32" else 128)
    half[:4] = 0
    pixels = layers(*STACK, half).astype(kind)
    tiff(pixels, photometric="rgb", extrasamples=["unassalpha"])(path)
    np.testing.assert_array_equal(read_volume(path).array, STACK)
    tiff(pixels, photometric="rgb", extrasamples=["assocalpha"])(path)
    with pytest.raises(SegprefError, match=r"a\.tif .*associated alpha.*without transparency"):
        read_volume(path)
    grey = pixels[..., 2:]
    how: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    for extra in ("unassalpha", "assocalpha"):
        tiff(grey, extrasamples=[extra], **how)(path)
        for colours in ("labels", "mask"):
            with pytest.raises(SegprefError, match=r"a\.tif .*transparen"):
                read_volume(path, colours)


def test_numbers_with_an_imaginary_part_are_refused(tmp_path: Path) -> None:
    tiff(GREY * (1 + 1j), photometric="minisblack")(tmp_path / "a.tif")
    with pytest.raises(SegprefError, match=r"a\.tif holds complex128 pixels"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("colours", ["labels", "mask"])
def test_class_numbers_are_not_turned_round(tmp_path: Path, colours: Any) -> None:
    path = tmp_path / "a.tif"
    tiff(CLASSES, photometric="miniswhite")(path)
    with pytest.raises(SegprefError, match=r"a\.tif .*MINISWHITE.*MINISBLACK"):
        read_volume(path, colours)
    tiff(DISC * np.uint8(255), photometric="miniswhite")(path)
    np.testing.assert_array_equal(read_volume(path, colours).array[0], 255 - DISC * 255)


# Label maps and masks


def reader_of(
    folder: Path, label: Write, name: str, place: str = "labels", **options: Any
) -> Folders:
    (folder / "images").mkdir(parents=True)
    (folder / place).mkdir(parents=True)
    pillow(GREY)(folder / "images" / "a.png")
    label(folder / place / name)
    return Folders(folder, **options)


def label_of(folder: Path, label: Write, name: str, place: str = "labels", **options: Any) -> Any:
    reader = reader_of(folder, label, name, place, **options)
    found = reader.read(reader.sources()[0]).label
    assert found is not None
    return found[0]


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128]
RAMP = [0, 0, 0, 1, 1, 1, 2, 2, 2]

LABELS: dict[str, tuple[Write, str, np.ndarray | str]] = {
    "colours by index": (palette(CLASSES, VOC), "a.png", CLASSES),
    "colours by index, one of them transparent": (
        palette(CLASSES, VOC, transparency=0), "a.png", CLASSES,
    ),
    "greys by index": (palette(CLASSES, RAMP), "a.png", CLASSES),
    "black and white by index": (palette(DISC, [0, 0, 0, 255, 255, 255]), "a.png", DISC),
    "white and black by index": (
        palette(1 - DISC, [255, 255, 255, 0, 0, 0]), "a.png", "0, 1 as the grey levels 255, 0",
    ),
    "greys out of step with their index": (
        palette(CLASSES, [0, 0, 0, 2, 2, 2, 4, 4, 4]), "a.png", "0, 1, 2 as the grey levels 0, 2, 4",
    ),
    "GIF that packs its greys": (pillow(GAPS), "a.gif", "without a palette"),
    "GIF of small numbers": (pillow(CLASSES), "a.gif", CLASSES),
    "greys, one of them transparent": (pillow(CLASSES, transparency=0), "a.png", CLASSES),
    "grey as red, green and blue": (pillow(layers(CLASSES, CLASSES, CLASSES)), "a.png", CLASSES),
    "colours": (pillow(layers(CLASSES, NOTHING, CLASSES)), "a.png", "as grey levels"),
    "JPEG under another name": (pillow(CLASSES, "JPEG"), "a.png", "holds a JPEG"),
    "JPEG in a TIFF": (pillow(CLASSES, "TIFF", compression="jpeg"), "a.tif", "holds a JPEG"),
    "almost whole": (tiff(CLASSES * np.float32(0.9999)), "a.tif", CLASSES),
    "halves": (tiff(CLASSES * np.float32(0.5)), "a.tif", "not whole numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
def test_label_maps(tmp_path: Path, name: str) -> None:
    write, file, due = LABELS[name]
    names = ("background", "one", "two") if due is not DISC else ("background", "disc")
    if isinstance(due, str):
        with pytest.raises(SegprefError, match=due) as refused:
            label_of(tmp_path, write, file, names=names)
        assert str(tmp_path / "labels" / file) in str(refused.value)
    else:
        np.testing.assert_array_equal(label_of(tmp_path, write, file, names=names), due)


SMEARED = DISC * np.uint8(255)
SMEARED[3, 4:20], SMEARED[19, 4:20] = 100, 200

MASKS: dict[str, tuple[Write, str, np.ndarray | str]] = {
    "smeared edges": (pillow(SMEARED), "a.png", DISC),
    "JPEG": (pillow(DISC * np.uint8(255), quality=95), "a.jpg", DISC),
    "JPEG under another name": (pillow(DISC * np.uint8(255), "JPEG", quality=95), "a.png", DISC),
    "JPEG of 0 and 1": (pillow(DISC, quality=95), "a.jpg", "dark greys alone"),
    "JPEG of 0 and 1 under another name": (pillow(DISC, "JPEG"), "a.png", "dark greys alone"),
    "JPEG of 0 and 1 in a TIFF": (
        pillow(DISC, "TIFF", compression="jpeg"), "a.tif", "dark greys alone",
    ),
    "dark JPEG": (pillow(DISC * np.uint8(100)), "a.jpg", "dark greys alone"),
    "JPEG of nothing": (pillow(NOTHING), "a.jpg", NOTHING),
    "white everywhere": (pillow(WHITE), "a.png", NOTHING + 1),
    "light greys": (pillow(DISC + np.uint8(254)), "a.png", "light greys alone"),
    "red": (pillow(layers(DISC * np.uint8(255), NOTHING, NOTHING)), "a.png", DISC),
    "blue by index": (palette(DISC, [0, 0, 0, 0, 0, 255]), "a.png", DISC),
    "white by index 0": (palette(1 - DISC, [255, 255, 255, 0, 0, 0]), "a.png", DISC),
    "red and green": (
        pillow(layers(np.where(CLASSES == 1, 255, 0), np.where(CLASSES == 2, 255, 0), NOTHING)
               .astype(np.uint8)), "a.png", "colour picture",
    ),
    "red JPEG": (
        pillow(layers(DISC * np.uint8(255), NOTHING, NOTHING)), "a.jpg", "colour picture",
    ),
    "white behind transparency": (
        pillow(layers(WHITE, WHITE, WHITE, DISC * np.uint8(255))), "a.png", "transparent parts",
    ),
    "black behind transparency": (
        pillow(layers(*[DISC * np.uint8(255)] * 4)), "a.png", DISC,
    ),
    "16 bits": (pillow(DISC.astype(np.uint16) * np.uint16(65535)), "a.png", DISC),
    "almost whole": (tiff(DISC * np.float32(0.9999)), "a.tif", DISC),
    "probabilities": (tiff(DISC * np.float32(0.9)), "a.tif", "set threshold"),
    "probabilities in colour": (
        tiff(layers(DISC, DISC, DISC) * np.float32(0.9), photometric="rgb"), "a.tif", "set threshold",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_one_structure(tmp_path: Path, name: str) -> None:
    write, file, due = MASKS[name]
    if isinstance(due, str):
        with pytest.raises(SegprefError, match=due) as refused:
            label_of(tmp_path, write, file, "masks/disc")
        assert str(tmp_path / "masks" / "disc" / file) in str(refused.value)
    else:
        np.testing.assert_array_equal(label_of(tmp_path, write, file, "masks/disc"), due)


def test_a_threshold_cuts_what_would_be_refused(tmp_path: Path) -> None:
    found = label_of(tmp_path, pillow(DISC * np.uint8(100)), "a.jpg", "masks/disc", threshold=50)
    np.testing.assert_array_equal(found, DISC)


@pytest.mark.parametrize("value", [-1, -300])
def test_classes_below_zero_are_refused_with_their_file(tmp_path: Path, value: int) -> None:
    with pytest.raises(SegprefError, match=rf"a\.tif holds the label value {value:g}: number"):
        reader_of(tmp_path, tiff(np.where(DISC, value, 0), photometric="minisblack"), "a.tif")


def test_classes_beyond_every_number_are_refused_with_their_file(tmp_path: Path) -> None:
    huge = np.where(DISC, np.uint64(2**64 - 1), np.uint64(0))
    with pytest.raises(SegprefError, match=r"a\.tif holds values up to 1844.*grey levels"):
        reader_of(tmp_path, tiff(huge, photometric="minisblack"), "a.tif")


# Other formats


def test_a_jpeg_under_another_name_is_an_image_like_any_other(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        pillow(GREY, "JPEG")(tmp_path / name)
    found = [read_volume(tmp_path / name).array for name in ("a.png", "a.jpg")]
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("way", ["CMYK", "progressive"])
def test_jpegs_of_other_kinds_are_as_pillow_shows_them(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a.jpg"
    image = Image.fromarray(layers(*STACK))
    if way == "CMYK":
        image.convert("CMYK").save(path, quality=95)
    else:
        image.save(path, progressive=True)
    shown = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(np.moveaxis(read_volume(path).array, 0, -1), shown)


def content(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "numpy":
        np.save(file, GREY)
    else:
        Image.fromarray(layers(*STACK)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("a.png", "WEBP", "WebP"),
        ("a.jpg", "JPEG2000", "JPEG 2000"),
        ("a.png", "PDF", "PDF"),
        ("a.tif", "numpy", "NumPy"),
        ("a.nii", "PNG", "PNG"),
        ("a.nii.gz", "TIFF", None),
    ],
)
def test_content_of_another_format_is_named(
    tmp_path: Path, name: str, kind: str, said: str | None
) -> None:
    (tmp_path / name).write_bytes(content(kind))
    due = f"{name} is {said} by its content" if said else f"{name} is cut off, damaged or no NIfTI"
    with pytest.raises(SegprefError, match=due):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["b.mgz", "b.hdr", "b.img.gz", "b.webp", "b.npy"])
def test_images_that_are_not_read_are_not_passed_over_in_silence(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reader_of(tmp_path, pillow(DISC), "a.png")
    (tmp_path / "images" / name).write_bytes(b"another format")
    (tmp_path / "labels" / name).write_bytes(b"another format")
    open_dataset(tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert f"images in formats that are not read: images/{name}, labels/{name}" in said
    Images(tmp_path / "images")
    assert f"holds {name} in a format that is not read" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SegprefError, match=f"{name} is not an image that can be read: convert it"):
        read_volume(tmp_path / "images" / name)
