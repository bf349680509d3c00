"""Results of short trainings on record: how they are made and compared."""

from __future__ import annotations

import csv
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.machine_records import put_on_record

Run = Callable[[Path], Path]
"""Trains in a folder, where other runs may have been already, and says which one it made."""


def result(folder: Path) -> dict[str, Any]:
    """What a run came to: the figures of every epoch and a hash of its final weights."""
    with (folder / "metrics.csv").open() as file:
        rows = [{name: float(v) for name, v in row.items() if v} for row in csv.DictReader(file)]
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(load_file(folder / "last.safetensors").items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return {"weights": digest.hexdigest(), "epochs": rows}


def check(
    found: Mapping[str, Any], expected: Mapping[str, Any], same: bool, parted: bool = False
) -> None:
    """Compare a result with the one on record: to the bit on the ``same`` kind of machine.

    Elsewhere figures are close, unless rounding has ``parted`` the trainings: their last bits make
    another best epoch, other candidates and other pairs. What is compared of these came before: the
    first epoch of ``fit``, from weights that were drawn and not trained.
    """
    assert len(found["epochs"]) == len(expected["epochs"])
    drawn = "train_loss" in expected["epochs"][1]
    for now, before in zip(found["epochs"], expected["epochs"], strict=True):
        assert now.keys() == before.keys()
        tolerance = {"rel": 0, "abs": 0} if same else {"rel": 0.05, "abs": 0.05}
        for figure, value in before.items():
            if same or not parted or (drawn and before["epoch"] <= 1):
                assert now[figure] == pytest.approx(value, **tolerance, nan_ok=True), figure
    if same:
        assert found["weights"] == expected["weights"]


def make_record(path: Path, runs: Mapping[str, Run], wanted: Sequence[str] = ()) -> None:
    """Run the wanted trainings, or all, and write what they come to into the record."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as place:
        put_on_record(path, {name: result(runs[name](Path(place))) for name in wanted or runs})
