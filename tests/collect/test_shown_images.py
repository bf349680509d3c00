"""What is shown of images and masks, against nibabel, Pillow and the arrays that were written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.written import dicom, grey, nifti, picture, series

from segpref.collect import (
    ShownImage,
    default_window,
    native_mask,
    packed_mask,
    shown_image,
    slice_of,
)
from segpref.data import Dataset, Images, Preparation, prepare
from segpref.inference import predict_case
from segpref.policies import ModelCard, NetworkSpec
from segpref.types import LabelSpace, SegprefError

ONE = LabelSpace("multi-class", ("background", "organ"))
THREE = LabelSpace("multi-class", ("background", "a", "b", "c"))
SIDES = LabelSpace("multi-label", ("left", "right", "both"))


def turned_affine(codes: str, sizes: tuple[float, float, float]) -> np.ndarray:
    ornt = nib.orientations.axcodes2ornt(codes)
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign * sizes[axis]
    affine[:, 3] = (-11, 5, 30, 1)
    return affine


def oblique(codes: str, sizes: tuple[float, float, float]) -> np.ndarray:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ turned_affine(codes, sizes)


def card(space: LabelSpace, dims: int, channels: int = 1, **preparation: object) -> ModelCard:
    network = NetworkSpec("torch.nn.Identity", {})
    names = ("image",) if channels == 1 else ("red", "green", "blue")
    return ModelCard(network, space, Preparation(dims=dims, **preparation), channels=names)


def shown(path: Path, model: ModelCard, item: int | None = 0) -> ShownImage:
    reader = Images(path, channels=model.channels, colour=len(model.channels) == 3 or None)
    return shown_image(reader, dataset(path, model).volumes[0], item, model)


def dataset(path: Path, model: ModelCard) -> Dataset:
    reader = Images(path, channels=model.channels, colour=len(model.channels) == 3 or None)
    axes = model.orientation
    return prepare(reader, model.preparation, None, model.label_space, orientation=axes)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGPREF_CACHE", str(tmp_path / "cache"))


AFFINES = {
    "RAS": turned_affine("RAS", (1, 1, 1)),
    "LPS": turned_affine("LPS", (1.5, 0.7, 4)),
    "anisotropic PIR": turned_affine("PIR", (0.5, 5, 2)),
    "SLA": turned_affine("SLA", (3, 1, 2)),
    "oblique": oblique("RAS", (0.8, 0.8, 3)),
    "oblique AIL": oblique("AIL", (0.8, 1.2, 3)),
}


@pytest.mark.parametrize("name", AFFINES)
def test_volumes_are_as_nibabel_turns_them(name: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(-900, 900, (5, 6, 7)).astype(np.int16)
    path = nifti(tmp_path / "a.nii.gz", array, AFFINES[name])
    found = shown(path, card(ONE, 3))
    values = found.layout(found.native.values)
    canonical = nib.as_closest_canonical(nib.load(path))
    ras = np.asarray(canonical.dataobj)
    assert values.dtype == np.int16
    assert found.layout.axes == "LPS"
    assert np.array_equal(values, ras[::-1, ::-1].transpose(2, 1, 0))
    assert found.layout.spacing_mm == pytest.approx(canonical.header.get_zooms()[::-1])
    # The slices, in the patient's own directions: x to the right, y to the front, z to the head.
    x, y, z = ras.shape
    top_left = {
        "axial": (ras[x - 1, y - 1, 2], ras[0, 0, 2], slice_of(values, "axial", 2)),
        "coronal": (
            ras[x - 1, y - 1 - 3, z - 1],
            ras[0, y - 1 - 3, 0],
            slice_of(values, "coronal", 3),
        ),
        "sagittal": (
            ras[x - 1 - 1, y - 1, z - 1],
            ras[x - 1 - 1, 0, 0],
            slice_of(values, "sagittal", 1),
        ),
    }
    for first, last, plane in top_left.values():
        assert plane[0, 0] == first
        assert plane[-1, -1] == last


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize(("dims", "by_preparation"), [(2, False), (3, False), (3, True)])
def test_masks_lie_where_predictions_do(
    name: str, dims: int, by_preparation: bool, tmp_path: Path
) -> None:
    """Without resampling a prepared mask is the predicted one; also of one slice alone."""
    array = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)
    path = nifti(tmp_path / "a.nii.gz", array, AFFINES[name])
    # The model's own axes are others than the file's.
    model = card(ONE, dims, orientation="LSP" if by_preparation else None)
    if not by_preparation:
        model = replace(model, orientation="LSP")

    class Bright:
        """Finds what is bright."""

        label_space = ONE

        def logits(self, images: torch.Tensor) -> torch.Tensor:
            lead = images - 0.5
            return torch.cat([-lead, lead], dim=1)

    whole = shown(path, model, None)
    case = whole.case
    wanted = packed_mask(predict_case(Bright(), model, case), whole.layout, ONE)
    bright = (array - array.min()) / (array.max() - array.min()) > 0.5
    assert np.array_equal(wanted, whole.layout(bright[None]))
    cases = dataset(path, model)
    assert len(cases) == (1 if dims == 3 else len(cases.volumes[0].images))
    for number in range(len(cases)):
        one = shown(path, model, number)
        prepared = (cases[number].image > 0.5).astype(np.uint8)
        packed = packed_mask(native_mask(prepared, model, one), one.layout, ONE)
        image = one.layout(one.native.values)
        assert packed.shape == image.shape
        if dims == 3:
            assert np.array_equal(packed, wanted)
            continue
        # Slices along the model's last axis, to the back: of the patient from front to back.
        assert image.shape[1] == 1
        assert np.array_equal(image, whole.layout(whole.native.values)[:, number : number + 1])
        assert np.array_equal(packed, wanted[:, number : number + 1])


def test_axes_that_a_file_does_not_tell_stay_and_get_no_letters(tmp_path: Path) -> None:
    array = grey((4, 5, 6), dtype=np.uint8)
    image = nib.Nifti1Image(array, np.eye(4))
    image.header["sform_code"] = image.header["qform_code"] = 0
    image.header.set_zooms((1, 1, 2.5))
    nib.save(image, tmp_path / "a.nii.gz")
    found = shown(tmp_path / "a.nii.gz", card(ONE, 3))
    assert found.layout.axes == "unknown"
    assert np.array_equal(found.layout(found.native.values), array.transpose(2, 1, 0))


def test_a_nifti_file_of_two_axes_is_one_slice(tmp_path: Path) -> None:
    array = grey((4, 6), dtype=np.int16)
    path = nifti(tmp_path / "a.nii.gz", array, turned_affine("RAS", (2, 3, 1)))
    found = shown(path, card(ONE, 2))
    values = found.layout(found.native.values)
    assert found.layout.axes == "LPS"
    assert np.array_equal(values, array[::-1, ::-1].T[None])
    assert found.layout.spacing_mm == pytest.approx((1, 3, 2))
    mask = native_mask((array[None] > 90).astype(np.uint8), card(ONE, 2), found)
    assert np.array_equal(packed_mask(mask, found.layout, ONE), values > 90)


def test_pictures_are_as_viewers_show_them(tmp_path: Path) -> None:
    model = card(ONE, 2)
    plain = grey((9, 12))
    found = shown(picture(tmp_path / "a" / "plain.png", plain), model)
    values = found.layout(found.native.values)
    assert found.layout.axes == "picture"
    assert values.dtype == np.uint8
    assert np.array_equal(values, plain[None])
    assert found.layout.spacing_mm is None
    upright = Image.fromarray(np.repeat(np.repeat(grey((3, 4)), 16, 0), 16, 1))
    exif = upright.getexif()
    exif[0x0112] = 6
    path = tmp_path / "b" / "turned.jpg"
    path.parent.mkdir()
    upright.save(path, exif=exif, quality=95)
    values = (one := shown(path, model)).layout(one.native.values)
    assert np.array_equal(values[0], np.rot90(np.asarray(Image.open(path)), -1))


@pytest.mark.slow
def test_a_large_radiograph_keeps_its_bits(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 4096, (3056, 2544)).astype(np.uint16)
    model = card(ONE, 2, size=(64, 64))
    found = shown(picture(tmp_path / "a" / "chest.png", array), model)
    values = found.layout(found.native.values)
    assert values.dtype == np.uint16
    assert np.array_equal(values[0], array)
    prepared = np.zeros((1, 64, 64), np.uint8)
    prepared[0, :32] = 1
    packed = packed_mask(native_mask(prepared, model, found), found.layout, ONE)
    assert packed.shape == (1, 3056, 2544)
    assert packed[0, : 3056 // 2].all()
    assert not packed[0, 3056 // 2 :].any()


def test_colours_are_shown_where_the_model_sees_grey(tmp_path: Path) -> None:
    array = grey((6, 8, 3))
    path = picture(tmp_path / "a" / "skin.png", array)
    for model in (card(ONE, 2), card(ONE, 2, channels=3)):
        if len(model.channels) == 1:
            reader = Images(path, channels=model.channels, colour=False)
            volume = prepare(reader, model.preparation, None, ONE).volumes[0]
            found = shown_image(reader, volume, 0, model)
        else:
            found = shown(path, model)
        values = found.layout(found.native.values)
        assert np.array_equal(values, array[None])
        assert values.dtype == np.uint8
        assert found.native.window is None


def test_masks_of_several_classes_and_of_overlapping_structures(tmp_path: Path) -> None:
    array = grey((5, 6, 7), dtype=np.int16)
    path = nifti(tmp_path / "a.nii.gz", array, turned_affine("LIP", (1, 1, 1)))
    rng = np.random.default_rng(1)
    model = card(THREE, 3)
    found = shown(path, model)
    classes = rng.integers(0, 4, (1, 5, 6, 7)).astype(np.uint8)
    packed = packed_mask(native_mask(classes, model, found), found.layout, THREE)
    assert packed.dtype == np.uint8
    assert np.array_equal(packed, found.layout(classes))
    bits = rng.integers(0, 2, (3, 5, 6, 7)).astype(np.uint8)
    packed = packed_mask(native_mask(bits, card(SIDES, 3), found), found.layout, SIDES)
    assert packed.dtype == np.uint32
    for place in range(3):
        assert np.array_equal((packed >> place) & 1, found.layout(bits[place : place + 1]))
    many = LabelSpace("multi-label", tuple(f"s{n}" for n in range(33)))
    with pytest.raises(SegprefError, match="at most 32"):
        packed_mask(np.zeros((33, 5, 6, 7), np.uint8), found.layout, many)


def test_what_lies_beyond_the_crop_is_background(tmp_path: Path) -> None:
    array = grey((12, 10), dtype=np.uint8)
    model = card(THREE, 2, crop=(6, 6))
    found = shown(picture(tmp_path / "a" / "x.png", array), model)
    packed = packed_mask(
        native_mask(np.full((1, 6, 6), 2, np.uint8), model, found), found.layout, THREE
    )
    wanted = np.zeros((1, 12, 10), np.uint8)
    wanted[0, 3:9, 2:8] = 2
    assert np.array_equal(packed, wanted)


def test_what_dicom_says_of_window_and_inversion(tmp_path: Path) -> None:
    pixels = grey((4, 6), dtype=np.uint16)
    tags = {"WindowCenter": 60, "WindowWidth": 120}
    dark = dicom(
        tmp_path / "b.dcm", pixels, "1.3", None, PhotometricInterpretation="MONOCHROME1", **tags
    )
    found = shown(dark, card(ONE, 2))
    assert found.native.inverted
    assert np.array_equal(found.layout(found.native.values)[0], pixels)
    assert found.native.values.dtype.kind in "iu"
    assert found.native.window == (60, 120)
    assert found.layout.spacing_mm == pytest.approx((1, 0.5, 0.75))
    stored = grey((3, 4, 6), dtype=np.uint16)
    folder = series(tmp_path / "s", stored, RescaleIntercept=-1024, RescaleSlope=1)
    found = shown(folder, card(ONE, 3))
    values = found.layout(found.native.values)
    # DICOM's own axes are LPS, so rows and columns stay.
    assert np.array_equal(values, stored.astype(int) - 1024)
    assert found.native.window == (40, 400)
    assert not found.native.inverted


def test_windows_where_the_file_states_none() -> None:
    assert default_window(np.array([-1000, 0, 300], np.int16)) == (40, 400)
    assert default_window(np.array([-0.5, 1.5], np.float32)) == pytest.approx((0.5, 1.98))
    assert default_window(np.full(5, 7, np.uint8)) == (7, 1)
    low, high = 2.0, 198.0
    centre, width = default_window(np.arange(201).astype(np.uint8))
    assert (centre - width / 2, centre + width / 2) == pytest.approx((low - 1, high + 1), abs=0.5)


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = picture(tmp_path / "a" / "x.png", grey((5, 6)))
    model = card(ONE, 2)
    reader = Images(path, channels=model.channels)
    volume = prepare(reader, model.preparation, None, ONE).volumes[0]
    with pytest.raises(SegprefError, match="there is no channel 3 to show"):
        shown_image(reader, volume, 0, model, channel=3)
