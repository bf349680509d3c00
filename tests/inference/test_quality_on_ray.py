"""A quality report whose images are read and segmented by the workers of a Ray cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray_nodes
import torch

import own_process
from segpref.data import Preparation, open_dataset
from segpref.data.phantoms import write_phantoms
from segpref.policies import ModelCard, NetworkSpec, save_model

SIDES = (24, 24)


@pytest.mark.slow
def test_a_report_is_the_same_on_a_cluster(two_nodes: str, tmp_path: Path) -> None:
    data = write_phantoms(tmp_path / "data", "cardiac", SIDES, 6, seed=0, slices_per_patient=1)
    new = write_phantoms(tmp_path / "new", "cardiac", SIDES, 2, seed=1, slices_per_patient=1)
    space = open_dataset(data).label_space
    assert space is not None
    arguments = {
        "spatial_dims": 2, "in_channels": 1, "out_channels": space.channels, "channels": [4, 8],
        "strides": [2], "dropout": 0.2,
    }  # fmt: skip
    spec = NetworkSpec("monai.networks.nets.UNet", arguments)
    card = ModelCard(spec, space, Preparation(dims=2, size=SIDES), ("image",))
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_model(tmp_path / f"{seed}.safetensors", spec.build(), card)
    for name, pool in (("alone", []), ("pooled", ["--ray", two_nodes])):
        line = [
            "predict", "--model", tmp_path / "0.safetensors", "--input", new / "images",
            "--judge", tmp_path / "1.safetensors", "--validation", data, "--pictures", 1,
            "--reruns", 2, "--output", tmp_path / name / "masks", "--report",
            tmp_path / name / "report", "--cache", tmp_path / name / "cache",
        ]  # fmt: skip
        given = [*map(str, line), *pool]
        ended = own_process.ended(ray_nodes.commanded, given, environment=ray_nodes.IMPORTS)
        assert ended.returncode == 0, ended.stderr
    for file in ("quality.csv", "calibration.json"):
        alone, pooled = ((tmp_path / one / "report" / file) for one in ("alone", "pooled"))
        assert alone.read_bytes() == pooled.read_bytes()
