"""A description with one odd value is read or refused in a sentence, never a traceback."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from odd_values import ODD, changed, places
from segpref.data import Split, open_dataset, write_pack
from segpref.inference import read_prompts
from segpref.types import SegprefError

DECATHLON = {
    "name": "x",
    "modality": {"0": "MR"},
    "labels": {"0": "background", "1": "a"},
    "training": [{"image": "./imagesTr/a_0000.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    "test": [],
}
NNUNET = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "a": 1},
    "file_ending": ".nii.gz",
    "numTraining": 1,
    "regions_class_order": [1],
}
SPLIT = {"train": ["a"], "judge": ["b"], "validation": ["c"], "test": ["d"], "by_patient": True}
PROMPTS = {"a.png": {"box": [1, 2, 3, 4], "points": [[1, 2, 1]], "text": "x", "slice": 1}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    for name in ("imagesTr/a_0000", "labelsTr/a"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir()
        nib.save(image, path)
    return tmp_path


def tried(whole: Any, file: Path, odd: Any, read: Callable[[], object]) -> None:
    for place in places(whole):
        file.write_text(json.dumps(changed(whole, place, odd)))
        with contextlib.suppress(SegprefError):
            read()


def read_all(folder: Path) -> None:
    reader = open_dataset(folder)
    for source in reader.sources():
        reader.read(source)


@pytest.mark.parametrize("whole", [DECATHLON, NNUNET], ids=["decathlon", "nnunet"])
@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_one_odd_value_in_a_dataset(folder: Path, whole: Any, odd: Any) -> None:
    tried(whole, folder / "dataset.json", odd, lambda: read_all(folder))


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_one_odd_value_in_a_pack(folder: Path, tmp_path: Path, odd: Any) -> None:
    (folder / "dataset.json").write_text(json.dumps(DECATHLON))
    out = tmp_path / "pack"
    write_pack(open_dataset(folder), out)
    whole = json.loads((out / "pack.json").read_text())
    tried(whole, out / "pack.json", odd, lambda: read_all(out))


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_one_odd_value_in_a_split_or_in_prompts(tmp_path: Path, odd: Any) -> None:
    file = tmp_path / "x.json"
    tried(SPLIT, file, odd, lambda: Split.load(file))
    tried(PROMPTS, file, odd, lambda: read_prompts(file))
