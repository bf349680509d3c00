"""MetaImage and NRRD wherever images are read: geometry, folders, labels, masks of predictions."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from written import labels, nifti

from segpref.data import (
    Cache,
    Folders,
    Images,
    MaskFolder,
    Preparation,
    open_dataset,
    prepare,
    read_volume,
)
from segpref.types import LabelSpace, SegprefError

VOLUME = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
AFFINE = np.array([[0, -0.7, 0, 10], [-0.6, 0, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])


def itk(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE) -> Path:
    """The file of an array ``[x, y, z]`` that lies at an affine in RAS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    if affine is not None:
        space = array.ndim
        lps = np.diag([-1.0, -1, 1, 1]) @ affine
        sizes = np.linalg.norm(lps[:space, :space], axis=0)
        image.SetSpacing(sizes.tolist())
        image.SetDirection((lps[:space, :space] / sizes).reshape(-1).tolist())
        image.SetOrigin(lps[:space, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd", "nhdr", "seg.nrrd", "NRRD"])
def test_a_volume_is_read_as_its_nifti_is(tmp_path: Path, ending: str) -> None:
    same = read_volume(nifti(tmp_path / "a.nii.gz", VOLUME, AFFINE))
    path = tmp_path / "b.nrrd"
    if ending == "NRRD":
        itk(path, VOLUME).rename(tmp_path / "b.NRRD")
    else:
        itk(tmp_path / f"b.{ending}", VOLUME)
    read = read_volume(tmp_path / f"b.{ending}")
    assert np.array_equal(read.array, same.array)
    assert read.array.dtype == np.int16
    assert read.affine is not None
    assert np.allclose(read.affine, same.affine, atol=1e-5)
    assert read.spacing_mm == pytest.approx(same.spacing_mm)
    assert read.oriented


def test_what_states_nothing_has_no_voxel_size(tmp_path: Path) -> None:
    read = read_volume(itk(tmp_path / "a.nrrd", VOLUME, None))
    assert (read.spacing_mm, read.oriented) == (None, False)


def test_channels_and_two_axes(tmp_path: Path) -> None:
    flat = read_volume(itk(tmp_path / "a.mha", VOLUME[..., 0]))
    assert np.array_equal(flat.array[0], VOLUME[..., 0])
    assert flat.spacing_mm == pytest.approx((0.6, 0.7))
    colours = np.random.default_rng(1).integers(0, 255, (3, 4, 5, 6)).astype(np.uint8)
    sitk.WriteImage(
        sitk.GetImageFromArray(np.ascontiguousarray(colours.T), isVector=True), tmp_path / "c.nrrd"
    )
    assert np.array_equal(read_volume(tmp_path / "c.nrrd").array, colours)
    four = sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.uint8), isVector=False)
    sitk.WriteImage(four, tmp_path / "d.nrrd")
    with pytest.raises(SegprefError, match=r"d\.nrrd has 4 axes: save each time point"):
        read_volume(tmp_path / "d.nrrd")


@pytest.mark.parametrize(
    ("image", "label"), [("nrrd", "seg.nrrd"), ("mha", "nii.gz"), ("nii.gz", "mhd")]
)
def test_images_with_label_maps(tmp_path: Path, image: str, label: str) -> None:
    wanted = labels(VOLUME.shape, 3)

    def write(path: Path, array: np.ndarray) -> None:
        (nifti if path.name.endswith(".nii.gz") else itk)(path, array, AFFINE)

    write(tmp_path / "images" / f"a.{image}", VOLUME)
    write(tmp_path / "labels" / f"a.{label}", wanted)
    reader = open_dataset(tmp_path)
    assert isinstance(reader, Folders)
    (source,) = reader.sources()
    assert source.id == "a"
    case = reader.read(source)
    assert case.label is not None
    assert np.array_equal(case.label[0], wanted)
    write(tmp_path / "labels" / f"a.{label}", wanted[:, :, :3])
    with pytest.raises(SegprefError, match="export both on one grid"):
        reader.read(source)


def test_overlapping_segments_are_refused(tmp_path: Path) -> None:
    itk(tmp_path / "images" / "a.nrrd", VOLUME)
    layers = sitk.GetImageFromArray(np.zeros((6, 5, 4, 2), np.uint8), isVector=True)
    (tmp_path / "labels").mkdir()
    sitk.WriteImage(layers, tmp_path / "labels" / "a.seg.nrrd")
    with pytest.raises(
        SegprefError, match=r"a\.seg\.nrrd holds segments that overlap, in 2 layers: "
    ):
        open_dataset(tmp_path)


def test_a_folder_of_images(tmp_path: Path) -> None:
    itk(tmp_path / "a.nrrd", VOLUME)
    itk(tmp_path / "b.mhd", VOLUME)
    reader = Images(tmp_path)
    assert [one.id for one in reader.sources()] == ["a", "b"]
    assert np.array_equal(reader.read(reader.sources()[1]).image[0], VOLUME)


def test_masks_of_other_programs(tmp_path: Path) -> None:
    itk(tmp_path / "images" / "a.mha", VOLUME)
    mask = (VOLUME > 0).astype(np.uint8)
    itk(tmp_path / "masks" / "a.seg.nrrd", mask)
    space = LabelSpace("multi-class", ("background", "a"))
    reader, form = Images(tmp_path / "images"), Preparation()
    cache = Cache(tmp_path / "cache")
    dataset = prepare(reader, form, cache, space)
    masks = MaskFolder(tmp_path / "masks", [reader], space, form, cache)
    masks.prepare(dataset)
    found = np.stack([masks[case][0] for case in dataset])
    case = replace(reader.read(reader.sources()[0]), label=mask[None])
    assert np.array_equal(found[:, None], form.apply(case).labels)


def test_the_voxels_beside_a_header_count_as_content(tmp_path: Path) -> None:
    path = itk(tmp_path / "in" / "a.mhd", VOLUME)
    raw = path.with_suffix(".raw")
    reader, cache = Images(tmp_path / "in"), Cache(tmp_path / "cache")
    (source,) = reader.sources()
    before = cache.digest_of_files(source.content)
    raw.write_bytes(bytes(len(raw.read_bytes())))
    assert cache.digest_of_files(source.content) != before


HEADERS = {
    "mha": "ObjectType = Image\nNDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\n"
    "ElementDataFile = {}\n",
    "nrrd": "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 2\nencoding: raw\ndata file: {}\n",
}


def header(path: Path, voxels: str) -> Path:
    """A file that names the file of its 2 x 2 voxels."""
    kind = "mha" if path.suffix in (".mha", ".mhd") else "nrrd"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADERS[kind].format(voxels))
    return path


@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd", "nhdr"])
@pytest.mark.parametrize("place", ["a.raw", "voxels/a.raw"])
def test_voxels_in_the_folder_of_their_header_are_read(
    tmp_path: Path, ending: str, place: str
) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(bytes([1, 2, 3, 4]))
    path = header(tmp_path / f"a.{ending}", place)
    assert read_volume(path).array.tolist() == [[[1, 3], [2, 4]]]
    # They are content, whatever the name of the header says.
    cache = Cache(tmp_path / "cache")
    before = cache.digest_of_files([path])
    (tmp_path / place).write_bytes(bytes([1, 2, 3, 5]))
    assert cache.digest_of_files([path]) != before


@pytest.mark.parametrize("ending", ["mha", "mhd", "nrrd", "nhdr"])
@pytest.mark.parametrize(
    ("voxels", "said"),
    [
        ("{outside}", "outside its folder: put that file beside it"),
        ("../secret.raw", "outside its folder: put that file beside it"),
        ("sub/../../secret.raw", "outside its folder: put that file beside it"),
        ("/dev/zero", "outside its folder: put that file beside it"),
        ("pipe", "pipe is a named pipe, not a file"),
        ("gone.raw", "gone.raw, which holds the voxels of .*, is not there: restore it"),
        ("LIST", "are in several files: save it with all in one"),
        ("part%d.raw 1 2 1", "are in several files: save it with all in one"),
    ],
)
def test_a_header_names_no_file_of_the_machine(
    tmp_path: Path, ending: str, voxels: str, said: str
) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(4))
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe")
    path = header(tmp_path / "in" / f"a.{ending}", voxels.format(outside=tmp_path / "secret.raw"))
    with pytest.raises(SegprefError, match=said):
        read_volume(path)
    with pytest.raises(SegprefError, match=said):
        Cache(tmp_path / "cache").digest_of_files([path])


@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_a_second_name_of_voxels_is_no_way_round(tmp_path: Path, ending: str) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(4))
    path = header(tmp_path / "in" / f"a.{ending}", "local")
    with path.open("a") as file:
        file.write(HEADERS[ending].splitlines()[-1].format(tmp_path / "secret.raw") + "\n")
    with pytest.raises(SegprefError, match=r"outside its folder|several files"):
        read_volume(path)
    path.write_text(f"{'# long' * 20_000}\n{HEADERS[ending].format(tmp_path / 'secret.raw')}")
    with pytest.raises(SegprefError, match="header without an end"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.nhdr"])
def test_damaged_files_and_a_package_that_is_missing(
    tmp_path: Path, name: str, monkeypatch
) -> None:
    path = itk(tmp_path / name, VOLUME)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if name != "a.nhdr" else whole[:30])
    with pytest.raises(
        SegprefError, match=f"{name} is cut off, damaged or no {name[2:].upper()} file"
    ):
        read_volume(path)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(
        SegprefError, match=r"SimpleITK is needed here .*pip install 'segpref\[dicom\]'"
    ):
        read_volume(path)
