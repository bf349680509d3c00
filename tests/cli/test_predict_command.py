"""`segpref predict` as a person gives it, on a folder that is not all well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segpref.cli.main import main
from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.types import LabelSpace


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = NetworkSpec(
        "monai.networks.nets.UNet",
        {
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [4, 8],
            "strides": [2],
        },
    )
    space = LabelSpace("multi-class", ("background", "organ"))
    torch.manual_seed(0)
    card = ModelCard(spec, space, Preparation(size=(16, 16)), ("image",))
    save_model(tmp_path / "model.safetensors", spec.build(), card)
    return tmp_path / "model.safetensors"


def predict(model: Path, images: Path, out: Path, *options: str) -> int:
    return main(
        ["predict", "--model", str(model), "--input", str(images), "--output", str(out), *options]
    )


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10), np.uint8)).save(path)


def test_a_damaged_first_file_fails_at_the_end(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    for name in "bc":
        picture(images / f"{name}.png")
    (images / "a.png").touch()
    assert predict(model, images, out) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert f"2 of 3 images were segmented into {out}, 1 failed: {images}/a.png is empty" in printed
    assert "Traceback" not in printed
    assert sorted(path.name for path in out.iterdir()) == ["b.png", "c.png"]
    picture(images / "a.png")
    assert predict(model, images, out) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert f"{out}: 2 of 3 masks are there already and stay, whichever model made them." in told
    assert "1 masks written" in told
    assert predict(model, images, out) == 0
    assert "0 masks written, all existed already" in capsys.readouterr().err
    assert predict(model, images, out, "--overwrite", "true") == 0
    assert "3 masks written" in capsys.readouterr().err


def test_the_folder_of_the_images_is_no_output(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "images" / "a.png")
    assert predict(model, tmp_path / "images", tmp_path / "images") == 1
    assert "choose another output folder" in " ".join(capsys.readouterr().err.split())


def test_a_folder_whose_name_looks_like_markup(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "images" / "a.png")
    out = tmp_path / "[bold]" / "[x]"
    assert predict(model, tmp_path / "images", out) == 0
    assert "[bold]/[x]: 1 masks written" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("link", ["a.png", "b.png"])
def test_a_mask_is_not_written_through_a_link_to_an_image(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], link: str
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    for name in ("a.png", "b.png"):
        picture(images / name)
    out.mkdir()
    (out / "a.png").symlink_to(images / link)
    before = [path.read_bytes() for path in sorted(images.iterdir())]
    assert predict(model, images, out, "--overwrite", "true") == 1
    assert "is a link to an image" in " ".join(capsys.readouterr().err.split())
    assert [path.read_bytes() for path in sorted(images.iterdir())] == before
