"""Exports from a PACS as they come: what of them is an image, what is left out, and why."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import CORONAL, SAGITTAL, image, save, stack, values
from pydicom import dcmread
from pydicom.uid import (
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from segpref.data import (
    Cache,
    Images,
    Preparation,
    SeriesRule,
    images_for,
    prepare,
    read_csv,
    read_volume,
    series_of,
    write_series_report,
)
from segpref.types import LabelSpace, SegprefError

VOLUME = values((3, 4, 6))


def series(
    folder: Path,
    number: int,
    description: str = "",
    study: str = "1",
    patient: str = "p1",
    seed: int = 0,
    count: int = 3,
    **tags: Any,
) -> np.ndarray:
    """A series among others, in files without an ending; returns its values ``[x, y, z]``."""
    volume = values((count, 4, 6), seed or number)
    stack(
        folder, volume, names=f"I{study}{number}" + "{:03d}", SeriesInstanceUID=f"1.9.{study}.{number}",
        StudyInstanceUID=f"1.9.{study}", PatientID=patient, SeriesNumber=number,
        SeriesDescription=description, **tags,
    )  # fmt: skip
    return volume.transpose(2, 1, 0)


def reasons(reader: Images) -> list[str]:
    return sorted(row.why for row in reader.report if row.state == "left out")


def test_series_are_told_apart_by_their_uid_and_never_by_folder(tmp_path: Path) -> None:
    one = series(tmp_path / "flat", 1, "thorax", study="1")
    two = series(tmp_path / "flat", 2, "thorax", study="2")
    three = series(tmp_path / "flat", 3, "thorax", study="3", patient="p2")
    for number, path in enumerate(sorted((tmp_path / "flat").glob("I11*"))):
        place = tmp_path / f"deep{number % 2}" / "x"
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    (tmp_path / "DICOMDIR").write_bytes(b"an index")
    for root in (tmp_path, tmp_path / "DICOMDIR"):
        reader = Images(root)
        found = {source.id: source for source in reader.sources()}
        assert set(found) == {"p1_20240102_thorax_1", "p1_20240102_thorax_2", "p2_20240102_thorax"}
        for name, wanted in zip(sorted(found), (one, two, three), strict=True):
            assert np.array_equal(reader.read(found[name]).image[0], wanted)
        assert [found[name].patient for name in sorted(found)] == ["p1", "p1", "p2"]
        assert reader.patients_known
        assert not reasons(reader)


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    wanted = series(tmp_path / "elsewhere", 1)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "sub" / "b").symlink_to(tmp_path / "in")
    for number, path in enumerate(sorted((tmp_path / "elsewhere").iterdir())):
        (tmp_path / "in" / f"again{number}").symlink_to(path)
    reader = Images(tmp_path / "in")
    (source,) = reader.sources()
    assert np.array_equal(reader.read(source).image[0], wanted)
    assert len(reasons(reader)) == 3


def study(folder: Path) -> dict[str, np.ndarray]:
    """A study as it comes: four series of slices, a scout, a screenshot, and what is no image."""
    found = {
        "thin": series(folder, 1, "Thorax 1.0", seed=1, count=5),
        "thick": series(folder, 2, "Thorax 5.0", seed=2),
        "coronal": series(folder, 3, "MPR cor", seed=3, orientation=CORONAL),
        "pet": series(folder, 4, "WB", seed=4, Modality="PT", orientation=SAGITTAL),
    }
    scout = image(
        VOLUME[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID="1.9.1.1"
    )
    save(folder / "scout", scout)
    kinds = (
        EnhancedSRStorage, GrayscaleSoftcopyPresentationStateStorage, RTStructureSetStorage,
        SegmentationStorage, SecondaryCaptureImageStorage,
    )  # fmt: skip
    for number, kind in enumerate(kinds):
        data = image(VOLUME[0], SOPClassUID=kind, SeriesInstanceUID=f"1.9.1.{90 + number}")
        if number < 3:
            for name in ("Rows", "Columns", "PixelData"):
                delattr(data, name)
        save(folder / f"X{number}", data)
    return found


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ({"description": "thorax 5*"}, ["thick"]),
        ({"description": "*THORAX*", "min_slices": 4}, ["thin"]),
        ({"description": "*thorax*", "max_slices": 4}, ["thick"]),
        ({"modality": "pt"}, ["pet"]),
        ({"orientation": "coronal"}, ["coronal"]),
        ({"orientation": "sagittal"}, ["pet"]),
        ({"uid": "1.9.1.2"}, ["thick"]),
        ({"orientation": "axial", "all": True}, ["thick", "thin"]),
        ({"all": True}, ["coronal", "pet", "thick", "thin"]),
    ],
)
def test_a_rule_chooses_and_the_rest_is_accounted_for(tmp_path: Path, rule, taken) -> None:
    found = study(tmp_path / "in" / "one")
    reader = images_for(tmp_path / "in", ["image"], SeriesRule(**rule))
    read = [reader.read(source).image[0] for source in reader.sources()]
    assert len(read) == len(taken)
    for name in taken:
        assert any(np.array_equal(found[name], one) for one in read)
    assert len(reader.report) == 10
    why = reasons(reader)
    for kind in (
        "Enhanced SR Storage",
        "Grayscale Softcopy",
        "RT Structure Set",
        "Segmentation St",
    ):
        assert sum(kind in one for one in why) == 1
    assert "a localizer" in why
    write_series_report(reader, tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "series.csv")
    assert sum(row["state"] == "taken" for row in rows) == len(taken)
    assert {row["patient"] for row in rows} == {"p1"}


def test_the_report_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path)
    Images(tmp_path, series=SeriesRule(modality="PT"))
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    for words in ("DICOM series", "taken PT 1 3 WB", "modality CT CT 4 12", "a localizer"):
        assert words in said


def test_several_series_of_one_study_are_refused_in_one_sentence(tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(SegprefError) as caught:
        Images(tmp_path)
    said = str(caught.value)
    assert (
        "4 DICOM series of one study (Thorax 1.0 CT axial 5 slices 1.9.1.1; Thorax 5.0 CT" in said
    )
    assert "WB PT sagittal 3 slices 1.9.1.4): choose by --series.description" in said
    assert "--series.all" in said
    with pytest.raises(SegprefError, match=r"no DICOM image that is wanted .*modality CT"):
        Images(tmp_path, series=SeriesRule(modality="MR"))
    with pytest.raises(SegprefError, match="4 DICOM series of one study"):
        read_volume(tmp_path)


def test_secondary_captures_alone_are_images(tmp_path: Path) -> None:
    for number in range(2):
        data = image(VOLUME[number], SOPClassUID=SecondaryCaptureImageStorage, Modality="CR")
        save(tmp_path / f"{number}.dcm", data)
    assert [source.id for source in Images(tmp_path).sources()] == ["0", "1"]
    series(tmp_path / "ct", 1)
    reader = Images(tmp_path)
    assert [source.id for source in reader.sources()] == ["ct"]
    assert reasons(reader) == ["a secondary capture"]


def test_a_picture_without_a_place_beside_slices_is_left_out(tmp_path: Path) -> None:
    series(tmp_path / "s", 1)
    save(tmp_path / "s" / "scout", image(VOLUME[0], SeriesInstanceUID="1.9.1.2"))
    reader = Images(tmp_path)
    assert [source.id for source in reader.sources()] == ["s"]
    assert reasons(reader) == ["no position, beside slices that have one"]


def test_time_points_are_cases_of_one_patient(tmp_path: Path) -> None:
    for study, date in (("1", "20200101"), ("2", "20210101")):
        series(tmp_path / study, 1, "ct", study=study, StudyDate=date)
    sources = Images(tmp_path).sources()
    assert [(one.id, one.patient) for one in sources] == [("1", "p1"), ("2", "p1")]
    assert [one.series.date for one in sources] == ["20200101", "20210101"]


@pytest.mark.parametrize("empty", ["", None])
def test_without_a_patient_id_a_study_counts_as_a_patient(tmp_path: Path, empty) -> None:
    for number in (1, 2):
        series(tmp_path / f"a{number}", number, patient=empty)
    series(tmp_path / "b", 1, study="2", patient=empty)
    reader = Images(tmp_path, series=SeriesRule(all=True))
    assert [one.patient for one in reader.sources()] == ["1.9.1", "1.9.1", "1.9.2"]
    assert not reader.patients_known


def test_copies_count_once_and_other_content_at_one_place_is_refused(tmp_path: Path) -> None:
    wanted = series(tmp_path / "a", 1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    reader = Images(tmp_path)
    (source,) = reader.sources()
    assert np.array_equal(reader.read(source).image[0], wanted)
    assert [one[:9] for one in reasons(reader)] == ["a copy of"] * 3
    path = next((tmp_path / "b").iterdir())
    data = dcmread(path)
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(path)
    reader = Images(tmp_path)
    with pytest.raises(SegprefError, match="two slices at one position"):
        reader.read(reader.sources()[0])


def test_series_that_are_wrong_do_not_keep_others_from_being_read(tmp_path: Path) -> None:
    wanted = series(tmp_path / "good", 1, study="1")
    series(tmp_path / "bad", 1, study="2", RescaleSlope=["1", "2"])
    series(tmp_path / "mixed", 1, study="3")
    turned = image(
        VOLUME[0], SeriesInstanceUID="1.9.3.1", StudyInstanceUID="1.9.3",
        ImageOrientationPatient=list(CORONAL),
        ImagePositionPatient=[0, 0, 90], PixelSpacing=[0.5, 0.75],
    )  # fmt: skip
    save(tmp_path / "mixed" / "turned", turned)
    series(tmp_path / "cut", 1, study="4")
    (tmp_path / "cut" / "more.dcm").write_bytes(b"cut off")
    reader = Images(tmp_path)
    sources = {one.id: one for one in reader.sources()}
    assert list(sources) == ["bad", "cut", "good", "mixed"]
    assert np.array_equal(reader.read(sources["good"]).image[0], wanted)
    assert sources["mixed"].series.orientation is None
    for name, said in (
        ("bad", "2 values of RescaleSlope"),
        ("mixed", "turned differs from .* in size, pixel spacing or orientation"),
        ("cut", r"more\.dcm is cut off"),
    ):
        with pytest.raises(SegprefError, match=said):
            reader.read(sources[name])


def test_a_source_knows_its_files_by_position_and_their_uids(tmp_path: Path) -> None:
    series(tmp_path / "in" / "s", 1, "ct")
    reader = Images(tmp_path / "in")
    (source,) = reader.sources()
    found = source.series
    assert found is not None
    array = reader.read(source).image[0]
    for number, (path, uid) in enumerate(zip(found.files, found.instances, strict=True)):
        data = dcmread(path)
        assert data.SOPInstanceUID == uid
        assert np.array_equal(data.pixel_array.T, array[..., number])
    assert (found.uid, found.study, found.frame_of_reference) == ("1.9.1.1", "1.9.1", "1.9.9")
    table = tmp_path / "table.csv"
    table.write_text("image\nin/s\n")
    listed = Images(table).sources()[0]
    assert listed.series is None
    assert series_of(listed) == found


def test_a_rule_goes_for_the_folders_of_a_table(tmp_path: Path) -> None:
    found = study(tmp_path / "s")
    (tmp_path / "table.csv").write_text("image\ns\n")
    space = LabelSpace("multi-class", ("background", "a"))
    for name in ("5", "1"):
        reader = images_for(
            tmp_path / "table.csv", ["image"], SeriesRule(description=f"thorax {name}*")
        )
        wanted = found["thick" if name == "5" else "thin"]
        assert np.array_equal(reader.read(reader.sources()[0]).image[0], wanted)
        made = prepare(reader, Preparation(), Cache(tmp_path / "cache"), space)
        assert len(made) == wanted.shape[2]
    reader = Images(tmp_path / "table.csv")
    with pytest.raises(SegprefError, match="4 DICOM series of one study"):
        reader.read(reader.sources()[0])


def test_a_table_names_the_series_of_a_folder_that_it_means(tmp_path: Path) -> None:
    found = study(tmp_path / "s")
    series(tmp_path / "s", 1, "other", study="2", patient="p2")
    listed = Images(tmp_path / "s", series=SeriesRule(all=True))
    wanted = {one.id: one for one in listed.sources() if one.series.uid in ("1.9.1.1", "1.9.1.2")}
    rows = "".join(f"{name},s,{one.series.uid}\n" for name, one in wanted.items())
    table = tmp_path / "table.csv"
    table.write_text("id,image,series_uid\n" + rows)
    reader = images_for(table, ["image"])
    assert {one.id: one for one in reader.sources()} == wanted
    assert reader.patients_known
    assert {one.patient for one in reader.sources()} == {"p1"}
    values = {one.series.uid: reader.read(one).image[0] for one in reader.sources()}
    assert np.array_equal(values["1.9.1.1"], found["thin"])
    assert np.array_equal(values["1.9.1.2"], found["thick"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,s,1.9.1.77", r"names the series 1\.9\.1\.77 of a, which is not in .*s: restore it"),
        (
            "a,a.nii.gz,1.9.1.1",
            r"row 1 names the series 1\.9\.1\.1 of .*a\.nii\.gz, which is no folder",
        ),
    ],
)
def test_a_series_that_is_not_there_is_refused(tmp_path: Path, row: str, said: str) -> None:
    series(tmp_path / "s", 1)
    (tmp_path / "a.nii.gz").write_bytes(b"")
    (tmp_path / "table.csv").write_text(f"id,image,series_uid\n{row}\n")
    with pytest.raises(SegprefError, match=said):
        Images(tmp_path / "table.csv", channels=("image",))


def test_sources_do_not_change_with_the_order_of_files(tmp_path: Path) -> None:
    def ids(order: Sequence[int]) -> list[str]:
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        for place, number in enumerate(order):
            series(tmp_path / "in" / f"f{place}", number, "ct", study="1", count=2)
            for path in sorted((tmp_path / "in" / f"f{place}").iterdir()):
                shutil.move(path, tmp_path / "in" / f"{place}-{path.name}")
        return [one.id for one in Images(tmp_path / "in", series=SeriesRule(all=True)).sources()]

    assert ids([1, 2, 3]) == ids([3, 1, 2]) == [f"p1_20240102_ct_{number}" for number in (1, 2, 3)]
