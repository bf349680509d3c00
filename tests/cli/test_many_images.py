"""More images than a process may have files open."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import own_process
from small_network import network_option

OPEN = 96
"""Files that a process may have open."""


def _fit(*options: str) -> int:
    from segpref.cli.main import main

    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN, OPEN))
    return main(options)


@pytest.mark.slow
def test_fitting_on_more_images_than_open_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    ids = [f"c{number:04d}" for number in range(250)]
    for name in ids:
        mask = np.zeros((8, 8), np.uint8)
        mask[2:6, int(rng.integers(2, 5)) :] = 255
        image = (mask // 2 + rng.integers(0, 60, (8, 8))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "data" / f"{name}_mask.png")
    # More of each than may be open, as an image is read in its own way for training and for validation.
    split = {"train": ids[:130], "judge": [], "validation": ids[130:240], "test": ids[240:]}
    (tmp_path / "split.json").write_text(json.dumps({"by_patient": False, **split}))
    options = [
        "fit", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"),
        "--cache", str(tmp_path / "cache"), "--split", str(tmp_path / "split.json"),
        "--preparation.size", "[8, 8]", "--network", network_option(), "--epochs", "1",
        "--batch_size", "64", "--augment", "none",
    ]  # fmt: skip
    done = own_process.ended(_fit, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["labelled_cases"] == 130
