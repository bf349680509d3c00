"""Bad files and images: missing, empty, cut off, of odd pixels, axes or channels."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import tifffile
from bad_inputs import Action, Bad, folders, linked, paired
from written import grey, labels, nifti, picture

from segpref.data import Images


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
    (root / "scan.mgz").write_bytes(b"another format")
    return lambda: Images(root / "scan.mgz")


def nan_pixels(root: Path) -> Action:
    array = grey((5, 6, 4), dtype=np.float32)
    array[1, 2, 3] = np.nan
    nifti(paired(root) / "images" / "a.nii.gz", array)
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


BAD_IMAGES = [
    Bad("missing image", missing_image, "scan.nii.gz", "correct the path", "open"),
    Bad("image deleted", image_deleted_after_opening, "a.nii.gz", "restore the file"),
    Bad("empty file", empty_file, "a.png", "export it again"),
    Bad("empty nifti", empty_nifti, "labels/a.nii.gz", "export it again"),
    Bad("link to nowhere", link_to_nowhere, "a.png", "restore the file"),
    Bad("links in a circle", links_in_a_circle, "a.nii.gz", "restore the file"),
    Bad("label link", label_linked_to_nowhere, "labels/a.nii.gz", "restore the file"),
    Bad("truncated gzip", truncated_gzip, "a.nii.gz", "export it again"),
    Bad("truncated nifti", truncated_nifti, "a.nii", "export it again"),
    Bad("text named nifti", text_named_nifti, "a.nii.gz", "export it again"),
    Bad("truncated png", truncated_png, "a.png", "export it again"),
    Bad("unknown format", unknown_format, "scan.mgz", "convert it to NIfTI"),
    Bad("nan pixels", nan_pixels, "a.nii.gz", "replace them"),
    Bad("infinite picture", infinite_picture, "a.tif", "replace them"),
    Bad("tiff page", tiff_with_a_broken_second_page, "a.tif", "export it again"),
    Bad("complex pixels", complex_pixels, "a.nii.gz", "one real number per voxel"),
    Bad("several time points", several_time_points, "images/a.nii.gz", "exactly these"),
    Bad("two channel counts", images_of_two_channel_counts, "b.nii.gz", "exactly these"),
    Bad("channels of the model", image_with_other_channels_than_the_model, "MRI", "exactly these"),
    Bad("channel file missing", channel_file_missing, "b_0000.nii.gz", "restore the file"),
    Bad("channel file too many", channel_file_too_many, "a_0002.nii.gz", "remove it", "open"),
    Bad("no channel number", channel_file_without_a_number, "mask.nii.gz", "NAME_0000", "open"),
    Bad("names alike", names_that_differ_in_spaces_only, "scan 1.png", "rename", "open"),
    Bad("five axes", five_axes, "a.nii.gz", "two or three spatial axes"),
    Bad("singular affine", singular_affine, "a.nii.gz", "valid sform"),
]
