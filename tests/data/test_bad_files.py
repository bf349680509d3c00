"""Bad input: each kind gives one clear sentence that names the file and the mend.

Errors about the index (files that are missing or doubled, descriptions that are broken) come when a
dataset is opened, errors about content when the case is read.
"""

from __future__ import annotations

import builtins
import errno
import gzip
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image
from written import MM, description, dicom, grey, labels, nifti, picture, series

from segpref.data.acdc import ACDC
from segpref.data.decathlon import Decathlon
from segpref.data.detect import open_dataset
from segpref.data.folders import Folders
from segpref.data.images import Images
from segpref.data.jsrt import JSRT
from segpref.data.nnunet import NnUNetRaw
from segpref.inference.export import write_mask
from segpref.types import LabelSpace, SegprefError

Action = Callable[[], Any]
TWO = {"background": 0, "organ": 1}


@dataclass(frozen=True)
class Bad:
    """A kind of bad input: how it is made, the file and the mend that the message must name."""

    id: str
    make: Callable[[Path], Callable[[], Any]]
    names: str
    mend: str
    at: str = "read"


def paired(root: Path) -> Path:
    """A sound dataset of images/ and labels/."""
    nifti(root / "images" / "a.nii.gz", grey((5, 6, 4)))
    nifti(root / "labels" / "a.nii.gz", labels((5, 6, 4), 3))
    return root


def folders(root: Path, **options: Any) -> Callable[[], Any]:
    names = options.pop("names", ("background", "one", "two"))
    return lambda: Folders(root, names=names, **options)


def linked(path: Path, target: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return path


def missing_root(root: Path) -> Action:
    return lambda: ACDC(root / "nowhere")


def missing_image(root: Path) -> Action:
    return lambda: Images(root / "scan.nii.gz")


def image_deleted_after_opening(root: Path) -> Action:
    reader = folders(paired(root))()
    (root / "images" / "a.nii.gz").unlink()
    return lambda: reader


def empty_file(root: Path) -> Action:
    (root / "a.png").touch()
    return lambda: Images(root)


def empty_nifti(root: Path) -> Action:
    (paired(root) / "labels" / "a.nii.gz").write_bytes(b"")
    return folders(root)


def empty_json(root: Path) -> Action:
    (root / "dataset.json").touch()
    return lambda: open_dataset(root)


def empty_slice_at_the_end(root: Path) -> Action:
    make = _slices(root, (0, 2, 4))
    (root / "s" / "slice3.dcm").touch()
    return make


def link_to_nowhere(root: Path) -> Action:
    linked(root / "a.png", root / "nowhere.png")
    return lambda: Images(root)


def links_in_a_circle(root: Path) -> Action:
    linked(root / "a.nii.gz", root / "b.nii.gz")
    linked(root / "b.nii.gz", root / "a.nii.gz")
    return lambda: Images(root)


def label_linked_to_nowhere(root: Path) -> Action:
    linked(paired(root) / "labels" / "a.nii.gz", root / "nowhere.nii.gz")
    return folders(root)


def nnunet_label_linked_to_nowhere(root: Path) -> Action:
    linked(root / "labelsTr" / "a.nii.gz", root / "nowhere.nii.gz")
    return nnunet(root, channel_names={"0": "T1"})


def slice_linked_to_nowhere(root: Path) -> Action:
    make = _slices(root, (0, 2, 4))
    linked(root / "s" / "slice3.dcm", root / "nowhere.dcm")
    return make


def truncated_gzip(root: Path) -> Action:
    path = nifti(paired(root) / "labels" / "a.nii.gz", labels((40, 40, 40), 3))
    path.write_bytes(path.read_bytes()[:-5000])
    return folders(root)


def truncated_nifti(root: Path) -> Action:
    path = nifti(paired(root) / "labels" / "a.nii", labels((5, 6, 4), 3))
    (root / "labels" / "a.nii.gz").unlink()
    path.write_bytes(path.read_bytes()[:-60])
    return folders(root)


def text_named_nifti(root: Path) -> Action:
    (paired(root) / "labels" / "a.nii.gz").write_bytes(gzip.compress(b"no image at all" * 50))
    return folders(root)


def truncated_png(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((50, 60)))
    path = picture(root / "labels" / "a.png", grey((50, 60)))
    path.write_bytes(path.read_bytes()[:900])
    return folders(root)


def unknown_format(root: Path) -> Action:
    (root / "scan.mha").write_bytes(b"ObjectType = Image\n")
    return lambda: Images(root / "scan.mha")


def nan_pixels(root: Path) -> Action:
    array = grey((5, 6, 4), dtype=np.float32)
    array[1, 2, 3] = np.nan
    nifti(paired(root) / "images" / "a.nii.gz", array)
    return folders(root)


def nan_labels(root: Path) -> Action:
    array = labels((5, 6, 4), 3).astype(np.float32)
    array[1, 2, 3] = np.nan
    nifti(paired(root) / "labels" / "a.nii.gz", array)
    return folders(root)


def infinite_picture(root: Path) -> Action:
    tifffile.imwrite(root / "a.tif", np.full((8, 8), np.inf, np.float32))
    return lambda: Images(root)


def tiff_with_a_broken_second_page(root: Path) -> Action:
    path = picture(root / "a.tif", np.zeros((8, 8), np.uint8))
    raw = bytearray(path.read_bytes())
    first = int.from_bytes(raw[4:8], "little")
    link = first + 2 + 12 * int.from_bytes(raw[first : first + 2], "little")
    raw[link : link + 4] = (len(raw) - 40).to_bytes(4, "little")  # among the zeros of the pixels
    path.write_bytes(bytes(raw))
    return lambda: Images(root)


def complex_pixels(root: Path) -> Action:
    nifti(root / "a.nii.gz", grey((5, 6, 4)).astype(np.complex64))
    return lambda: Images(root)


def several_time_points(root: Path) -> Action:
    nifti(paired(root) / "images" / "a.nii.gz", grey((5, 6, 4, 7)))
    nifti(root / "images" / "_b.nii.gz", grey((5, 6, 4)))
    return folders(root)


def label_of_several_time_points(root: Path) -> Action:
    nifti(paired(root) / "labels" / "a.nii.gz", labels((5, 6, 4, 7), 3))
    return folders(root)


def images_of_two_channel_counts(root: Path) -> Action:
    nifti(root / "a.nii.gz", grey((5, 6, 4)))
    nifti(root / "b.nii.gz", grey((5, 6, 4, 2)))
    return lambda: Images(root)


def image_with_other_channels_than_the_model(root: Path) -> Action:
    nifti(root / "b.nii.gz", grey((5, 6, 4, 2)))
    return lambda: Images(root, channels=("MRI",))


def channel_file_missing(root: Path) -> Action:
    for name in ("a_0000", "a_0001", "b_0001"):
        nifti(root / f"{name}.nii.gz", grey((5, 6, 4)))
    return lambda: Images(root, channel_files=2)


def channel_file_too_many(root: Path) -> Action:
    for name in ("a_0000", "a_0001", "a_0002"):
        nifti(root / f"{name}.nii.gz", grey((5, 6, 4)))
    return lambda: Images(root, channel_files=2)


def channel_file_without_a_number(root: Path) -> Action:
    for name in ("a_0000", "a_0001", "mask"):
        nifti(root / f"{name}.nii.gz", grey((5, 6, 4)))
    return lambda: Images(root, channel_files=2)


def names_that_differ_in_spaces_only(root: Path) -> Action:
    for name in ("scan 1", "scan_1"):
        picture(root / f"{name}.png", grey((8, 8)))
    return lambda: Images(root)


def five_axes(root: Path) -> Action:
    nifti(paired(root) / "labels" / "a.nii.gz", grey((5, 6, 4, 2, 2)))
    return folders(root)


def singular_affine(root: Path) -> Action:
    path = paired(root) / "labels" / "a.nii.gz"
    header = nib.load(path).header.copy()
    header["srow_z"] = header["srow_y"]
    header["sform_code"] = 1
    nib.save(nib.Nifti1Image(labels((5, 6, 4), 3), None, header), path)
    return folders(root)


def mask_of_another_shape(root: Path) -> Action:
    nifti(paired(root) / "labels" / "a.nii.gz", labels((6, 5, 4), 3))
    return folders(root)


def mask_of_another_place(root: Path) -> Action:
    moved = MM.copy()
    moved[0, 3] += 1
    nifti(paired(root) / "labels" / "a.nii.gz", labels((5, 6, 4), 3), moved)
    return folders(root)


def mask_of_another_format(root: Path) -> Action:
    nifti(root / "images" / "a.nii.gz", grey((6, 6)))
    picture(root / "labels" / "a.png", labels((6, 6), 3))
    return folders(root)


def value_beyond_the_classes(root: Path) -> Action:
    wrong = labels((5, 6, 4), 3)
    wrong[0, 0, 0] = 7
    nifti(paired(root) / "labels" / "a.nii.gz", wrong)
    return folders(root)


def negative_value(root: Path) -> Action:
    wrong = labels((5, 6, 4), 3).astype(np.int16)
    wrong[0, 0, 0] = -1
    nifti(paired(root) / "labels" / "a.nii.gz", wrong)
    return folders(root)


def blurred_labels(root: Path) -> Action:
    nifti(paired(root) / "labels" / "a.nii.gz", labels((5, 6, 4), 3).astype(np.float32) * 0.5)
    return folders(root)


def jpeg_label_map(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    picture(root / "labels" / "a.jpg", labels((8, 8), 3))
    return folders(root)


def coloured_label_map(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    picture(root / "labels" / "a.png", grey((8, 8, 3)))
    return folders(root)


def grey_levels_for_classes(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    picture(root / "labels" / "a.png", grey((8, 8)))
    return folders(root, names=())


def faint_mask(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    picture(root / "masks" / "heart" / "a.png", labels((8, 8), 2) * np.uint8(90))
    return folders(root, names=())


def animated_mask(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    frames = [Image.fromarray(grey((8, 8), seed)) for seed in range(3)]
    (root / "labels").mkdir()
    frames[0].save(root / "labels" / "a.gif", save_all=True, append_images=frames[1:])
    return folders(root)


def colour_stack(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    (root / "labels").mkdir()
    tifffile.imwrite(root / "labels" / "a.tif", grey((4, 8, 8, 3)), photometric="rgb")
    return folders(root)


def mask_without_image(root: Path) -> Action:
    nifti(paired(root) / "labels" / "b.nii.gz", labels((5, 6, 4), 3))
    return folders(root)


def one_structure_missing(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    picture(root / "images" / "b.png", grey((8, 8)))
    for name, structure in (("a", "heart"), ("b", "heart"), ("b", "lung")):
        picture(root / "masks" / structure / f"{name}.png", labels((8, 8), 2))
    return folders(root, names=())


def unknown_structure(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    picture(root / "masks" / "heart" / "a.png", labels((8, 8), 2))
    return folders(root, names=("liver",))


def unknown_exclusion(root: Path) -> Action:
    return folders(paired(root), exclude=("z",))


def no_label_folder(root: Path) -> Action:
    picture(root / "images" / "a.png", grey((8, 8)))
    return folders(root)


def empty_folder(root: Path) -> Action:
    (root / "images").mkdir()
    (root / "labels").mkdir()
    return folders(root)


def double_id(root: Path) -> Action:
    picture(paired(root) / "images" / "a.png", grey((8, 8)))
    return folders(root)


def pattern_without_patient(root: Path) -> Action:
    return folders(paired(root), patient_pattern="^(patient[0-9]+)")


def unknown_layout(root: Path) -> Action:
    (root / "readme.txt").write_text("nothing here")
    return lambda: open_dataset(root)


def acdc_label_without_frame(root: Path) -> Action:
    nifti(root / "patient001" / "patient001_frame01.nii.gz", grey((5, 6, 4)))
    nifti(root / "patient001" / "patient001_frame12_gt.nii.gz", grey((5, 6, 4)))
    return lambda: ACDC(root)


def acdc_frame_of_info_missing(root: Path) -> Action:
    nifti(root / "patient001" / "patient001_frame01.nii.gz", grey((5, 6, 4)))
    (root / "patient001" / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\n")
    return lambda: ACDC(root)


def acdc_patient_twice(root: Path) -> Action:
    for place in ("training", "copy"):
        nifti(root / place / "patient001" / "patient001_frame01.nii.gz", grey((5, 6, 4)))
    return lambda: ACDC(root)


def img_of_wrong_size(root: Path) -> Action:
    (root / "JPCLN001.IMG").write_bytes(bytes(2048 * 2047 * 2))
    return lambda: JSRT(root)


def img_of_wrong_byte_order(root: Path) -> Action:
    np.full((2048, 2048), 0x0123, dtype="<u2").tofile(root / "JPCLN001.IMG")
    return lambda: JSRT(root)


def jsrt_mask_missing(root: Path) -> Action:
    picture(root / "images" / "JPCLN001.png", grey((8, 8)))
    picture(root / "masks" / "heart" / "JPCLN001.png", labels((8, 8), 2))
    return lambda: JSRT(root)


def jsrt_mask_of_odd_size(root: Path) -> Action:
    picture(root / "images" / "JPCLN001.png", grey((8, 8)))
    for name in JSRT.label_space.names:
        picture(root / "masks" / name / "JPCLN001.png", labels((5, 5), 2))
    return lambda: JSRT(root)


def broken_json(root: Path) -> Action:
    (root / "dataset.json").write_text('{"labels": {"0": "background",}')
    return lambda: Decathlon(root)


def json_without_keys(root: Path) -> Action:
    description(root, name="something else")
    return lambda: open_dataset(root)


def decathlon(root: Path, **changes: Any) -> Action:
    content: dict[str, Any] = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "organ"},
        "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}],
    }
    description(root, **(content | changes))
    nifti(root / "imagesTr" / "a.nii.gz", grey((5, 6, 4)))
    return lambda: Decathlon(root)


def decathlon_label_missing(root: Path) -> Action:
    return decathlon(root)


def decathlon_modality_missing(root: Path) -> Action:
    entry = {"image": "imagesTr/a.nii.gz"}
    return decathlon(root, modality={"0": "T2", "1": "ADC"}, training=[entry])


def decathlon_labels_without_numbers(root: Path) -> Action:
    return decathlon(root, labels={"background": "0"})


def nnunet(root: Path, **changes: Any) -> Action:
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": TWO, "file_ending": ".nii.gz"}
    description(root, **(content | changes))
    nifti(root / "imagesTr" / "a_0000.nii.gz", grey((5, 6, 4)))
    return lambda: NnUNetRaw(root)


def nnunet_channel_missing(root: Path) -> Action:
    return nnunet(root)


def nnunet_labels_with_a_gap(root: Path) -> Action:
    return nnunet(root, labels={"background": 0, "organ": 2})


def nnunet_channels_of_different_shape(root: Path) -> Action:
    nifti(root / "imagesTr" / "a_0001.nii.gz", grey((5, 6, 3)))
    return nnunet(root)


def nnunet_label_without_image(root: Path) -> Action:
    nifti(root / "labelsTr" / "b.nii.gz", grey((5, 6, 3)))
    return nnunet(root, channel_names={"0": "T1"})


def _slices(root: Path, heights: tuple[float, ...], uids: str = "", **tags: Any) -> Action:
    """A readable image for the index to look at first, then a series that is wrong."""
    nifti(root / "a.nii.gz", grey((5, 6, 4)))
    for number, height in enumerate(heights):
        uid = f"1.2.{uids[number] if uids else 0}"
        path = root / "s" / f"slice{number}.dcm"
        dicom(path, grey((4, 5), dtype=np.uint16), uid, (0, 0, height), **tags)
    return lambda: Images(root)


def slice_missing(root: Path) -> Action:
    return _slices(root, (0, 2, 4, 8, 10))


def slice_twice(root: Path) -> Action:
    return _slices(root, (0, 2, 2, 4))


def mixed_series(root: Path) -> Action:
    return _slices(root, (0, 2, 0, 2), "1122")


def scout_among_the_slices(root: Path) -> Action:
    make = _slices(root, (0, 2, 4))
    dicom(root / "s" / "a_scout.dcm", grey((4, 5), dtype=np.uint16), "1.2.9", None)
    return make


def dicom_without_a_mark(root: Path) -> Action:
    path = dicom(root / "a.dcm", grey((4, 5), dtype=np.uint16), "1.2.0", (0, 0, 0))
    path.write_bytes(path.read_bytes()[132:])
    return lambda: Images(root)


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
    make = _slices(root, (0, 2))
    turned = (root / "s" / "turned.dcm", grey((4, 5), dtype=np.uint16), "1.2.0", (0, 0, 4))
    dicom(*turned, ImageOrientationPatient=[0, 1, 0, 1, 0, 0])
    return make


def compressed_rubbish(root: Path) -> Action:
    make = _slices(root, (0,))
    path = root / "s" / "slice0.dcm"
    path.write_bytes(path.read_bytes()[:-10])
    return make


def multi_frame(root: Path) -> Action:
    return _slices(root, (0,), NumberOfFrames=2)


def unwritable_folder(root: Path) -> Action:
    (root / "results").write_text("a file where a folder is due")
    source = nifti(root / "a.nii.gz", grey((5, 6, 4)))
    space = LabelSpace("multi-class", ("background", "organ"))
    mask = labels((1, 5, 6, 4), 2)
    return lambda: write_mask(root / "results" / "m.nii.gz", mask, space, source)


def lossy_output(root: Path) -> Action:
    source = picture(root / "a.png", grey((5, 6)))
    space = LabelSpace("multi-class", ("background", "organ"))
    return lambda: write_mask(root / "m.jpg", labels((1, 5, 6), 2), space, source)


BAD = [
    Bad("missing dataset", missing_root, "nowhere", "give the folder", "open"),
    Bad("missing image", missing_image, "scan.nii.gz", "correct the path", "open"),
    Bad("image deleted", image_deleted_after_opening, "a.nii.gz", "restore the file"),
    Bad("empty file", empty_file, "a.png", "export it again"),
    Bad("empty nifti", empty_nifti, "labels/a.nii.gz", "export it again"),
    Bad("empty json", empty_json, "dataset.json", "correct or restore", "open"),
    Bad("empty slice at the end", empty_slice_at_the_end, "slice3.dcm", "export it again"),
    Bad("link to nowhere", link_to_nowhere, "a.png", "restore the file"),
    Bad("links in a circle", links_in_a_circle, "a.nii.gz", "restore the file"),
    Bad("label link", label_linked_to_nowhere, "labels/a.nii.gz", "restore the file"),
    Bad("nnunet label link", nnunet_label_linked_to_nowhere, "labelsTr/a.nii.gz", "restore"),
    Bad("slice link", slice_linked_to_nowhere, "slice3.dcm", "restore"),
    Bad("truncated gzip", truncated_gzip, "a.nii.gz", "export it again"),
    Bad("truncated nifti", truncated_nifti, "a.nii", "export it again"),
    Bad("text named nifti", text_named_nifti, "a.nii.gz", "export it again"),
    Bad("truncated png", truncated_png, "a.png", "export it again"),
    Bad("unknown format", unknown_format, "scan.mha", "convert it to NIfTI"),
    Bad("nan pixels", nan_pixels, "a.nii.gz", "replace them"),
    Bad("nan labels", nan_labels, "labels/a.nii.gz", "replace them"),
    Bad("infinite picture", infinite_picture, "a.tif", "replace them"),
    Bad("tiff page", tiff_with_a_broken_second_page, "a.tif", "export it again"),
    Bad("complex pixels", complex_pixels, "a.nii.gz", "one real number per voxel"),
    Bad("several time points", several_time_points, "images/a.nii.gz", "exactly these"),
    Bad("label of time points", label_of_several_time_points, "labels/a.nii.gz", "one mask per"),
    Bad("two channel counts", images_of_two_channel_counts, "b.nii.gz", "exactly these"),
    Bad("channels of the model", image_with_other_channels_than_the_model, "MRI", "exactly these"),
    Bad("channel file missing", channel_file_missing, "b_0000.nii.gz", "restore the file"),
    Bad("channel file too many", channel_file_too_many, "a_0002.nii.gz", "remove it", "open"),
    Bad("no channel number", channel_file_without_a_number, "mask.nii.gz", "NAME_0000", "open"),
    Bad("names alike", names_that_differ_in_spaces_only, "scan 1.png", "rename", "open"),
    Bad("five axes", five_axes, "a.nii.gz", "two or three spatial axes"),
    Bad("singular affine", singular_affine, "a.nii.gz", "valid sform"),
    Bad("mask of another shape", mask_of_another_shape, "a.nii.gz", "on one grid"),
    Bad("mask of another place", mask_of_another_place, "a.nii.gz", "resample one onto"),
    Bad("mask of another format", mask_of_another_format, "a.png", "save both as"),
    Bad("value beyond classes", value_beyond_the_classes, "a.nii.gz", "correct the file"),
    Bad("negative value", negative_value, "a.nii.gz", "correct the file"),
    Bad("blurred labels", blurred_labels, "a.nii.gz", "nearest neighbours"),
    Bad("jpeg label map", jpeg_label_map, "a.jpg", "save label maps as PNG"),
    Bad("coloured label map", coloured_label_map, "a.png", "as grey levels"),
    Bad("grey levels for classes", grey_levels_for_classes, "a.png", "set threshold", "open"),
    Bad("faint mask", faint_mask, "a.png", "set threshold"),
    Bad("animated mask", animated_mask, "a.gif", "every frame as a file"),
    Bad("colour stack", colour_stack, "a.tif", "grey pages"),
    Bad("mask without image", mask_without_image, "b.nii.gz", "restore the image", "open"),
    Bad("one structure missing", one_structure_missing, "a.png", "add it", "open"),
    Bad("unknown structure", unknown_structure, "liver", "correct names", "open"),
    Bad("unknown exclusion", unknown_exclusion, "'z'", "correct exclude", "open"),
    Bad("no label folder", no_label_folder, "labels", "set labels", "open"),
    Bad("empty folder", empty_folder, "", "check the path", "open"),
    Bad("duplicate ids", double_id, "a.png", "rename or remove", "open"),
    Bad("pattern without patient", pattern_without_patient, "'a'", "one group", "open"),
    Bad("unknown layout", unknown_layout, "", "ACDC", "open"),
    Bad("acdc label alone", acdc_label_without_frame, "frame12_gt.nii.gz", "restore", "open"),
    Bad("acdc frame missing", acdc_frame_of_info_missing, "frame12.nii.gz", "restore", "open"),
    Bad("acdc patient twice", acdc_patient_twice, "patient001_frame01", "remove one", "open"),
    Bad("img of wrong size", img_of_wrong_size, "JPCLN001.IMG", "download it again"),
    Bad("img byte order", img_of_wrong_byte_order, "JPCLN001.IMG", "big-endian"),
    Bad("jsrt mask missing", jsrt_mask_missing, "JPCLN001.png", "restore it", "open"),
    Bad("jsrt mask size", jsrt_mask_of_odd_size, "JPCLN001.png", "export both"),
    Bad("broken json", broken_json, "dataset.json", "correct or restore", "open"),
    Bad("json without keys", json_without_keys, "dataset.json", "add what is missing", "open"),
    Bad("decathlon file", decathlon_label_missing, "labelsTr/a.nii.gz", "restore it", "open"),
    Bad("decathlon modality", decathlon_modality_missing, "a.nii.gz", "exactly these"),
    Bad("decathlon labels", decathlon_labels_without_numbers, "dataset.json", "write", "open"),
    Bad("nnunet channel", nnunet_channel_missing, "a_0001.nii.gz", "export that", "open"),
    Bad("nnunet labels", nnunet_labels_with_a_gap, "dataset.json", "number them", "open"),
    Bad("nnunet shapes", nnunet_channels_of_different_shape, "a_0001.nii.gz", "on one grid"),
    Bad("nnunet label alone", nnunet_label_without_image, "b.nii.gz", "restore it", "open"),
    Bad("slice missing", slice_missing, "slice2.dcm and slice3.dcm", "add the missing"),
    Bad("slice twice", slice_twice, "slice1.dcm and slice2.dcm", "move one out"),
    Bad("mixed series", mixed_series, "1.2.1, 1.2.2", "folder of its own"),
    Bad("scout among slices", scout_among_the_slices, "1.2.0, 1.2.9", "folder of its own"),
    Bad("dicom without mark", dicom_without_a_mark, "a.dcm", "export it again"),
    Bad("damaged radiograph", damaged_radiograph, "b.dcm", "export it again"),
    Bad("spacing of letters", dicom_with_a_spacing_of_letters, "a.dcm", "export it again"),
    Bad("turned slice", slices_of_different_orientation, "turned.dcm", "move it out"),
    Bad("truncated dicom", compressed_rubbish, "slice0.dcm", "export the series again"),
    Bad("multi-frame dicom", multi_frame, "slice0.dcm", "convert it to NIfTI"),
    Bad("unwritable folder", unwritable_folder, "m.nii.gz", "choose a folder", "open"),
    Bad("lossy output", lossy_output, "m.jpg", "choose .nii.gz", "open"),
]


def read_all(reader: Any) -> None:
    for source in reader.sources():
        reader.read(source)


@pytest.mark.parametrize("bad", BAD, ids=[bad.id for bad in BAD])
def test_one_sentence_names_the_file_and_the_mend(tmp_path: Path, bad: Bad) -> None:
    action = bad.make(tmp_path)
    if bad.at == "open":
        with pytest.raises(SegprefError) as caught:
            action()
    else:
        reader = action()
        with pytest.raises(SegprefError) as caught:
            read_all(reader)
    message = str(caught.value)
    assert (bad.names or tmp_path.name) in message
    problem, _, mend = message.partition(": ")
    assert bad.mend in mend, message
    assert bad.mend not in problem
    assert "\n" not in message
    assert not re.search(r"[.!?]\s+[A-Z]", message), message
    assert not message.endswith(".")


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Takes the permission to read a file away; also from root, who would be let in anyway."""
    locked: set[str] = set()
    for module, name in ((builtins, "open"), (io, "open"), (os, "scandir"), (os, "listdir")):
        monkeypatch.setattr(module, name, _guarded(getattr(module, name), locked))
    return lambda path: locked.add(str(path))


def _guarded(use: Callable[..., Any], locked: set[str]) -> Callable[..., Any]:
    def guarded(place: Any = ".", *args: Any, **options: Any) -> Any:
        if isinstance(place, str | os.PathLike) and os.fspath(place) in locked:
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(place))
        return use(place, *args, **options)

    return guarded


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.tif", "a.dcm", "s/002.dcm"])
def test_files_without_permission(
    tmp_path: Path, name: str, lock: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if path.suffix == ".dcm":
        dicom(path, grey((4, 5), dtype=np.uint16), "1.2.0", None)
        series(tmp_path / "s", grey((3, 4, 5), dtype=np.uint16))
    elif name.startswith("a.nii"):
        nifti(path, grey((4, 5, 3)))
    else:
        picture(path, grey((4, 5)))
    lock(path)
    reader = Images(tmp_path)
    with pytest.raises(SegprefError, match="ask for the permission") as caught:
        read_all(reader)
    assert str(path) in str(caught.value)


def test_folders_without_permission(tmp_path: Path, lock: Callable[[Path], None]) -> None:
    (paired(tmp_path) / "below").mkdir()
    for place, use in (
        ("below", lambda: Images(tmp_path)),
        ("images", lambda: folders(tmp_path)()),
    ):
        lock(tmp_path / place)
        with pytest.raises(SegprefError, match="ask for the permission") as caught:
            use()
        assert str(tmp_path / place) in str(caught.value)


def test_every_kind_is_listed_once() -> None:
    assert len({bad.id for bad in BAD}) == len({bad.make for bad in BAD}) == len(BAD) >= 40


def test_what_the_bad_inputs_are_made_from_is_sound(tmp_path: Path) -> None:
    reader = folders(paired(tmp_path / "pairs"))()
    assert reader.read(reader.sources()[0]).label.max() == 2
    reader = _slices(tmp_path / "study", (0, 2, 4, 6))()
    assert reader.read(reader.sources()[1]).image.shape == (1, 5, 4, 4)
    assert Images(series(tmp_path / "s", grey((3, 4, 5), dtype=np.uint16))).sources()[0].id == "s"
