"""One small study of each kind, run by its command, and the tables that it writes.

``PYTHONPATH=. python tests/studies/small_studies.py`` writes the record anew.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from tests.machine_records import put_on_record

from segpref.cli.main import main
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms

FILE = Path(__file__).with_name("small_studies.json")
TIMES = ("Seconds", "Faster", "CPU seconds", "CPU faster")
"""Figures that differ from run to run."""

UNET: Mapping[str, Any] = {
    "module": "monai.networks.nets.UNet",
    "arguments": {
        "spatial_dims": 2, "in_channels": None, "out_channels": None, "channels": [4, 8],
        "strides": [2], "num_res_units": 1, "dropout": 0.1,
    },
}  # fmt: skip
HEARTS: Mapping[str, Any] = {
    "name": "hearts",
    "description": "phantoms of hearts",
    "split": {"judge": 3, "validation": 2, "test": 3},
    "preparation": {"dims": 2, "size": [32, 32]},
    "network": UNET,
    "bases": {"weak": {"labelled": 2, "epochs": 3, "images_per_epoch": 16, "learning_rate": 2e-2}},
    "judges": {
        "weak": {
            "class_path": "segpref.studies.judging.ModelBased",
            "init_args": {
                "train_on": {"epochs": 3, "images_per_epoch": 16, "learning_rate": 2e-2}
            },
        },
        "oracle": {"class_path": "segpref.studies.judging.Oracle"},
    },
    # Some processors have bfloat16.
    "align": {"epochs": 2, "images_per_epoch": 8, "candidates": 8, "proposal_precision": "no",
              "families": "paper"},
    "methods": {"RN-DPO": {"learning_rate": 1e-3}, "Top-1": {"method": "pseudo-label"}},
    "grid": [
        {"title": "Main", "judges": ["weak"]},
        {
            "title": "Beta", "judges": ["oracle"], "methods": ["RN-DPO"],
            "sweep": {"objective.beta": [0.5, 2]}, "seeds": [0],
        },
    ],
    "seeds": [0, 1],
    "measures": ["iou", "assd"],
    "proposed": "RN-DPO",
}  # fmt: skip
SQUARES: Mapping[str, Any] = {
    "name": "squares",
    "description": "squares of two raters",
    "preparation": {"crop": [16, 16]},
    "split": {"validation": 2, "test": 4, "judge": 0},
    "seeds": [0, 1],
    "network": {
        "channels": [8, 16], "cross": 16, "heads": 2, "latent": 2, "latent_channels": 8,
        "text_encoder": None, "middle_attention": False, "attention": [False, False],
    },
    "fit": {"epochs": 1, "images_per_epoch": 8, "batch_size": 4},
    "align": {
        "epochs": 1, "images_per_epoch": 4, "batch_size": 4, "pool_images": 4, "learning_rate": 1e-3,
        "sampler": {"steps": 2},
    },
    "methods": {
        "Mean Dice": {"learning_rate": 1e-4},
        "Region": {"preference": "stochastic-run", "reduction": "region"},
    },
    "sampler": {"steps": 2},
    "samples": 4,
    "numbers": [1, 6],
    "knob": {"Mean Dice": [2.0]},
    "control": {"rough": {"spiculation": 5}, "smooth": {"spiculation": 1}},
    "speed": [{"solver": "ddim", "steps": 4}, {"steps": 2}],
    "speed_images": 2,
    "pictures": 2,
    "variants": {"Without KL": {"fit": {"kl_weight": 0.0}}},
}  # fmt: skip
DISCS: Mapping[str, Any] = {
    "name": "discs",
    "description": "bright discs",
    "structure": "breast lesion",
    "data_options": {"suffix": "_mask"},
    "strata": ["benign"],
    "empty": "normal",
    "preparation": {"size": [32, 32], "normalise": "percentile"},
    "folds": 2,
    "labelled": 2,
    "validation": 1,
    "more": 1,
    "unlabelled": [0.5],
    "start": {
        "network": {
            "side": 32, "patch": 4, "width": 32, "layers": 2, "heads": 2, "prompt_width": 32
        },
        "sources": {"phantoms": 8},
        "epochs": 1,
        "images_per_epoch": 8,
        "halve_every": 1 / 3,
    },
    "clip": {"side": 32, "steps": 2, "batch_size": 2, "channels": 4},
    "stage1": {"epochs": 1, "images_per_epoch": 4},
    "unet": {"epochs": 1, "network": UNET},
    "align": {"epochs": 1, "images_per_epoch": 4},
    "flips": [0.5],
    "reversals": [0.5],
}  # fmt: skip


def hearts(place: Path) -> list[list[str]]:
    """A study of preferences."""
    write_phantoms(place / "data", "cardiac", (48, 48), 12, seed=0, slices_per_patient=2)
    options = json.dumps({"patient_pattern": PATIENT_PATTERN})
    return _run(place, "study", HEARTS, "--data_options", options, "--workers", "0")


def squares(place: Path) -> list[list[str]]:
    """A study of ambiguous images."""
    for number in range(10):
        rng = np.random.default_rng(number)
        folder = place / "data" / f"LIDC-IDRI-{number:04d}" / "nodule-0"
        y, x = rng.integers(3, 8, 2)
        for rater in range(2):
            mask = np.zeros((16, 16), np.uint8)
            mask[y - rater : y + 5 + rater, x - rater : x + 5 + rater] = 255
            _write(folder / f"mask-{rater}" / "slice-0.png", mask)
        _write(folder / "images" / "slice-0.png", mask // 2 + rng.integers(0, 9, mask.shape))
    return _run(place, "ambiguity", SQUARES)


def discs(place: Path) -> list[list[str]]:
    """A study of promptable models."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    for number in range(16):
        row, column = rng.integers(8, 24, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 36
        noise = rng.integers(0, 60, (32, 32))
        for stratum, mask in (("benign", disc), ("normal", np.zeros_like(disc))):
            stem = place / "data" / stratum / f"{stratum} ({number + 1})"
            _write(stem.with_name(f"{stem.name}.png"), noise + 150 * mask)
            _write(stem.with_name(f"{stem.name}_mask.png"), 255 * mask)
    return _run(place, "prompted", DISCS, "--others", str(place))


STUDIES: Mapping[str, Callable[[Path], list[list[str]]]] = {
    "hearts": hearts,
    "squares": squares,
    "discs": discs,
}


def _run(place: Path, command: str, recipe: Mapping[str, Any], *options: str) -> list[list[str]]:
    (place / "recipe.yaml").write_text(yaml.safe_dump(dict(recipe)))
    given = ["--recipe", place / "recipe.yaml", "--data", place / "data", "--out", place / "out"]
    assert main([command, *map(str, given), *options]) == 0
    with (place / "out" / "tables.csv").open(newline="") as file:
        return [row for row in csv.reader(file) if not set(row) & set(TIMES)]


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def record() -> None:
    """Run them all and write down their tables."""
    torch.set_num_threads(1)
    tables = {}
    for name, study in STUDIES.items():
        with tempfile.TemporaryDirectory() as place:
            tables[name] = study(Path(place))
    put_on_record(FILE, tables)


if __name__ == "__main__":
    sys.exit(record())
