"""Masks of exports from a PACS, and of MetaImage and NRRD: names, places, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from test_predict import card_of, model_file
from tests.data.dicom_files import CORONAL, stack, values
from tests.data.seg_files import frames

from segpref.cli.main import main
from segpref.data import Preparation, SeriesRule, read_csv
from segpref.inference import predict_folder
from segpref.types import LabelSpace, SegprefError


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """One study: thin, thick and coronal slices in one folder."""
    place = tmp_path / "export"
    for number, (text, count, turn) in enumerate(
        [("thin", 5, None), ("thick", 3, None), ("cor", 3, CORONAL)], start=1
    ):
        stack(
            place / "study", values((count, 6, 8), number), names=f"I{number}" + "{:02d}",
            SeriesInstanceUID=f"1.9.1.{number}", SeriesDescription=text, SeriesNumber=number,
            **({} if turn is None else {"orientation": turn}),
        )  # fmt: skip
    return place


def model(tmp_path: Path) -> Path:
    return model_file(tmp_path, card_of(Preparation(normalise="min-max")))


def test_a_series_is_chosen_on_the_command_line(tmp_path: Path, export: Path, capsys) -> None:
    given = ["--model", str(model(tmp_path)), "--input", str(export), "--output"]
    assert main(["predict", *given, str(tmp_path / "none")]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "3 DICOM series of one study (thin CT axial 5 slices 1.9.1.1; thick CT" in said
    assert not (tmp_path / "none").exists()
    for name, options in (
        ("a", ["--series.description", "*THICK*"]),
        ("b", ["--series", '{"max_slices": 4, "orientation": "axial"}']),
    ):
        out = tmp_path / name
        assert main(["predict", *given, str(out), *options]) == 0
        said = " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert "taken CT 1 3 thick" in said
        assert sorted(path.name for path in out.iterdir()) == ["series.csv", "study.nii.gz"]
        rows = read_csv(out / "series.csv")
        assert [row["description"] for row in rows if row["state"] == "taken"] == ["thick"]
        assert all(row["why"] for row in rows if row["state"] != "taken")
        values_of = values((3, 6, 8), 2).transpose(2, 1, 0).astype(float)
        bright = (values_of - values_of.min()) / (values_of.max() - values_of.min()) > 0.5
        assert np.array_equal(np.asarray(nib.load(out / "study.nii.gz").dataobj), bright)


def test_all_series_become_images_of_their_own(tmp_path: Path, export: Path) -> None:
    written = predict_folder(model(tmp_path), export, tmp_path / "out", series=SeriesRule(all=True))
    assert [path.name for path in written] == [
        f"p1_20240102_{name}.nii.gz" for name in ("cor", "thick", "thin")
    ]
    with pytest.raises(SegprefError, match="3 DICOM series of one study"):
        predict_folder(model(tmp_path), export, tmp_path / "none")


def test_masks_of_metaimage_and_nrrd_become_nifti_in_their_place(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((3, 6, 8)).astype(np.float32)
    array[:, 0, :2] = 0, 1
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.75, 0.5, 2.5))
    image.SetOrigin((-10, 20, 5))
    (tmp_path / "in").mkdir()
    for name in ("a.mha", "b.nrrd"):
        sitk.WriteImage(image, tmp_path / "in" / name)
    written = predict_folder(model(tmp_path), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in written] == ["a.nii.gz", "b.nii.gz"]
    for path in written:
        mask = nib.load(path)
        assert np.array_equal(np.asarray(mask.dataobj), (array > 0.5).T)
        affine = np.diag((-0.75, -0.5, 2.5, 1.0))
        affine[:3, 3] = 10, -20, 5
        assert np.allclose(mask.affine, affine, atol=1e-5)


def test_masks_of_an_export_as_dicom_seg(tmp_path: Path, export: Path, capsys) -> None:
    given = ["predict", "--model", str(model(tmp_path)), "--input", str(export)]
    given += ["--series.description", "thick", "--output", str(tmp_path / "out")]
    assert main([*given, "--format", "dicom-seg"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    table = tmp_path / "out" / "segments.csv"
    assert (
        f"codes that say what 'bright' is, and the built-in table has none: fill in {table}" in said
    )
    assert [path.name for path in table.parent.iterdir()] == ["segments.csv"]
    text = table.read_text()
    table.write_text(
        text.replace("bright,,,,,,", "bright,91723000,SCT,Anatomical Structure,10200004,SCT,Liver")
    )
    given += ["--format", "dicom-seg", "--segments", str(table)]
    assert main(given) == 0
    assert "segments.csv" in capsys.readouterr().err
    file = tmp_path / "out" / "study.dcm"
    first = pydicom.dcmread(file)
    assert first.SegmentSequence[0].SegmentLabel == "bright"
    assert first.ManufacturerModelName == tmp_path.name[-64:]
    plain = predict_folder(
        model(tmp_path), export, tmp_path / "nii", series=SeriesRule(description="thick")
    )
    truth = np.asarray(nib.load(plain[0]).dataobj)
    found = frames(file)
    assert len(found) == 3
    for (_, place), (pixels, _) in found.items():
        assert np.array_equal(pixels, truth[:, :, round((place[2] - 5.0) / 2.5)].T)
    assert main(given) == 0
    assert "all existed already" in " ".join(capsys.readouterr().err.split())
    assert pydicom.dcmread(file).SOPInstanceUID == first.SOPInstanceUID
    assert main([*given, "--overwrite", "true"]) == 0
    assert pydicom.dcmread(file).SOPInstanceUID != first.SOPInstanceUID
    assert not list(file.parent.glob(".*.partial"))


def test_what_is_no_dicom_series_is_refused_before_anything_is_read(tmp_path: Path, capsys) -> None:
    image = sitk.GetImageFromArray(values((3, 6, 8)).astype(np.int16))
    (tmp_path / "in").mkdir()
    sitk.WriteImage(image, tmp_path / "in" / "a.nii.gz")
    space = LabelSpace("multi-class", ("background", "liver"))
    path = model_file(tmp_path, card_of(space=space))
    given = ["predict", "--model", str(path), "--input", str(tmp_path / "in")]
    given += ["--output", str(tmp_path / "out")]
    assert main([*given, "--format", "dicom-seg"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "a.nii.gz is no DICOM series, to which a DICOM-SEG could refer" in said
    assert not (tmp_path / "out").exists()
    assert main([*given, "--segments", "s.csv"]) == 1
    assert "add --format dicom-seg" in " ".join(capsys.readouterr().err.split())


def test_dicom_seg_of_predict_is_read_as_labels(tmp_path: Path, capsys) -> None:
    patients = []
    for number in range(3):
        stack(
            tmp_path / "export" / f"s{number}", values((4, 6, 8), number), PatientID=f"p{number}",
            StudyInstanceUID=f"1.9.{number}", SeriesInstanceUID=f"1.9.{number}.1",
        )  # fmt: skip
        patients.append(f"p{number}")
    space = LabelSpace("multi-class", ("background", "liver"))
    path = model_file(tmp_path, card_of(Preparation(normalise="min-max"), space))
    export, segs = str(tmp_path / "export"), str(tmp_path / "segs")
    given = ["predict", "--model", str(path), "--input", export, "--output", segs]
    assert main([*given, "--format", "dicom-seg"]) == 0
    split = {"train": [], "judge": [], "validation": [], "test": patients}
    (tmp_path / "split.json").write_text(json.dumps(split))
    given = ["evaluate", "--model", str(path), "--data", export, "--labelled", "[]"]
    given += ["--data_options.labels", segs, "--split", str(tmp_path / "split.json")]
    given += ["--out", str(tmp_path / "scores.csv"), "--cache", str(tmp_path / "cache")]
    assert main(given) == 0
    rows = read_csv(tmp_path / "scores.csv")
    assert [(row["patient"], row["structure"]) for row in rows] == [
        (one, "liver") for one in patients
    ]
    assert [float(row["dice"]) for row in rows] == [1.0] * 3
    # One voxel more in one mask is seen.
    file = tmp_path / "segs" / "s1.dcm"
    data = pydicom.dcmread(file)
    bits = bytearray(data.PixelData)
    bits[0] ^= 1
    data.PixelData = bytes(bits)
    data.save_as(file)
    assert main(given) == 0
    dice = [float(row["dice"]) for row in read_csv(tmp_path / "scores.csv")]
    assert dice[0] == dice[2] == 1.0 > dice[1] > 0.9
