"""Colours keep their hue from the file to the network and to the report."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segpref.data import Cache, Preparation, open_dataset, prepare, write_pack
from segpref.policies import FORMAT, current
from segpref.report import plane_of, view_of
from segpref.types import LabelSpace

REDDISH = np.random.default_rng(0).integers(0, 90, (12, 10, 3)).astype(np.uint8)
REDDISH[..., 0] += 140
REDDISH[0, 0] = 0
SPACE = LabelSpace("multi-class", ("background", "a"))


def pictures(folder: Path) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    mask = np.zeros((12, 10), np.uint8)
    mask[3:8, 3:8] = 255
    for number in range(2):
        Image.fromarray(REDDISH).save(folder / f"images/{number}.png")
        Image.fromarray(mask).save(folder / f"masks/{number}.png")
    return folder


def hues(image: np.ndarray) -> np.ndarray:
    return np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in image.reshape(3, -1).T])


@pytest.mark.parametrize("normalise", ["min-max", "percentile"])
def test_hue_stays(normalise: Any, tmp_path: Path) -> None:
    data = open_dataset(pictures(tmp_path / "data"))
    # What percentiles clip has no hue to keep.
    seen = prepare(data, Preparation(normalise=normalise), Cache(tmp_path / "cache"))[0].image
    inside = ((seen > 0) & (seen < 1)).all(axis=0)
    true = np.moveaxis(REDDISH / 255.0, -1, 0)
    assert inside.sum() > 80
    np.testing.assert_allclose(hues(seen[:, inside]), hues(true[:, inside]), atol=2e-3)


def test_colours_of_earlier_models_are_scaled_one_by_one(tmp_path: Path) -> None:
    data = open_dataset(pictures(tmp_path / "data"))
    each = prepare(data, Preparation(colour_range="each"), Cache(tmp_path / "cache"))[0].image
    assert each.max(axis=(1, 2)).tolist() == [1, 1, 1]
    shared = prepare(data, Preparation(), Cache(tmp_path / "cache"))[0].image
    assert shared[0].max() == 1
    assert shared[1].max() < 0.5
    key = {"dims": 2, "normalise": "min-max", "size": None}
    card = current({"preparation": key, "format": 3, "label_space": {}}, "a file")
    assert Preparation.from_key(card["preparation"]).colour_range == "each"
    new = Preparation().as_key()
    assert Preparation.from_key(new).colour_range == "shared"
    assert current({"preparation": new, "format": FORMAT}, "a file")["preparation"] == new
    assert Preparation.from_key(Preparation(colour_range="each").as_key()).colour_range == "each"


def test_a_packed_colour_picture_is_prepared_as_the_picture(tmp_path: Path) -> None:
    data = open_dataset(pictures(tmp_path / "data"))
    write_pack(data, tmp_path / "pack")
    cache = Cache(tmp_path / "cache")
    packed = prepare(open_dataset(tmp_path / "pack"), Preparation(), cache)[0]
    assert packed.colour
    np.testing.assert_allclose(
        packed.image, prepare(data, Preparation(), cache)[0].image, atol=0.01
    )


def test_sequences_of_mr_keep_ranges_of_their_own(tmp_path: Path) -> None:
    import json

    for place in ("imagesTr", "labelsTr"):
        (tmp_path / place).mkdir()
    volume = np.random.default_rng(1).random((6, 5, 4))
    for number in range(3):
        scan = nib.Nifti1Image(volume * 10.0**number, np.diag([1.0, 1, 2, 1]))
        nib.save(scan, tmp_path / f"imagesTr/a_000{number}.nii.gz")
    label = nib.Nifti1Image((volume > 0.5).astype(np.uint8), np.diag([1.0, 1, 2, 1]))
    nib.save(label, tmp_path / "labelsTr/a.nii.gz")
    description = {
        "channel_names": {"0": "T1", "1": "T2", "2": "FLAIR"},
        "labels": {"background": 0, "a": 1},
        "file_ending": ".nii.gz",
        "numTraining": 1,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    dataset = prepare(open_dataset(tmp_path), Preparation(dims=3), Cache(tmp_path / "cache"))
    assert not dataset[0].colour
    assert dataset[0].image.max(axis=(1, 2, 3)).tolist() == [1, 1, 1]
    # What was prepared before there was such a setting stays valid.
    assert "colour_range" not in dataset.volumes[0].key["preparation"]


def test_reports_show_colours(tmp_path: Path) -> None:
    dataset = prepare(
        open_dataset(pictures(tmp_path / "data")), Preparation(), Cache(tmp_path / "cache")
    )
    case = dataset[0]
    view = view_of(case.image, [], SPACE, None, case.colour)
    assert view.picture.shape == (12, 10, 3)
    np.testing.assert_array_equal(view.picture, np.moveaxis(case.image, 0, -1))
    png = view.draw((), None)
    shown = np.asarray(Image.open(__import__("io").BytesIO(png)).convert("RGB")).astype(int)
    assert shown[..., 0].mean() > shown[..., 1].mean() + 50
    assert plane_of(case).shape == (12, 10, 3)
    grey = view_of(case.image, [], SPACE, None)
    assert grey.picture.shape == (12, 10)
