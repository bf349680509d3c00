"""Masks as the dataset and viewers have them: upright, with the values of its labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from test_predict import blobs, card_of, model_file

from segpref.data import Preparation
from segpref.inference import predict_folder
from segpref.types import LabelSpace
from segpref.workflows import evaluate

WHITE = LabelSpace("multi-class", ("background", "foreground"), on_disk=(0, 255))


def test_masks_are_white_where_labels_are(tmp_path: Path) -> None:
    model = model_file(tmp_path, card_of(Preparation(), WHITE))
    image = (blobs((12, 16)) * 255).astype(np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "a.png")
    (written,) = predict_folder(model, tmp_path / "images", tmp_path / "masks")
    mask = np.asarray(Image.open(written))
    assert np.unique(mask).tolist() == [0, 255]
    scaled = (image - image.min()) / np.ptp(image)
    assert ((mask > 0) == (scaled > 0.5)).mean() > 0.99


def test_the_mask_of_a_picture_on_its_side_is_upright(tmp_path: Path) -> None:
    model = model_file(tmp_path, card_of(Preparation()))
    shown = np.zeros((16, 24), np.uint8)
    shown[:5, :9] = 250
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "images").mkdir()
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(shown)))
    stored.save(tmp_path / "images" / "a.jpg", quality=100, exif=exif)
    (written,) = predict_folder(model, tmp_path / "images", tmp_path / "masks")
    np.testing.assert_array_equal(np.asarray(Image.open(written)) > 0, shown > 0)


def test_a_model_that_does_not_know_the_values_takes_those_of_the_dataset(tmp_path: Path) -> None:
    """A card of before, on labels of 0 and 255."""
    card = card_of(Preparation(), replace(WHITE, on_disk=()))
    model = model_file(tmp_path, card)
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    image = (blobs((12, 16)) * 255).astype(np.uint8)
    scaled = (image - image.min()) / np.ptp(image)
    Image.fromarray(image).save(tmp_path / "data" / "images" / "a.png")
    label = np.where(scaled > 0.5, 255, 0).astype(np.uint8)
    Image.fromarray(label).save(tmp_path / "data" / "labels" / "a.png")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [], "judge": [], "validation": [], "test": ["a"]}))
    (row,) = evaluate(model, tmp_path / "data", split=split, cache=tmp_path / "cache").rows
    assert row["dice"] > 0.99
