"""A packed dataset is read as the original was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from segpref.cli.main import main
from segpref.data import (
    Cache,
    Folders,
    Packed,
    Preparation,
    Reader,
    open_dataset,
    prepare,
    write_pack,
)
from segpref.types import SegprefError

pytestmark = pytest.mark.slow

AFFINE = np.array([[0.0, -1.5, 0, 3], [1.5, 0, 0, -7], [0, 0, 8, 2], [0, 0, 0, 1]])


def ct(folder: Path) -> Folders:
    """Two CT volumes (values far beyond 8 bits) and one of whole numbers; the last has no label."""
    rng = np.random.default_rng(0)
    images = {
        "a": rng.normal(0, 400, (6, 5, 4)).astype(np.float32),
        "b": rng.integers(-100, 156, (6, 5, 4)).astype(np.float32),
        "c": np.full((6, 5, 4), 7.5, np.float32),
    }
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for name, image in images.items():
        nib.save(nib.Nifti1Image(image, AFFINE), folder / "images" / f"{name}.nii.gz")
        label = (image > 0).astype(np.uint8)
        if name != "c":
            nib.save(nib.Nifti1Image(label, AFFINE), folder / "labels" / f"{name}.nii.gz")
    return Folders(folder, names=("background", "bright"))


def test_geometry_and_labels_are_kept_and_intensities_nearly(tmp_path: Path) -> None:
    original = ct(tmp_path / "data")
    assert write_pack(original, tmp_path / "pack") < 20_000
    packed = open_dataset(tmp_path / "pack")
    assert isinstance(packed, Packed)
    assert packed.label_space == original.label_space
    assert packed.channels == original.channels
    assert packed.patients_known == original.patients_known
    for before, after in zip(original.sources(), packed.sources(), strict=True):
        assert (before.id, before.patient, before.stratum) == (
            after.id,
            after.patient,
            after.stratum,
        )
        assert bool(before.labels) == bool(after.labels)
        one, two = original.read(before), packed.read(after)
        assert one.spacing_mm == two.spacing_mm == (1.5, 1.5, 8.0)
        np.testing.assert_array_equal(one.affine, two.affine)
        step = float(np.ptp(one.image)) / 255
        assert np.abs(one.image - two.image).max() <= step / 2 + 1e-4
        if one.label is None:
            assert two.label is None
        else:
            np.testing.assert_array_equal(one.label, two.label)
    for name in ("b", "c"):  # whole numbers near each other, and a constant: exact
        one, two = (r.read(s) for r in (original, packed) for s in r.sources() if s.id == name)
        np.testing.assert_array_equal(one.image, two.image)


def test_images_are_prepared_alike(heart_reader: Reader, tmp_path: Path, store: Cache) -> None:
    write_pack(heart_reader, tmp_path)
    preparation = Preparation(dims=2, size=(32, 32))
    packed, plain = (prepare(r, preparation, store) for r in (Packed(tmp_path), heart_reader))
    assert packed.patients == plain.patients
    for one, two in zip(packed, plain, strict=True):
        np.testing.assert_allclose(one.image, two.image, atol=1 / 255)
        np.testing.assert_array_equal(one.label, two.label)


def test_a_pack_can_be_read_as_multilabel(heart_reader: Reader, tmp_path: Path) -> None:
    write_pack(heart_reader, tmp_path)
    packed = Packed(tmp_path, as_multilabel=True)
    assert packed.label_space is not None
    assert packed.label_space.kind == "multi-label"
    case = packed.read(packed.sources()[0])
    whole = Packed(tmp_path).read(packed.sources()[0])
    assert case.label is not None
    assert whole.label is not None
    np.testing.assert_array_equal(case.label[1], whole.label[0] == 2)


def test_the_command_goes_on_and_says_what_is_wrong(
    heart_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pack"
    options = ["--data_options", json.dumps({"names": ["background", "RV", "MYO", "LV"]})]
    command = ["pack", "--data", str(heart_folder), "--out", str(out), *options]
    assert main(command) == 0
    assert "MB" in capsys.readouterr().out
    kept = sorted((out / "volumes").iterdir())
    before = [path.stat().st_mtime_ns for path in kept]
    kept[0].unlink()
    assert main(command) == 0
    assert [path.stat().st_mtime_ns for path in kept[1:]] == before[1:]
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    reader = Packed(out)
    with pytest.raises(SegprefError, match=rf"{kept[0].name} is damaged .*pack the dataset again"):
        reader.read(reader.sources()[0])
    index = json.loads((out / "pack.json").read_text())
    (out / "pack.json").write_text(json.dumps({**index, "channels": ["other"]}))
    assert main(command) == 1
    assert "holds another packed dataset" in " ".join(capsys.readouterr().err.split())
    (out / "pack.json").write_text(json.dumps({**index, "version": 9}))
    with pytest.raises(SegprefError, match="of version 9"):
        Packed(out)


@pytest.mark.data
def test_lidc_keeps_its_raters_and_texts(tmp_path: Path) -> None:
    root = Path(os.environ.get("SEGPREF_DATA", "")) / "lidc"
    if not root.is_dir():
        pytest.skip("SEGPREF_DATA names no folder with LIDC crops")
    original = open_dataset(root)
    some = SimpleNamespace(
        **{
            name: getattr(original, name)
            for name in ("label_space", "channels", "patients_known", "read")
        },
        sources=lambda: original.sources()[:3],
    )
    write_pack(some, tmp_path)
    packed = Packed(tmp_path)
    for before, after in zip(some.sources(), packed.sources(), strict=True):
        one, two = original.read(before), packed.read(after)
        assert one.text == two.text
        assert one.text
        np.testing.assert_array_equal(one.raters, two.raters)
        np.testing.assert_array_equal(one.image, two.image)
