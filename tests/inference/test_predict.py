"""Masks of a network whose output is known: what comes back must be the thresholded image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from nibabel.affines import from_matvec
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from segpref.data import Preparation
from segpref.inference import predict_case, predict_folder
from segpref.policies import ModelCard, NetworkSpec, Segmenter, load_model, save_model
from segpref.types import Case, LabelSpace, SegprefError

CLASSES = LabelSpace("multi-class", ("background", "bright"))
STRUCTURES = LabelSpace("multi-label", ("bright", "very bright"))
ROTATED = from_matvec(
    Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix() @ np.diag((0.7, 1.3, 4.0)),
    (-12.5, 40.25, 7.125),
)


class Threshold(nn.Module):
    """Logits from the first channel: (0, x - 0.5), or one per threshold; picky about sizes."""

    def __init__(
        self,
        dims: int = 2,
        channels: int = 1,
        thresholds: tuple[float, ...] = (),
        multiple: int = 1,
        largest: int = 10_000,
    ) -> None:
        super().__init__()
        slopes, shifts = ([1.0] * len(thresholds), [-t for t in thresholds])
        if not thresholds:
            slopes, shifts = [0.0, 1.0], [0.0, -0.5]
        self.multiple, self.largest = multiple, largest
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.head = conv(channels, len(slopes), 1)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[:, 0] = torch.tensor(slopes).reshape(-1, *[1] * dims)
            self.head.bias.copy_(torch.tensor(shifts))

    def forward(self, images: Tensor) -> Tensor:
        if any(n % self.multiple for n in images.shape[2:]):
            raise RuntimeError("sizes of tensors must match")
        if max(images.shape[2:]) > self.largest:
            raise RuntimeError("too large")
        return self.head(images)


class Hungry(nn.Module):
    """Fails whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("nothing fits")


def card_of(
    preparation: Preparation | None = None,
    space: LabelSpace = CLASSES,
    name: str = "Threshold",
    **init: Any,
) -> ModelCard:
    preparation = preparation or Preparation(normalise="none")
    if name == "Threshold":
        init = {"dims": preparation.dims, **init}
    return ModelCard(
        NetworkSpec(f"{__name__}.{name}", init),
        space,
        preparation,
        tuple(f"channel {i}" for i in range(init.get("channels", 1))),
    )


def model_file(folder: Path, card: ModelCard) -> Path:
    path = folder / "model.safetensors"
    save_model(path, card.network.build(), card)
    return path


def segment(card: ModelCard, image: np.ndarray, **options: Any) -> np.ndarray:
    spacing = options.pop("spacing_mm", None)
    case = Case(id="a", patient="a", volume="a", image=image, spacing_mm=spacing)
    return predict_case(Segmenter(card.network.build(), card.label_space), card, case, **options)


def blobs(shape: tuple[int, ...], seed: int = 0, sigma: float = 3.0) -> np.ndarray:
    """Smooth float32 structures from 0 to 1, about half of them above 0.5."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    field -= np.median(field)
    return (0.5 + 0.5 * field / np.abs(field).max()).astype(np.float32)


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum())


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray = ROTATED) -> Path:
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=2)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


# Masks on native voxels


def test_a_picture_comes_back_as_its_threshold(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (13, 21), dtype=np.uint8)
    grey.flat[:2] = 0, 255
    images = folder(tmp_path / "images")
    Image.fromarray(grey).save(images / "an image.png")
    model = model_file(tmp_path, card_of(Preparation(normalise="min-max")))
    (written,) = predict_folder(model, images, tmp_path / "out")
    assert written == tmp_path / "out" / "an image.png"
    assert np.array_equal(np.asarray(Image.open(written)), (grey >= 128).astype(np.uint8))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 99])
def test_a_volume_comes_back_as_its_threshold_with_its_header(
    tmp_path: Path, dims: int, batch_size: int
) -> None:
    image = noise((9, 11, 7))
    path = save_nifti(tmp_path / "scan.nii.gz", image)
    model = model_file(tmp_path, card_of(Preparation(dims=dims, normalise="none")))
    (written,) = predict_folder(model, path, tmp_path / "out", batch_size=batch_size)
    assert written.name == "scan.nii.gz"
    before, after = nib.load(path), nib.load(written)
    assert np.array_equal(np.asarray(after.dataobj), image > 0.5)
    assert after.get_data_dtype() == np.uint8
    assert np.array_equal(after.affine, before.affine)
    for name in ("pixdim", "qform_code", "sform_code", "quatern_b", "srow_x", "xyzt_units"):
        assert np.array_equal(before.header[name], after.header[name]), name


def test_several_classes_and_ties_are_decoded_as_argmax() -> None:
    space = LabelSpace("multi-class", ("background", "low", "high"))
    card = card_of(space=space, thresholds=(0.5, 0.5, 0.25))
    network = card.network.build()
    image = noise((1, 8, 8, 5))
    with torch.no_grad():
        network.head.weight[:] = torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1)
        network.head.bias[:] = torch.tensor([0.5, 0.0, -0.75])
    image[0, 0, 0] = 0.5  # background and low are equal: the first wins
    case = Case(id="a", patient="a", volume="a", image=image)
    mask = predict_case(Segmenter(network, space), card, case)
    logits = np.stack([np.full_like(image[0], 0.5), image[0], 2 * image[0] - 0.75])
    assert np.array_equal(mask[0], logits.argmax(axis=0))
    assert len(np.unique(mask)) == 3


def test_outside_the_crop_is_background() -> None:
    image = noise((1, 20, 15, 4))
    mask = segment(card_of(Preparation(crop=(10, 9), normalise="none")), image)
    expected = np.zeros((20, 15, 4), bool)
    expected[5:15, 3:12] = image[0, 5:15, 3:12] > 0.5
    assert np.array_equal(mask[0], expected)


def test_outside_the_crop_no_structure_is_there() -> None:
    image = np.full((1, 12, 12), 0.9, np.float32)
    card = card_of(Preparation(crop=(6, 6), normalise="none"), STRUCTURES, thresholds=(0.3, 0.6))
    mask = segment(card, image)
    assert mask.shape == (2, 12, 12)
    assert mask[:, 3:9, 3:9].all()
    assert mask.sum() == 2 * 36


@pytest.mark.parametrize("dims", [2, 3])
def test_what_was_padded_is_cut_off_again(dims: int) -> None:
    image = noise((1, 9, 7, 5))
    crop = (16, 12, 8)[:dims]
    mask = segment(card_of(Preparation(dims=dims, crop=crop, normalise="none")), image)
    assert np.array_equal(mask[0], image[0] > 0.5)


@pytest.mark.parametrize(("dims", "size"), [(2, (40, 48)), (3, (40, 48, 20))])
def test_resizing_is_undone(dims: int, size: tuple[int, ...]) -> None:
    image = blobs((1, 60, 64, 30))
    mask = segment(card_of(Preparation(dims=dims, size=size, normalise="none")), image)
    assert mask.shape == (1, 60, 64, 30)
    assert overlap(mask[0], image[0] > 0.5) > 0.93


def test_resampling_of_a_rotated_anisotropic_scan_is_undone(tmp_path: Path) -> None:
    image = blobs((48, 40, 9))
    path = save_nifti(tmp_path / "scan.nii", image)
    card = card_of(Preparation(dims=3, spacing_mm=(1.0, 1.0, 2.0), normalise="none"))
    (written,) = predict_folder(model_file(tmp_path, card), path, tmp_path / "out")
    after = nib.load(written)
    assert np.array_equal(after.affine, nib.load(path).affine)
    assert after.shape == image.shape
    assert overlap(np.asarray(after.dataobj), image > 0.5) > 0.93


def test_the_edge_of_a_resampled_crop_stays_where_it_is() -> None:
    image = np.full((1, 32, 32), 0.9, np.float32)
    preparation = Preparation(spacing_mm=(2.0, 2.0), crop=(8, 8), normalise="none")
    mask = segment(card_of(preparation), image, spacing_mm=(1.0, 1.0))
    expected = np.zeros((32, 32))
    expected[8:24, 8:24] = 1
    assert np.abs(mask[0] - expected).sum() <= 4  # the corners, where two edges are blended


def test_overlapping_structures_go_to_one_file_each(tmp_path: Path) -> None:
    image = noise((6, 7, 5))
    path = save_nifti(tmp_path / "scan.nii.gz", image)
    model = model_file(tmp_path, card_of(space=STRUCTURES, thresholds=(0.3, 0.6)))
    first, second = predict_folder(model, path, tmp_path / "out")
    assert (first.name, second.name) == ("scan_bright.nii.gz", "scan_very_bright.nii.gz")
    assert np.array_equal(np.asarray(nib.load(first).dataobj), image > 0.3)
    assert np.array_equal(np.asarray(nib.load(second).dataobj), image > 0.6)


def write_series(place: Path, stack: np.ndarray) -> Path:
    """A series of (slice, row, column) whose file names run against the positions."""
    folder(place)
    for number, pixels in enumerate(stack):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = place / f"{len(stack) - number:03d}.dcm"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID = "1.2.3"
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.PixelSpacing, data.SliceThickness = [0.5, 0.75], 2.5
        data.ImagePositionPatient = [-10.0, 20.0, 5.0 + 2.5 * number]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelData = pixels.astype("<u2").tobytes()
        pydicom.dcmwrite(path, data, enforce_file_format=True)
    return place


def test_dicom_series_become_nifti_in_their_place(tmp_path: Path) -> None:
    stacks = np.random.default_rng(0).integers(0, 1001, (2, 3, 6, 8))
    stacks[..., 0, :2] = 0, 1000
    for name, stack in zip(("first", "second"), stacks, strict=True):
        write_series(tmp_path / "study" / name, stack)
    model = model_file(tmp_path, card_of(Preparation(normalise="min-max")))
    written = predict_folder(model, tmp_path / "study", tmp_path / "out")
    assert [path.name for path in written] == ["first.nii.gz", "second.nii.gz"]
    for path, stack in zip(written, stacks, strict=True):
        mask = nib.load(path)
        # NIfTI has (x, y, z) where DICOM has (slice, row, column), and RAS where DICOM has LPS.
        assert np.array_equal(np.asarray(mask.dataobj), (stack > 500).transpose(2, 1, 0))
        expected = np.diag((-0.75, -0.5, 2.5, 1.0))
        expected[:3, 3] = 10.0, -20.0, 5.0
        assert np.allclose(mask.affine, expected)
    (alone,) = predict_folder(model, tmp_path / "study" / "first", tmp_path / "alone")
    assert alone.name == "first.nii.gz"
    assert np.array_equal(nib.load(alone).dataobj, nib.load(written[0]).dataobj)


# Windows and sizes


@pytest.mark.parametrize(
    ("shape", "patch"), [((1, 30, 21, 9), (8, 8, 8)), ((1, 30, 21, 9), (12, 40, 16))]
)
def test_windows_of_a_pointwise_network_equal_the_whole_image_in_3d(
    shape: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    image = noise(shape)
    card = card_of(Preparation(dims=3, normalise="none"), largest=max(patch))
    assert np.array_equal(segment(card, image, patch=patch)[0], image[0] > 0.5)


def test_windows_slide_over_slices(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii", image := noise((40, 25, 3)))
    model = model_file(tmp_path, card_of(largest=16, multiple=4))
    (written,) = predict_folder(model, path, tmp_path / "out", patch=(16, 16), overlap=0.25)
    assert np.array_equal(np.asarray(nib.load(written).dataobj), image > 0.5)


@pytest.mark.parametrize("dims", [2, 3])
def test_inputs_are_padded_to_what_the_network_takes(dims: int) -> None:
    image = noise((1, 9, 14, 5))
    card = card_of(Preparation(dims=dims, normalise="none"), multiple=8)
    assert np.array_equal(segment(card, image)[0], image[0] > 0.5)


def test_a_unet_takes_any_size_and_a_fitting_size_is_left_alone() -> None:
    spec = NetworkSpec(
        "monai.networks.nets.UNet",
        {
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [4, 8, 8],
            "strides": [2, 2],
        },
    )
    card = ModelCard(spec, CLASSES, Preparation(normalise="none"))
    torch.manual_seed(0)
    model = Segmenter(spec.build(), CLASSES)
    for shape in ((1, 13, 18), (1, 16, 20)):
        case = Case(id="a", patient="a", volume="a", image=noise(shape))
        mask = predict_case(model, card, case)
        assert mask.shape == shape
    plain = model.label_space.decode(model.logits(torch.from_numpy(case.image[None])))[0]
    assert np.array_equal(mask, plain.numpy())


def test_padding_takes_the_lowest_intensity_of_each_channel() -> None:
    seen: list[Tensor] = []
    card = card_of(channels=2, multiple=4)
    network = card.network.build()
    network.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = noise((2, 3, 3)) + np.array([5.0, -5.0], np.float32).reshape(2, 1, 1)
    case = Case(id="a", patient="a", volume="a", image=image)
    predict_case(Segmenter(network, CLASSES), card, case)
    (fed,) = seen
    assert fed.shape == (1, 2, 4, 4)
    assert torch.equal(fed[0].amin((1, 2)), torch.from_numpy(image.min((1, 2))))
    assert torch.equal(fed[0, :, -1, -1], torch.from_numpy(image.min((1, 2))))


# Folders


def test_channel_files_are_one_image(tmp_path: Path) -> None:
    images, parts = folder(tmp_path / "images"), noise((2, 6, 5, 4))
    for number, part in enumerate(parts):
        save_nifti(images / f"scan_{number:04d}.nii.gz", part)
    model = model_file(tmp_path, card_of(channels=2))
    (written,) = predict_folder(model, images, tmp_path / "out")
    assert written.name == "scan.nii.gz"
    assert np.array_equal(np.asarray(nib.load(written).dataobj), parts[0] > 0.5)


def test_what_is_there_is_skipped_unless_it_is_to_be_overwritten(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    for name in "ab":
        save_nifti(images / f"{name}.nii", noise((4, 4, 4)))
    out = folder(tmp_path / "out")
    (out / "a.nii").write_bytes(b"kept")
    model = model_file(tmp_path, card_of())
    assert predict_folder(model, images, out) == [out / "b.nii"]
    assert (out / "a.nii").read_bytes() == b"kept"
    assert predict_folder(model, images, out) == []
    assert predict_folder(model, images, out, overwrite=True) == [out / "a.nii", out / "b.nii"]
    assert nib.load(out / "a.nii").shape == (4, 4, 4)


def test_a_bad_file_does_not_lose_the_others(tmp_path: Path) -> None:
    images, out = folder(tmp_path / "images"), tmp_path / "out"
    for name in "ac":
        save_nifti(images / f"{name}.nii", noise((4, 4, 4)))
    whole = (images / "a.nii").read_bytes()
    (images / "b.nii").write_bytes(whole[:-40])
    with pytest.raises(SegprefError, match=r"2 of 3 images .* 1 failed: .*b\.nii is cut off"):
        predict_folder(model_file(tmp_path, card_of()), images, out)
    assert sorted(path.name for path in out.iterdir()) == ["a.nii", "c.nii"]


def test_an_image_that_the_network_fails_on_does_not_lose_the_others(tmp_path: Path) -> None:
    images, out = folder(tmp_path / "images"), tmp_path / "out"
    save_nifti(images / "a.nii", noise((9, 9, 2)))
    save_nifti(images / "b.nii", noise((8, 8, 2)))
    with pytest.raises(SegprefError, match=r"9 x 9 voxels.*too large.*patch"):
        predict_folder(model_file(tmp_path, card_of(largest=8)), images, out)
    assert [path.name for path in out.iterdir()] == ["b.nii"]


def test_wrong_channels_are_told(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii", noise((4, 4, 4)))
    model = model_file(tmp_path, card_of(channels=2))
    with pytest.raises(SegprefError, match=r"scan\.nii has 1 channels but 2 are expected"):
        predict_folder(model, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_resampling_without_a_voxel_size_is_told(tmp_path: Path) -> None:
    Image.fromarray(np.eye(5, dtype=np.uint8)).save(tmp_path / "a.png")
    model = model_file(tmp_path, card_of(Preparation(spacing_mm=(1.0, 1.0))))
    with pytest.raises(
        SegprefError, match="does not state its voxel size, but the model resamples"
    ):
        predict_folder(model, tmp_path / "a.png", tmp_path / "out")


def test_images_are_not_overwritten(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii", noise((4, 4, 4)))
    before = path.read_bytes()
    with pytest.raises(SegprefError, match="would be overwritten"):
        predict_folder(model_file(tmp_path, card_of()), path, tmp_path, overwrite=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("preparation", "options", "message"),
    [
        (Preparation(), {"patch": (4, 4, 4)}, "patch needs 2 positive numbers"),
        (Preparation(size=(8, 8)), {"patch": (4, 4)}, "8 x 8 voxels: leave patch out"),
        (Preparation(), {"overlap": 1.0}, "overlap must be from 0 to below 1"),
    ],
)
def test_settings_that_can_not_be_are_told(
    preparation: Preparation, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SegprefError, match=message):
        segment(card_of(preparation), noise((1, 8, 8)), **options)


def test_a_network_that_takes_nothing_is_told() -> None:
    with pytest.raises(SegprefError, match="nothing fits"):
        segment(card_of(name="Hungry"), noise((1, 8, 8)))


def test_the_model_file_is_all_that_is_needed(tmp_path: Path) -> None:
    model, card = load_model(model_file(tmp_path, card_of(multiple=2)))
    image = noise((1, 5, 5))
    case = Case(id="a", patient="a", volume="a", image=image)
    assert np.array_equal(predict_case(model, card, case)[0], image[0] > 0.5)
