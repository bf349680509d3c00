"""A card or a description with one odd value is opened or refused in a sentence, never a traceback."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec, read_card
from segpref.policies.plain import read_plain
from segpref.types import LabelSpace, SegprefError

UNET = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
}
ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, "", "a", "os.system", "../x"),
    *([], [1], ["a"], [[1]], [None], {}, {"a": 1}, {"class_path": 1, "init_args": 2}),
]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, part in value.items() if isinstance(value, dict) else ():
        yield from places(part, (*above, name))


def changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return odd
    content = copy.deepcopy(value)
    part = content
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = odd
    return content


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
