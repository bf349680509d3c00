"""Bad masks: off the grid of their image, of values or a form that no label map has, unwritable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from bad_inputs import Action, Bad, folders, paired
from PIL import Image
from written import MM, grey, labels, nifti, picture

from segpref.inference import write_mask
from segpref.types import LabelSpace


def nan_labels(root: Path) -> Action:
    array = labels((5, 6, 4), 3).astype(np.float32)
    array[1, 2, 3] = np.nan
    nifti(paired(root) / "labels" / "a.nii.gz", array)
    return folders(root)


def label_of_several_time_points(root: Path) -> Action:
    nifti(paired(root) / "labels" / "a.nii.gz", labels((5, 6, 4, 7), 3))
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


BAD_MASKS = [
    Bad("nan labels", nan_labels, "labels/a.nii.gz", "replace them"),
    Bad("label of time points", label_of_several_time_points, "labels/a.nii.gz", "one mask per"),
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
    Bad("unwritable folder", unwritable_folder, "m.nii.gz", "choose a folder", "open"),
    Bad("lossy output", lossy_output, "m.jpg", "choose .nii.gz", "open"),
]
