from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from written import dicom, nifti, series

from segpref.data import (
    Cache,
    LIDCScans,
    MaskFolder,
    Preparation,
    Reader,
    nodule_prompt,
    open_dataset,
    prepare,
    prompts_of,
)
from segpref.types import SegprefError

RATINGS = {
    "subtlety": 5, "internalStructure": 1, "calcification": 6, "sphericity": 5, "margin": 4,
    "lobulation": 1, "spiculation": 5, "texture": 4, "malignancy": 4,
}  # fmt: skip


def ring(x: int, y: int, side: int) -> list[tuple[int, int]]:
    """The outline around a square of ``side`` pixels whose first one is (x, y)."""
    low_x, low_y, far = x - 1, y - 1, side
    steps = range(far + 1)
    return [
        *((low_x + s, low_y) for s in steps),
        *((low_x + far + 1, low_y + s) for s in steps),
        *((low_x + far + 1 - s, low_y + far + 1) for s in steps),
        *((low_x, low_y + far + 1 - s) for s in steps),
    ]


def roi(
    z_mm: float, points: Sequence[tuple[int, int]], inclusion: bool = True, uid: str = "1.2"
) -> str:
    edges = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points
    )
    return (
        f"<roi><imageZposition>{z_mm}</imageZposition><imageSOP_UID>{uid}</imageSOP_UID>"
        f"<inclusion>{str(inclusion).upper()}</inclusion>{edges}</roi>"
    )


def mark(name: str, rois: str, ratings: Mapping[str, object] | None) -> str:
    traits = "".join(f"<{key}>{value}</{key}>" for key, value in (ratings or {}).items())
    described = f"<characteristics>{traits}</characteristics>" if ratings else ""
    return (
        f"<unblindedReadNodule><noduleID>{name}</noduleID>{described}{rois}</unblindedReadNodule>"
    )


def message(*sessions: str) -> str:
    read = "".join(
        "<readingSession><annotationVersion>3.12</annotationVersion>"
        f"<servicingRadiologistID>anon</servicingRadiologistID>{marks}</readingSession>"
        for marks in sessions
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage uid="1.3.6" '
        'xmlns="http://www.nih.gov" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        "<ResponseHeader><SeriesInstanceUid>1.2.3</SeriesInstanceUid></ResponseHeader>"
        f"{read}</LidcReadMessage>"
    )


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """One scan of six slices 2.5 mm apart, from z = -100; four readers, two nodules."""
    place = tmp_path / "study" / "series"
    volume = np.arange(6 * 40 * 48, dtype=np.uint16).reshape(6, 40, 48) % 4000
    series(place, volume, PatientID="LIDC-IDRI-0007", RescaleIntercept=-1024, RescaleSlope=1)
    first, _ = sorted(_heights(place))[:2]
    z = [first + 2.5 * number for number in range(6)]
    hole = roi(z[2], ring(13, 11, 1), inclusion=False)
    (place / "068.xml").write_text(
        message(
            mark("1", roi(z[1], ring(10, 8, 4)) + roi(z[2], ring(10, 8, 6)) + hole, RATINGS)
            + mark("far", roi(z[4], ring(40, 30, 3)), RATINGS),
            mark("MI014", roi(z[2], ring(14, 12, 3)), {**RATINGS, "spiculation": 1})
            # Below 3 mm: one point and no characteristics.
            + mark("small", roi(z[0], [(30, 30)]), None),
            "<nonNodule><nonNoduleID>9</nonNoduleID></nonNodule>",
            mark("0", roi(z[5], ring(40, 30, 3)), RATINGS),
        )
    )
    return tmp_path


def _heights(place: Path) -> list[float]:
    return [float(pydicom.dcmread(p).ImagePositionPatient[2]) for p in place.glob("*.dcm")]


def test_outlines_become_masks(scans: Path) -> None:
    reader: Reader = LIDCScans(scans, crop=16)
    sources = reader.sources()
    # The two far marks share no slice, so they are two nodules beside the first.
    assert [source.id for source in sources] == [
        f"LIDC-IDRI-0007_068_nodule-{number}" for number in range(3)
    ]
    case = reader.read(sources[0])
    assert case.patient == "LIDC-IDRI-0007"
    assert case.raters is not None
    assert case.raters.shape == (4, 1, *case.image.shape[1:])
    assert case.image.shape == (1, 16, 16, 2)
    # Six by six without the hole and its outline, which is three by three.
    assert case.raters[0, 0].sum(axis=(0, 1)).tolist() == [16, 36 - 9]
    assert case.raters[1, 0].sum(axis=(0, 1)).tolist() == [0, 9]
    assert case.raters[2:].sum() == 0
    assert prompts_of(case) == (
        nodule_prompt(RATINGS),
        nodule_prompt({**RATINGS, "spiculation": 1}),
    )
    # Columns first; the crop begins where the affine says.
    assert case.affine is not None
    assert case.spacing_mm == pytest.approx((0.75, 0.5, 2.5))
    whole = LIDCScans(scans, crop=400).read(sources[0])
    assert whole.affine is not None
    assert whole.raters is not None
    assert whole.raters.shape[2:4] == (48, 40)
    assert np.argwhere(whole.raters[0, 0, ..., 0]).min(axis=0).tolist() == [10, 8]
    assert np.argwhere(whole.raters[1, 0, ..., 1]).max(axis=0).tolist() == [16, 14]
    shift = np.linalg.solve(whole.affine[:3, :3], case.affine[:3, 3] - whole.affine[:3, 3])
    begin = np.round(shift).astype(int)
    np.testing.assert_allclose(shift, begin, atol=1e-6)
    x, y, _ = begin
    np.testing.assert_array_equal(whole.image[:, x : x + 16, y : y + 16], case.image)
    np.testing.assert_array_equal(whole.raters[:, :, x : x + 16, y : y + 16], case.raters)
    # Hounsfield units of the slices z = 1 and 2.
    assert whole.image[0, 0, 0].tolist() == [40 * 48 % 4000 - 1024, 2 * 40 * 48 % 4000 - 1024]


def test_wrong_annotations_are_named(scans: Path) -> None:
    file = scans / "study" / "series" / "068.xml"
    text = file.read_text()
    source = LIDCScans(scans).sources()[0]
    file.write_text(text.replace("<imageZposition>", "<imageZposition>9"))
    with pytest.raises(SegprefError, match="has no slice"):
        LIDCScans(scans).read(source)
    file.write_text(text.replace("<subtlety>5", "<subtlety>7"))
    with pytest.raises(SegprefError, match="subtlety is rated 7"):
        LIDCScans(scans)
    file.write_text(text[:-20])
    with pytest.raises(SegprefError, match="not a complete XML"):
        LIDCScans(scans)
    file.write_text("<other/>")
    with pytest.raises(SegprefError, match="holds no LIDC annotation"):
        LIDCScans(scans)


def test_every_nodule_is_prepared_as_it_is_read(scans: Path, tmp_path: Path) -> None:
    reader, preparation = LIDCScans(scans, crop=16), Preparation(dims=2, crop=(16, 16))
    volumes = prepare(reader, preparation, Cache(tmp_path / "store")).volumes
    assert len(volumes) == 3
    for volume in volumes:
        due = preparation.apply(reader.read(volume.source))
        np.testing.assert_array_equal(volume.images, due.images)
        np.testing.assert_array_equal(volume.labels, due.labels)
        np.testing.assert_array_equal(volume.raters, due.raters)


def test_every_nodule_has_its_own_mask(scans: Path, tmp_path: Path) -> None:
    reader = LIDCScans(scans, crop=16, consensus=0.25)
    preparation, store = Preparation(dims=2, crop=(16, 16)), Cache(tmp_path / "store")
    dataset = prepare(reader, preparation, store)
    first, second, third = reader.sources()
    for source in (first, second):
        case = reader.read(source)
        assert case.label is not None
        assert case.affine is not None
        nifti(tmp_path / "masks" / f"{source.id}_nodule.nii.gz", case.label[0], case.affine)
    # The name of the scan's folder is no name of any of its nodules.
    nifti(tmp_path / "masks" / "series_nodule.nii.gz", np.zeros((48, 40, 6), np.uint8))
    masks = MaskFolder(tmp_path / "masks", [reader], reader.label_space, preparation, store)
    assert masks.missing(dataset) == [third.id]
    masks.prepare(dataset)
    for case in dataset:
        mask = masks[case]
        if case.volume == third.id:
            assert mask is None
        else:
            np.testing.assert_array_equal(mask, case.label)


def test_original_scans_are_recognised(scans: Path) -> None:
    # Annotations of radiographs lie about, too, and files of other programs.
    (scans / "a.xml").write_text("<other/>")
    (scans / "study" / "series" / "001.xml").write_text('<IdriReadMessage xmlns="http://nih.gov"/>')
    reader = open_dataset(scans, crop=16)
    assert isinstance(reader, LIDCScans)
    assert reader.crop == 16
    assert len(reader.sources()) == 3
    annotation = scans / "study" / "series" / "068.xml"
    annotation.rename(scans / "068.xml")
    with pytest.raises(SegprefError, match=r"or scans \(\*\.xml in the folder of its DICOM series"):
        open_dataset(scans)


SOME = {name: rating for name, rating in RATINGS.items() if name != "texture"}


@pytest.mark.parametrize(
    ("ratings", "prompt"),
    [
        (SOME, nodule_prompt(SOME)),
        ({**RATINGS, "texture": 0}, nodule_prompt(SOME)),
        ({**RATINGS, "texture": " "}, nodule_prompt(SOME)),
        (dict.fromkeys(RATINGS, 0), None),
        (dict.fromkeys(RATINGS, ""), None),
        (None, None),
    ],
)
def test_an_outline_is_a_mask_whatever_is_rated(
    scans: Path, ratings: Mapping[str, object] | None, prompt: str | None
) -> None:
    place = scans / "study" / "series"
    z = sorted(_heights(place))
    outlined = roi(z[2], ring(14, 12, 3))
    point = roi(z[2], [(15, 13)])
    (place / "068.xml").write_text(
        message(
            mark("1", outlined, RATINGS), mark("2", outlined, ratings), mark("3", point, ratings)
        )
    )
    (source,) = LIDCScans(scans, crop=16).sources()
    case = LIDCScans(scans, crop=16).read(source)
    assert case.raters is not None
    assert case.raters.sum(axis=(1, 2, 3, 4)).tolist() == [9, 9, 0]
    assert prompts_of(case) == tuple(filter(None, (nodule_prompt(RATINGS), prompt)))


def test_a_nodule_that_nobody_rated_has_no_text(scans: Path) -> None:
    place = scans / "study" / "series"
    z = sorted(_heights(place))
    line = [(20, 20), (21, 20), (22, 20)]
    marks = mark("1", roi(z[2], ring(14, 12, 3)), None) + mark("2", roi(z[2], line), RATINGS)
    (place / "068.xml").write_text(message(marks))
    # A line encloses no pixel, so it is no nodule.
    (source,) = LIDCScans(scans).sources()
    assert source.text is None


def test_only_the_slices_of_a_nodule_must_be_even(scans: Path) -> None:
    reader = LIDCScans(scans, crop=16)
    first, low, high = reader.sources()
    place = scans / "study" / "series"
    before = [reader.read(source) for source in (first, low, high)]
    # Of z[0] to z[5] the files 006 to 001: z[3] is missing, and there is another slice below.
    (place / "003.dcm").unlink()
    tags = {"RescaleIntercept": -1024, "RescaleSlope": 1}
    dicom(place / "007.dcm", np.zeros((40, 48), np.uint16), "1.2.3", (-10, 20, 1.0), **tags)
    # Such as a localiser that was saved with the series.
    dicom(place / "008.dcm", np.zeros((9, 9), np.uint16), "1.2.3", (-10, 20, 90.0), **tags)
    dicom(place / "009.dcm", np.zeros((9, 9), np.uint16), "1.2.3", None, **tags)
    for source, due in zip((first, low, high), before, strict=True):
        case = LIDCScans(scans, crop=16).read(source)
        np.testing.assert_array_equal(case.image, due.image)
        np.testing.assert_array_equal(case.raters, due.raters)
        assert case.affine is not None
        assert due.affine is not None
        np.testing.assert_allclose(case.affine, due.affine)
        assert case.spacing_mm == pytest.approx((0.75, 0.5, 2.5))


def test_of_slices_at_one_height_one_is_read(scans: Path) -> None:
    reader = LIDCScans(scans, crop=16)
    source, place = reader.sources()[0], scans / "study" / "series"
    due = reader.read(source).image
    z = sorted(_heights(place))
    uid = "1.2.3"
    other = np.full((40, 48), 7, np.uint16)
    tags = {"RescaleIntercept": 0, "RescaleSlope": 1, "SOPInstanceUID": "1.9"}
    # z[2] is the fourth instance.
    dicom(place / "a.dcm", other, uid, (-10, 20, z[2]), InstanceNumber=40, **tags)
    np.testing.assert_array_equal(reader.read(source).image, due)
    dicom(place / "a.dcm", other, uid, (-10, 20, z[2]), InstanceNumber=1, **tags)
    lower = reader.read(source).image
    np.testing.assert_array_equal(lower[..., 0], due[..., 0])
    assert (lower[..., 1] == 7).all()
    # An outline that names its slice knows better.
    annotation = place / "068.xml"
    named = str(pydicom.dcmread(place / "004.dcm").SOPInstanceUID)
    annotation.write_text(annotation.read_text().replace("1.2<", f"{named}<"))
    np.testing.assert_array_equal(LIDCScans(scans, crop=16).read(source).image, due)
    dicom(place / "b.dcm", other, uid, (-10, 20, z[1]), InstanceNumber=5, **tags)
    with pytest.raises(SegprefError, match=r"two slices at one position \(005.dcm and b.dcm\)"):
        LIDCScans(scans, crop=16).read(source)
    # Elsewhere nothing needs to tell them apart.
    LIDCScans(scans, crop=16).read(reader.sources()[2])


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        # z[1], which is outlined, and z[2], which is not, but lies between.
        (("005",), "misses a slice or has uneven ones"),
        (("004",), "misses a slice or has uneven ones"),
        (("002",), "has no slice"),
        (("005", "004", "003"), "has no slice"),
        (tuple(f"{number:03d}" for number in range(1, 7)), "holds no DICOM image"),
    ],
)
def test_a_mask_is_put_on_no_other_slice(scans: Path, gone: Sequence[str], said: str) -> None:
    place = scans / "study" / "series"
    z = sorted(_heights(place))
    rois = roi(z[1], ring(10, 8, 4)) + roi(z[3], ring(10, 8, 4)) + roi(z[4], ring(10, 8, 4))
    (place / "068.xml").write_text(message(mark("1", rois, RATINGS)))
    reader = LIDCScans(scans, crop=16)
    (source,) = reader.sources()
    assert reader.read(source).image.shape[-1] == 4
    for name in gone:
        (place / f"{name}.dcm").unlink()
    with pytest.raises(SegprefError, match=said):
        reader.read(source)


def test_an_outline_between_slices_is_refused_however_far_apart_they_are(scans: Path) -> None:
    place = scans / "study" / "series"
    z = sorted(_heights(place))
    rois = roi(z[0] + 0.5, ring(10, 8, 4)) + roi(z[5], ring(10, 8, 4))
    (place / "068.xml").write_text(message(mark("1", rois, RATINGS)))
    for number in range(2, 6):
        (place / f"{number:03d}.dcm").unlink()
    reader = LIDCScans(scans)
    with pytest.raises(SegprefError, match="has no slice"):
        reader.read(reader.sources()[0])


def test_a_scan_that_is_stored_upside_down(scans: Path) -> None:
    place = scans / "study" / "series"
    z = sorted(_heights(place))
    volume = np.arange(6 * 40 * 48, dtype=np.uint16).reshape(6, 40, 48) % 4000
    flipped = {"ImageOrientationPatient": [1, 0, 0, 0, -1, 0], "PatientID": "LIDC-IDRI-0007"}
    series(place, volume, **flipped)
    reader = LIDCScans(scans, crop=16)
    case = reader.read(reader.sources()[0])
    assert case.raters is not None
    assert case.affine is not None
    heights = [(case.affine @ (0, 0, number, 1))[2] for number in range(2)]
    assert heights == pytest.approx([z[2], z[1]])
    assert case.raters[0, 0].sum(axis=(0, 1)).tolist() == [36 - 9, 16]
