"""Leaving an image with a wrong mask out, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpref.cli.main import main
from small_network import network_option

NETWORK = network_option()


@pytest.fixture(scope="module")
def ultrasound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As BUSI: two masks beside an image, one of them of another size."""
    root = tmp_path_factory.mktemp("busi") / "data"
    rng = np.random.default_rng(0)
    for kind in ("benign", "malignant"):
        (root / kind).mkdir(parents=True)
        for number in range(1, 6):
            name = f"{kind} ({number})"
            Image.fromarray(rng.integers(0, 200, (16, 18), np.uint8)).save(
                root / kind / f"{name}.png"
            )
            mask = np.zeros((16, 18), np.uint8)
            mask[4:9, 3:12] = 255
            Image.fromarray(mask).save(root / kind / f"{name}_mask.png")
    Image.fromarray(mask[:12]).save(root / "benign" / "benign (4)_mask_1.png")
    return root


def fit(data: Path, out: Path, *options: str) -> int:
    return main(
        ["fit", "--data", str(data), "--out", str(out), "--cache", str(out.parent / "cache"),
         "--preparation.size", "[16, 16]", "--network", NETWORK, "--epochs", "1",
         "--images_per_epoch", "4", "--labelled", "2", *options]
    )  # fmt: skip


def test_the_error_names_the_mask_and_the_option(
    ultrasound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(ultrasound, tmp_path / "run") == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert (
        "benign (4)_mask_1.png has 12 x 18 pixels but its image benign (4).png has 16 x 18"
        in printed
    )
    assert "or leave the image out with the option exclude=benign_4" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    "options",
    [
        ["--data_options", '{"exclude": ["benign_4"]}'],
        ["--data_options", '{"exclude": ["benign (4)"], "suffix": "_mask"}'],
        ["--data_options.exclude", "[benign_4]"],
        ["--data_options.exclude", "benign_4"],
    ],
    ids=["json", "name", "list", "alone"],
)
def test_the_option_leaves_it_out(ultrasound: Path, tmp_path: Path, options: list[str]) -> None:
    assert fit(ultrasound, tmp_path / "run", *options) == 0
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    patients = [name for part in ("train", "judge", "validation", "test") for name in split[part]]
    assert len(patients) == 9
    assert "benign_4" not in patients


def test_an_exclusion_that_is_not_there(
    ultrasound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(ultrasound, tmp_path / "run", "--data_options.exclude", "[benign_9]") == 1
    assert "correct exclude" in " ".join(capsys.readouterr().err.split())
