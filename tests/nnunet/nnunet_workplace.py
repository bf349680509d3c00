"""A dataset that is made, and what stock nnU-Net makes of it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from benchmarks.nnunet.stock import Stock

from segpref.cli.main import main
from segpref.data import Reader, open_dataset

NAME = "Dataset901_Made"
CASES = [f"case{number}" for number in range(6)]
SHAPES = {"case0": (24, 24, 22), "case3": (20, 24, 24), "new": (30, 26, 15)}
SPACINGS = {"new": (0.8, 1.0, 2.0)}

needs_nnunet = pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None,
    reason="nnunetv2 is not installed here: `make test-nnunet` runs this in an environment of its own",
)


class Workplace(Stock):
    """With a made dataset and models that were trained on it."""

    def trained(self, configuration: str) -> Path:
        return self.model(NAME, configuration)

    @property
    def made(self) -> Path:
        return self.root / "raw" / NAME

    @property
    def new_images(self) -> Path:
        return self.made / "imagesTs"

    def reader(self) -> Reader:
        return open_dataset(self.made)

    def predicted(self, model: Path, folds: Sequence[str]) -> Path:
        """The mask that stock nnU-Net writes for the new case."""
        out = self.root / "stock" / model.parent.name / f"{model.name} {' '.join(folds)}"
        if not out.exists():
            self.predict(model, folds, self.new_images, out)
        return out / "new.nii.gz"


FOLDS = (("3d_fullres", 0), ("3d_fullres", 1), ("2d", 0))


def made_workplace(root: Path, folds: Sequence[tuple[str, int]] = FOLDS) -> Workplace:
    """The made dataset in a folder, and folds that stock nnU-Net trained on it."""
    place = Workplace(root)
    place.enter()
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (place.made / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*CASES, "new"):
        write_case(place.made, name, rng)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "rind": 1, "core": 2},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    (place.made / "dataset.json").write_text(json.dumps(description))
    splits = [{"train": CASES[1:3], "val": CASES[:1]}, {"train": CASES[3:4], "val": CASES[2:3]}]
    place.plan(NAME, ("2d", "3d_fullres"), shrink, splits)
    for configuration, fold in folds:
        # Long enough that slates hold masks of which one is better.
        place.train(NAME, configuration, fold, SHORT_ITERATIONS=100)
    return place


def mask(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def write_case(folder: Path, name: str, rng: np.random.Generator) -> None:
    shape = SHAPES.get(name, (24, 24, 24))
    spacing = np.array(SPACINGS.get(name, (1.0, 1.0, 1.5)))
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * spacing
    middle = np.array(shape) * spacing / 2 + rng.uniform(-2, 2, 3)
    distance = np.linalg.norm(places - middle, axis=-1)
    label = ((distance < 9).astype(np.uint8) + (distance < 5)).astype(np.uint8)
    image = (2.0 * label + rng.normal(5, 0.5, shape)).astype(np.float32)
    image[:2] = 0  # cropped away by nnU-Net
    affine = np.diag([*(-spacing[:2]), spacing[2], 1])
    affine[:3, 3] = 3, -4, 5
    where = "Ts" if name == "new" else "Tr"
    nib.save(nib.Nifti1Image(image, affine), folder / f"images{where}" / f"{name}_0000.nii.gz")
    if where == "Tr":
        nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / f"{name}.nii.gz")


def shrink(settings: dict[str, Any]) -> None:
    """Patches of 16 voxels and networks of a few thousand weights."""
    settings["patch_size"] = [16] * len(settings["patch_size"])
    settings["batch_size"] = 2
    settings["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 8]


def command(workplace: Workplace, name: str, model: Path, out: Path, *options: str) -> None:
    data = ["--data", str(workplace.made), "--keep_tuned"] if name == "align" else []
    place = ["--out", str(out)] if name == "align" else ["--output", str(out)]
    assert main([name, "--model", str(model), *data, *place, "--trust", *options]) == 0


def split_file(path: Path, train: Sequence[str]) -> str:
    parts = {"train": train, "judge": [], "validation": ["case0"], "test": ["case5"]}
    path.write_text(json.dumps({**parts, "by_patient": True}))
    return str(path)


SHORT = ["--epochs", "1", "--images_per_epoch", "2", "--batch_size", "1", "--candidates", "8"]
