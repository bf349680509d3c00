"""Bad DICOM: series with gaps or strangers among their slices, damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from bad_inputs import Action, Bad, linked
from written import dicom, grey, nifti

from segpref.data import Images


def slices(root: Path, heights: tuple[float, ...], uids: str = "", **tags: Any) -> Action:
    """A readable image for the index to look at first, then a series that is wrong."""
    nifti(root / "a.nii.gz", grey((5, 6, 4)))
    for number, height in enumerate(heights):
        uid = f"1.2.{uids[number] if uids else 0}"
        path = root / "s" / f"slice{number}.dcm"
        dicom(path, grey((4, 5), dtype=np.uint16), uid, (0, 0, height), **tags)
    return lambda: Images(root)


def empty_slice_at_the_end(root: Path) -> Action:
    make = slices(root, (0, 2, 4))
    (root / "s" / "slice3.dcm").touch()
    return make


def slice_linked_to_nowhere(root: Path) -> Action:
    make = slices(root, (0, 2, 4))
    linked(root / "s" / "slice3.dcm", root / "nowhere.dcm")
    return make


def slice_missing(root: Path) -> Action:
    return slices(root, (0, 2, 4, 8, 10))


def slice_twice(root: Path) -> Action:
    return slices(root, (0, 2, 2, 4))


def mixed_series(root: Path) -> Action:
    return slices(root, (0, 2, 0, 2), "1122")


def damaged_radiograph(root: Path) -> Action:
    for name in "ab":
        dicom(root / f"{name}.dcm", grey((4, 5), dtype=np.uint16), "1.2.0", None)
    path = root / "b.dcm"
    path.write_bytes(path.read_bytes()[:400])
    return lambda: Images(root)


def dicom_with_a_spacing_of_letters(root: Path) -> Action:
    path = dicom(root / "a.dcm", grey((4, 5), dtype=np.uint16), "1.2.0", None)
    whole = path.read_bytes()
    assert b"0.5\\0.75" in whole
    path.write_bytes(whole.replace(b"0.5\\0.75", b"z.5\\0.75"))
    return lambda: Images(root)


def slices_of_different_orientation(root: Path) -> Action:
    make = slices(root, (0, 2))
    turned = (root / "s" / "turned.dcm", grey((4, 5), dtype=np.uint16), "1.2.0", (0, 0, 4))
    dicom(*turned, ImageOrientationPatient=[0, 1, 0, 1, 0, 0])
    return make


def compressed_rubbish(root: Path) -> Action:
    make = slices(root, (0,))
    path = root / "s" / "slice0.dcm"
    path.write_bytes(path.read_bytes()[:-10])
    return make


def multi_frame(root: Path) -> Action:
    return slices(root, (0,), NumberOfFrames=2)


BAD_DICOM = [
    Bad("empty slice at the end", empty_slice_at_the_end, "slice3.dcm", "export it again"),
    Bad("slice link", slice_linked_to_nowhere, "slice3.dcm", "restore"),
    Bad("slice missing", slice_missing, "slice2.dcm and slice3.dcm", "add the missing"),
    Bad("slice twice", slice_twice, "slice1.dcm and slice2.dcm", "move one out"),
    Bad("mixed series", mixed_series, "slices 1.2.1; axial", "--series.description", "open"),
    Bad("damaged radiograph", damaged_radiograph, "b.dcm", "export it again"),
    Bad("spacing of letters", dicom_with_a_spacing_of_letters, "a.dcm", "export it again"),
    Bad("turned slice", slices_of_different_orientation, "turned.dcm", "move it out"),
    Bad("truncated dicom", compressed_rubbish, "slice0.dcm", "export the series again"),
    Bad("multi-frame dicom", multi_frame, "slice0.dcm", "convert it to NIfTI"),
]
