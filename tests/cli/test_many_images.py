"""More images than a process may have files open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from small_network import network_option

_FIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from segpref.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_fitting_on_more_images_than_open_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for number in range(1600):
        mask = np.zeros((8, 8), np.uint8)
        mask[2:6, int(rng.integers(2, 5)) :] = 255
        image = (mask // 2 + rng.integers(0, 60, (8, 8))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / f"c{number:04d}.png")
        Image.fromarray(mask).save(tmp_path / "data" / f"c{number:04d}_mask.png")
    ids = [f"c{number:04d}" for number in range(1600)]
    split = {"train": ids[:1500], "judge": [], "validation": ids[1500:1590], "test": ids[1590:]}
    (tmp_path / "split.json").write_text(json.dumps({"by_patient": False, **split}))
    options = [
        "fit", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"),
        "--cache", str(tmp_path / "cache"), "--split", str(tmp_path / "split.json"),
        "--preparation.size", "[8, 8]", "--network", network_option(), "--epochs", "1",
        "--batch_size", "64", "--augment", "none",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _FIT, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["labelled_cases"] == 1500
