"""Bad datasets: files that are missing or doubled, descriptions that are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from bad_inputs import Action, Bad, folders, linked, paired
from written import description, grey, labels, nifti, picture

from segpref.data import ACDC, JSRT, Decathlon, NnUNetRaw, open_dataset

TWO = {"background": 0, "organ": 1}


def missing_root(root: Path) -> Action:
    return lambda: ACDC(root / "nowhere")


def empty_json(root: Path) -> Action:
    (root / "dataset.json").touch()
    return lambda: open_dataset(root)


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


def nnunet_label_linked_to_nowhere(root: Path) -> Action:
    linked(root / "labelsTr" / "a.nii.gz", root / "nowhere.nii.gz")
    return nnunet(root, channel_names={"0": "T1"})


BAD_LAYOUTS = [
    Bad("missing dataset", missing_root, "nowhere", "give the folder", "open"),
    Bad("empty json", empty_json, "dataset.json", "correct or restore", "open"),
    Bad("nnunet label link", nnunet_label_linked_to_nowhere, "labelsTr/a.nii.gz", "restore"),
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
]
