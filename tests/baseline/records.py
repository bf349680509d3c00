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


def check(found: Mapping[str, Any], expected: Mapping[str, Any], same: bool) -> None:
    """Compare a result with the one on record: to the bit on the ``same`` kind of machine.

    Elsewhere the last bits differ, and training makes of them another best epoch, other candidates
    and other pairs within a few epochs. What is compared there came before: the first epoch of
    ``fit``, from weights that were drawn and not trained, and which figures there are.
    """
    assert len(found["epochs"]) == len(expected["epochs"])
    drawn = "train_loss" in expected["epochs"][1]
    for now, before in zip(found["epochs"], expected["epochs"], strict=True):
        assert now.keys() == before.keys()
        for figure, value in before.items():
            if same:
                assert now[figure] == pytest.approx(value, rel=0, abs=0, nan_ok=True), figure
            elif drawn and before["epoch"] <= 1:
                assert now[figure] == pytest.approx(value, rel=0.01, abs=0.01), figure
    if same:
        assert found["weights"] == expected["weights"]


def make_record(path: Path, runs: Mapping[str, Run], wanted: Sequence[str] = ()) -> None:
    """Run the wanted trainings, or all, and write what they come to into the record."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as place:
        put_on_record(path, {name: result(runs[name](Path(place))) for name in wanted or runs})
