"""A card or a description with one odd value is opened or refused in a sentence, never a traceback."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from odd_values import ODD, changed, places
from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec, read_card, read_plain
from segpref.types import LabelSpace, SegprefError

UNET = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
}


def card() -> Any:
    space = LabelSpace("multi-class", ("background", "heart"))
    network = NetworkSpec("monai.networks.nets.UNet", UNET)
    return json.loads(ModelCard(network, space, Preparation(window=(0.0, 1.0))).to_json())


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_one_odd_value_in_a_card(tmp_path: Path, odd: Any) -> None:
    path = tmp_path / "model.safetensors"
    for place in places(card()):
        save_file({"a": torch.zeros(1)}, path, {"card": json.dumps(changed(card(), place, odd))})
        with contextlib.suppress(SegprefError):
            read_card(path)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_one_odd_value_in_a_description(tmp_path: Path, odd: Any) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "unet.pt")
    whole = {
        "weights": "unet.pt",
        "network": {"class_path": "monai.networks.nets.UNet", "init_args": UNET},
        "label_space": {"kind": "multi-class", "names": ["a", "b"], "regions": {"all": [1]}},
        "preparation": {"dims": 2, "size": [16, 16]},
        "channels": ["MR"],
        "labelled": ["p"],
        "tail": ["model.0"],
    }
    for place in places(whole):
        (tmp_path / "model.yaml").write_text(yaml.safe_dump(changed(whole, place, odd)))
        with contextlib.suppress(SegprefError):
            read_plain(tmp_path / "model.yaml")
