"""``.seg.nrrd`` of masks, read back by SimpleITK and by segpref itself."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from tests.data.dicom_files import image, save, stack, values
from tests.data.seg_files import OBLIQUE

from segpref.data import Images, read_volume
from segpref.inference import mask_format, write_mask
from segpref.types import LabelSpace, SegprefError

HEART = LabelSpace("multi-class", ("background", "RV", "Läsion", "LV"), on_disk=(0, 2, 300, 4))
CHEST = LabelSpace("multi-label", ("left lung", "right lung", "heart"))


def written(folder: Path, space: LabelSpace, mask: np.ndarray, out: Path) -> Path:
    reader = Images(folder, channels=("image",))
    (source,) = reader.sources()
    made = mask_format("seg.nrrd", space, out)
    made.check(reader)
    (path,) = made.write(out / made.name(source), mask, space, source, reader.read(source))
    return path


def mask_of(space: LabelSpace) -> np.ndarray:
    shape = (space.fields, 9, 6, 5)
    return np.random.default_rng(0).integers(0, space.values, shape).astype(np.uint8)


def fields(path: Path) -> dict[str, str]:
    head = path.read_bytes().partition(b"\n\n")[0].decode()
    return dict(line.split(":=", 1) for line in head.splitlines() if ":=" in line)


def test_exclusive_structures_are_values_of_one_layer(tmp_path: Path) -> None:
    folder = stack(tmp_path / "in" / "s", values((5, 6, 9)), orientation=OBLIQUE, gap_mm=3.25)
    mask = mask_of(HEART)
    path = written(folder, HEART, mask, tmp_path / "out")
    assert path.name == "s.seg.nrrd"
    (nifti,) = write_mask(tmp_path / "m.nii.gz", mask, HEART, folder)
    back, due = read_volume(path), read_volume(nifti)
    assert np.array_equal(back.array, due.array)
    assert np.allclose(back.affine, due.affine, atol=1e-5)
    read = sitk.ReadImage(str(path))
    series = sitk.ImageSeriesReader()
    series.SetFileNames(series.GetGDCMSeriesFileNames(str(folder)))
    source = series.Execute()
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(getattr(read, name)(), getattr(source, name)(), atol=1e-5)
    found = fields(path)
    names = [found[f"Segment{n}_Name"] for n in range(3)]
    assert names == ["RV", "Läsion", "LV"]
    assert [found[f"Segment{n}_LabelValue"] for n in range(3)] == ["2", "300", "4"]
    assert {found[f"Segment{n}_Layer"] for n in range(3)} == {"0"}
    assert [float(one) for one in found["Segment0_Color"].split()] == pytest.approx(
        [0x2A / 255, 0x7F / 255, 1], abs=1e-5
    )
    assert len({found[f"Segment{n}_Color"] for n in range(3)}) == 3
    assert found["Segment2_Extent"] == "0 8 0 5 0 4"


def test_overlapping_structures_are_layers(tmp_path: Path) -> None:
    nifti = tmp_path / "in" / "a.nii.gz"
    nifti.parent.mkdir()
    affine = np.array([[0, 1.5, 0, 3], [-2, 0, 0, 4], [0, 0, 2.5, -7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(values((9, 6, 5)).astype(np.int16), affine), nifti)
    mask = mask_of(CHEST)
    path = written(nifti, CHEST, mask, tmp_path / "out")
    assert path.name == "a.seg.nrrd"
    head, _, voxels = path.read_bytes().partition(b"\n\n")
    assert b"sizes: 3 9 6 5\n" in head
    assert b"kinds: list domain domain domain\n" in head
    raw = np.frombuffer(gzip.decompress(voxels), np.uint8)
    assert np.array_equal(raw.reshape(mask.shape, order="F"), mask)
    read = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(read), mask.transpose(3, 2, 1, 0))
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    for index in ((0, 0, 0), (8, 0, 0), (0, 5, 4)):
        place = read.TransformIndexToPhysicalPoint(index)
        assert np.allclose(place, (lps @ (*index, 1))[:3])
    found = fields(path)
    assert [found[f"Segment{n}_Layer"] for n in range(3)] == ["0", "1", "2"]
    assert {found[f"Segment{n}_LabelValue"] for n in range(3)} == {"1"}


def test_what_lies_nowhere_in_space_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a" / "a.png")
    save(tmp_path / "b" / "b.dcm", image(values((6, 9)), Modality="CR"))
    for name in "ab":
        with pytest.raises(SegprefError, match="is no volume in space"):
            mask_format("seg.nrrd", HEART, tmp_path).check(Images(tmp_path / name))
    with pytest.raises(SegprefError, match=r"one of image, dicom-seg, seg\.nrrd, not 'nii'"):
        mask_format("nii", HEART, tmp_path)  # type: ignore[arg-type]
