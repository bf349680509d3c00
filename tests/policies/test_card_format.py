"""Model files of earlier versions stay readable; those of later ones say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segpref import ModelCard, NetworkSpec, PolicySpec, SegprefError, load_model, save_model
from segpref.data import Preparation
from segpref.policies import FORMAT, current
from segpref.types import LabelSpace

UNET = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}


def card(policy: PolicySpec | None = None) -> ModelCard:
    return ModelCard(
        NetworkSpec("monai.networks.nets.UNet", UNET),
        LabelSpace("multi-class", ("background", "a")),
        Preparation(dims=2, size=(16, 16)),
        policy=policy or PolicySpec(),
    )


def test_a_card_says_its_format_and_comes_back(tmp_path: Path) -> None:
    written = json.loads(card().to_json())
    assert written["format"] == FORMAT
    assert ModelCard.from_json(json.dumps(written)) == card()
    save_model(tmp_path / "model.safetensors", card().network.build(), card())
    assert load_model(tmp_path / "model.safetensors")[1] == card()


def test_cards_of_earlier_versions() -> None:
    old = json.loads(card(PolicySpec(init_args={"tail": ["model.2"]})).to_json())
    del old["format"]
    assert ModelCard.from_json(json.dumps(old)).policy.init_args == {"tail": ["model.2"]}
    # The oldest have a tail in place of a policy.
    del old["policy"]
    old["tail"] = ["model.2"]
    assert ModelCard.from_json(json.dumps(old)).policy.init_args == {"tail": ["model.2"]}


def test_classes_that_have_moved_are_found_where_they_are() -> None:
    inner = {"class_path": "segpref.prompts.OpenClip", "init_args": {"name": "a"}}
    policy = {"class_path": "segpref.policies.Segmenter", "init_args": {"list": [inner]}}
    now = current({"policy": policy}, "a file")["policy"]
    assert now["init_args"]["list"][0]["class_path"] == "segpref.contrib.prompts.OpenClip"
    assert now["init_args"]["list"][0]["init_args"] == {"name": "a"}
    assert current({"policy": policy, "format": FORMAT}, "a file")["policy"] == policy


def test_a_card_of_a_later_version_is_refused() -> None:
    later = {**json.loads(card().to_json()), "format": FORMAT + 1}
    with pytest.raises(SegprefError, match=r"a later version of segpref.*update segpref"):
        ModelCard.from_json(json.dumps(later), "model.safetensors")
