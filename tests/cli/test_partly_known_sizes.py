"""Images that state their voxel size along some axes only."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segpref.cli.main import main
from segpref.collect import StudyFolder
from segpref.data import LIDC, Cache, Preparation, prepare
from segpref.inference import shape_of
from segpref.policies import read_card
from segpref.types import known_spacing, whole_spacing

pytestmark = pytest.mark.slow


def network(dims: int) -> str:
    arguments = {
        "spatial_dims": dims, "in_channels": None, "out_channels": None, "channels": [4, 8],
        "strides": [2], "dropout": 0.1,
    }  # fmt: skip
    return json.dumps({"module": "monai.networks.nets.UNet", "arguments": arguments})


SHORT = ["--epochs", "1", "--images_per_epoch", "8", "--batch_size", "4", "--labelled", "2"]


def nodules(folder: Path) -> Path:
    """Nodules of three slices in eleven patients: pixels have a size, slices an unknown distance."""
    rows = []
    for number in range(11):
        patient, rng = f"LIDC-IDRI-{number:04d}", np.random.default_rng(number)
        place = folder / patient / "nodule-0"
        for level in range(3):
            mask = np.zeros((16, 16), np.uint8)
            y, x = rng.integers(2, 6, 2)
            mask[y : y + 6, x : x + 6] = 255
            for part, pixels in (("images", mask // 2 + 20), ("mask-0", mask), ("mask-1", mask)):
                (place / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place / part / f"slice-{level}.png")
        names = "subtlety internalStructure calcification sphericity margin lobulation spiculation"
        ratings = dict.fromkeys([*names.split(), "texture", "malignancy"], 3)
        known = {
            "pixel_spacing_mm": 0.7,
            "slice_thickness_mm": 2.5,
            "n_inexact_slices": 0,
            "mixed_scans": 0,
        }
        rows += [
            {"patient": patient, "nodule": 0, "mask_index": k, **ratings, **known} for k in range(2)
        ]
    with (folder / "attributes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sizes")
    nodules(place / "data")
    for dims, crop in ((2, [16, 16]), (3, [16, 16, 4])):
        options = [
            "--data", str(place / "data"), "--cache", str(place / "cache"), "--network", network(dims),
            "--preparation.dims", str(dims), "--preparation.crop", json.dumps(crop),
            "--preparation.size", "null",
        ]  # fmt: skip
        assert main(["fit", *options, "--out", str(place / f"base-{dims}"), *SHORT]) == 0
    return place


def command(place: Path, name: str, *options: Any) -> int:
    given = ["--data", place / "data", "--cache", place / "cache", *options]
    return main([*name.split(), *map(str, given)])


def test_known_axes() -> None:
    assert known_spacing((0.7, 0.7, math.nan)) == (0.7, 0.7)
    assert known_spacing(None) == known_spacing((math.nan, 1)) == ()
    assert whole_spacing((0.7, 0.8, math.nan), 2) == (0.7, 0.8)
    assert whole_spacing((0.7, 0.8, math.nan), 3) is None
    assert whole_spacing(None, 2) is None
    part = np.ones((2, 3, 4), bool)
    assert shape_of(part, (1, 2, math.nan)).size is None
    assert shape_of(part, (1, 2, 3)).size == 24 * 6


@pytest.mark.parametrize(("dims", "unit"), [(2, "mm"), (3, "voxel")])
def test_distances_are_in_the_unit_that_is_known(
    place: Path, tmp_path: Path, dims: int, unit: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = place / f"base-{dims}"
    # What a model was trained with is known along the axes that are known, and all images are such.
    assert read_card(model).spacing_range_mm == ((0.7, 0.7), (0.7, 0.7))
    with caplog.at_level(logging.WARNING):
        out = tmp_path / "scores.csv"
        assert command(place, "evaluate", "--model", model, "--out", out) == 0
    assert "outside what the model was trained with" not in caplog.text
    assert f"assd_{unit}" in out.read_text().splitlines()[0]
    for line in csv.DictReader(out.open()):
        assert math.isfinite(float(line[f"assd_{unit}"]))


@pytest.mark.parametrize("dims", [2, 3])
def test_candidates_are_made_and_shown(place: Path, tmp_path: Path, dims: int) -> None:
    model = place / f"base-{dims}"
    assert (
        command(place, "audit", "--model", model, "--judge", "oracle", "--out", tmp_path / "a.json")
        == 0
    )
    assert "NaN" not in (tmp_path / "a.json").read_text()
    study = tmp_path / "study"
    options = ["--images", 2, "--practice", 0, "--gold", 0, "--least_voxels", 1]
    if dims == 2:
        assert command(place, "collect init", "--model", model, "--out", study, *options) == 0
        for item in StudyFolder(study).contents().items:
            # One slice, of which the thickness plays no part.
            assert item.display.spacing_mm == (1.0, 0.7, 0.7)


def test_what_needs_every_size_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--preparation.dims", "3", "--preparation.size", "null", "--preparation.spacing_mm"]
    out = tmp_path / "run"
    assert (
        command(place, "fit", "--out", out, "--network", network(3), *wanted, "[1,1,1]", *SHORT)
        == 1
    )
    said = " ".join("".join(capsys.readouterr()).split())
    assert "does not state its voxel size, so it can't be resampled to (1.0, 1.0, 1.0) mm" in said
    # In the plane it is stated.
    reader = LIDC(place / "data")
    dataset = prepare(reader, Preparation(dims=2, spacing_mm=(1.4, 1.4)), Cache(place / "cache"))
    assert dataset[0].image.shape[1:] == (8, 8)
