"""A small study folder on phantoms, made within seconds, for tests of what comes after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from segpref.collect import StudyFolder
from segpref.data import Folders, Preparation
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.types import LabelSpace
from segpref.workflows import init_study

HEART = ("background", "RV", "MYO", "LV")
NETWORK = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 4, "channels": [4, 8], "strides": [2],
    "num_res_units": 1, "dropout": 0.1,
}  # fmt: skip


def heart_data(folder: Path, patients: int = 12) -> Folders:
    """Slices of hearts with labels: NIfTI files of 48 x 40 pixels."""
    write_phantoms(folder, "cardiac", (48, 40), patients, seed=0, slices_per_patient=2)
    return Folders(folder, names=HEART, patient_pattern=PATIENT_PATTERN)


def untrained(file: Path, *labelled: str, seed: int = 0, dropout: float = 0.1) -> Path:
    """A model of hearts with random weights, which draws blobs in all classes."""
    torch.manual_seed(seed)
    card = ModelCard(
        network=NetworkSpec("monai.networks.nets.UNet", {**NETWORK, "dropout": dropout}),
        label_space=LabelSpace("multi-class", HEART),
        preparation=Preparation(dims=2, size=(32, 32)),
        labelled=labelled,
    )
    save_model(file, card.network.build(), card)
    return file


def small_study(folder: Path, **options: Any) -> StudyFolder:
    """A study of 6 images, with gold and practice pairs; made in a few seconds.

    Args:
        folder: in which data, model and study are put.
        options: of :func:`segpref.workflows.init_study`.
    """
    model = untrained(folder / "base.safetensors", "phantom000")
    settings = {"images": 6, "candidates": 8, "practice": 1, "gold": 0.1, "pairs_per_image": 3}
    made = init_study(
        model,
        heart_data(folder / "data"),
        out=folder / "study",
        cache=folder / "cache",
        **{**settings, **options},
    )
    return made.folder
