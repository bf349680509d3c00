"""The preprocessing of a bundle as a preparation, held against MONAI's own transforms."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from made_bundle import CONFIG, write
from monai.bundle import ConfigParser
from scipy import ndimage

from segpref.data import Preparation, read_volume
from segpref.policies import open_model, settings_of
from segpref.types import Case, SegprefError

LOAD = [
    {"_target_": "LoadImaged", "keys": "@keys"},
    {"_target_": "EnsureChannelFirstd", "keys": "@keys"},
]
RAS = {"_target_": "Orientationd", "keys": "@keys", "axcodes": "RAS"}
SPACING = {"_target_": "Spacingd", "keys": "@keys", "pixdim": [2.0, 2.0, 2.0], "mode": "bilinear"}
WINDOW = {
    "_target_": "monai.transforms.ScaleIntensityRanged", "keys": ["image"],
    "a_min": -20, "a_max": 40, "b_min": 0.0, "b_max": 1.0, "clip": True,
}  # fmt: skip
NONZERO = {
    "_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True,
}  # fmt: skip


def bundle(root: Path, *transforms: Any, **more: Any) -> Path:
    """A bundle with this preprocessing, written as those of MONAI's zoo write it."""
    parts = {
        "keys": ["image"], "steps": [*LOAD, *transforms],
        "preprocessing": {"_target_": "Compose", "transforms": "$@steps"},
        "network_def": {**CONFIG["network_def"], "spatial_dims": 3},
        "inferer": {**CONFIG["inferer"], "roi_size": [8, 8, 8]},
    }  # fmt: skip
    return write(root, {**CONFIG, **parts, **more})


def preparation(root: Path, given: Preparation | None = None) -> Preparation:
    found = open_model(root, labelled=[], preparation=given).card.preparation
    assert isinstance(found, Preparation)
    return found


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A smooth volume in a tilted order of axes, with zeros around."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 24, 16)), 3)
    image = np.where(smooth > -0.02, smooth * 400, 0).astype(np.float32)
    affine = np.array([[0, 0, -3.0, 5], [-2.0, 0, 0, 7], [0, 1.5, 0, -9], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([RAS, WINDOW], {"orientation": "RAS", "normalise": "window", "window": (-20, 40)}),
        ([NONZERO], {"normalise": "z-score-nonzero"}),
        ([RAS, {"_target_": "NormalizeIntensityd", "keys": ["image"]}],
         {"orientation": "RAS", "normalise": "z-score"}),
        ([{"_target_": "ScaleIntensityd", "keys": "image"}, RAS],
         {"normalise": "min-max", "orientation": "RAS"}),
        ([{"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 0.5,
           "upper": 99.5, "b_min": 0, "b_max": 1, "clip": True}], {"normalise": "percentile"}),
        # What is scaled twice is scaled as the second says.
        ([{"_target_": "ScaleIntensityd", "keys": "image"},
          {"_target_": "NormalizeIntensityd", "keys": "image"}], {"normalise": "z-score"}),
        ([], {"normalise": "none"}),
    ],
)  # fmt: skip
def test_the_network_sees_what_monai_would_show_it(
    tmp_path: Path, scan: Path, transforms: list[Any], expected: dict[str, Any]
) -> None:
    found = preparation(bundle(tmp_path / "b", *transforms))
    assert found == Preparation(dims=3, patch=(8, 8, 8), colour_range="each", **expected)
    parser = ConfigParser({"keys": ["image"], "steps": [*LOAD, *transforms]})
    parser["all"] = {"_target_": "Compose", "transforms": "$@steps"}
    monai = parser.get_parsed_content("all")({"image": str(scan)})["image"]
    np.testing.assert_allclose(prepared(found, scan), np.asarray(monai)[None], atol=1e-4)


def prepared(found: Preparation, scan: Path) -> np.ndarray:
    volume = read_volume(scan)
    one = Case(
        id="s", patient="p", volume="s", image=volume.array.astype(np.float32),
        spacing_mm=volume.spacing_mm, affine=volume.affine,
    )  # fmt: skip
    return found.apply(one).images


def test_voxel_sizes_are_followed(tmp_path: Path, scan: Path) -> None:
    found = preparation(bundle(tmp_path / "b", RAS, SPACING, WINDOW))
    assert found.spacing_mm == (2.0, 2.0, 2.0)
    assert prepared(found, scan).shape[2:] == (24, 20, 18)


def test_what_is_not_of_images_does_not_count(tmp_path: Path) -> None:
    flip = {"_target_": "Flipd", "keys": "label"}
    off = {"_target_": "Rotate90d", "keys": "image", "_disabled_": True}
    assert preparation(bundle(tmp_path / "b", flip, off, NONZERO)).normalise == "z-score-nonzero"


def test_what_is_empty_may_be_left_out_of_what_is_prepared(tmp_path: Path) -> None:
    crop = {"_target_": "CropForegroundd", "keys": ["image"], "source_key": "image"}
    assert preparation(bundle(tmp_path / "b", RAS, WINDOW, crop)).normalise == "window"


def of(*keys: str, **more: Any) -> dict[str, Any]:
    return {"keys": list(keys), **more}


def test_images_may_have_any_name() -> None:
    load = {"_target_": "LoadImaged", **of("scan", "label")}
    turn = {"_target_": "Orientationd", **of("scan", "label", axcodes="LPS")}
    flip = {"_target_": "Flipd", **of("label")}
    expected = {"normalise": "none", "orientation": "LPS"}, []
    assert settings_of([load, turn, flip], 3) == expected


def test_channels_may_be_read_from_files_of_their_own() -> None:
    load = {"_target_": "LoadImaged", **of("t1", "t2", "seg")}
    turn = {"_target_": "Orientationd", **of("t1", "t2", "seg", axcodes="RAS")}
    join = {"_target_": "ConcatItemsd", **of("t1", "t2", name="image")}
    each = {"_target_": "NormalizeIntensityd", **of("image", channel_wise=True)}
    found = settings_of([load, turn, join, each], 3, channels=2)
    assert found == ({"normalise": "z-score", "orientation": "RAS"}, [])
    rotated = [load, {"_target_": "Rotate90d", **of("t1", "t2")}, join]
    assert settings_of(rotated, 3, channels=2)[1] == ["Rotate90d"]


@pytest.mark.parametrize(
    ("transforms", "name"),
    [
        (
            [{"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}],
            "CropForeground",
        ),
        ([{**WINDOW, "clip": False}], "ScaleIntensityRange"),
        ([{**WINDOW, "b_min": -1.0}], "ScaleIntensityRange"),
        ([{**NONZERO, "divisor": 2.0}], "NormalizeIntensity"),
        ([WINDOW, NONZERO], "NormalizeIntensity"),
        ([{**SPACING, "pixdim": "$[1, 1, 1]"}], "Spacing"),
        (["$my_transform()"], "my_transform"),
    ],
)
def test_what_a_preparation_can_not_say_is_named(
    tmp_path: Path, transforms: list[Any], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = bundle(tmp_path / "b", *transforms)
    with pytest.raises(SegprefError, match=f"does not say as text what .*{name}.*--preparation"):
        preparation(root)
    # Who says it is told what was not looked at.
    with caplog.at_level(logging.WARNING):
        preparation(root, Preparation(dims=3))
    assert name in caplog.text


def test_channels_that_are_normalised_together_are_no_preparation() -> None:
    together = {**NONZERO, "channel_wise": False}
    assert settings_of([together], 3, channels=1) == ({"normalise": "z-score-nonzero"}, [])
    assert settings_of([together], 3, channels=2) == ({"normalise": "none"}, ["NormalizeIntensity"])
    assert settings_of([NONZERO], 3, channels=2)[1] == []


def test_without_transforms_the_preparation_is_asked_for(tmp_path: Path) -> None:
    for more in ({"preprocessing": None}, {"preprocessing": "@nothing"}):
        with pytest.raises(SegprefError, match="how images are prepared: say what"):
            preparation(bundle(tmp_path / "b", **more))


def test_another_preparation_than_the_bundles_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = bundle(tmp_path / "b", RAS, WINDOW)
    same = Preparation(dims=3, orientation="RAS", window=(-20, 40), normalise="window")
    assert preparation(root, same).orientation == "RAS"
    assert not caplog.text
    preparation(root, Preparation(dims=3, normalise="z-score"))
    assert "amounts to orientation RAS, the preparation has None" in caplog.text
    assert "amounts to normalise window, the preparation has z-score" in caplog.text
