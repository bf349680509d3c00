"""The lists say what is there, and nothing on them downloads; what users name themselves works."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import monai.networks.blocks
import monai.networks.layers
import monai.networks.nets
import numpy as np
import pytest
import torch
import yaml
from gadgets import CARD, PLANS, UNET, nnunet
from PIL import Image

import own_process
from segpref.policies import NetworkSpec, PolicySpec, load_model, save_model
from segpref.trust import allow_names, allowed, check, check_network, check_policy, vouch
from segpref.trust import check_transformers_config as check_config
from segpref.types import SegprefError

PACKAGES = {
    "nets": monai.networks.nets,
    "blocks": monai.networks.blocks,
    "layers": monai.networks.layers,
}


def monai_class(package: str, name: str) -> Any:
    there = PACKAGES[package]
    modules = [there] + [
        importlib.import_module(f"{there.__name__}.{info.name}")
        for info in pkgutil.iter_modules(there.__path__)
        if not hasattr(there, name)
    ]
    return next((getattr(one, name) for one in modules if hasattr(one, name)), None)


@pytest.mark.parametrize(
    ("package", "name"), [(p, name) for p in allowed.MONAI for name in sorted(allowed.MONAI[p])]
)
def test_listed_networks_are_monais_and_download_nothing(package: str, name: str) -> None:
    found = monai_class(package, name)
    assert issubclass(found, torch.nn.Module)
    assert found.__module__.startswith("monai.")
    default = inspect.signature(found).parameters.get("pretrained")
    if default is not None and default.default is not False:
        with pytest.raises(SegprefError, match=r"would be downloaded"):
            check_network(f"monai.networks.{package}.{name}", {}, "x")
    check_network(f"monai.networks.{package}.{name}", {"pretrained": False}, "x")


def test_listed_layers_are_torchs() -> None:
    assert all(issubclass(getattr(torch.nn, name), torch.nn.Module) for name in allowed.LAYERS)
    check_network("torch.nn.modules.conv.Conv2d", {"in_channels": 1, "out_channels": 2}, "x")


@pytest.mark.parametrize("lists", [allowed.NETWORKS, allowed.POLICIES, allowed.PARTS])
def test_listed_settings_are_those_of_the_classes(lists: Any) -> None:
    for package, classes in lists.items():
        for name, settings in classes.items():
            found = getattr(importlib.import_module(package), name)
            known = set(inspect.signature(found).parameters)
            listed = {*settings.plain, *settings.parts, *settings.records, *settings.checkpoints}
            assert listed <= known, name


def test_what_segpref_writes_is_opened() -> None:
    check_network("monai.networks.nets.UNet", {**UNET, "act": ["prelu", {"init": 0.2}]}, "x")
    check_network("monai.networks.nets.unet.UNet", UNET, "x")
    arguments = nnunet()
    check_network("segpref.policies.nnunet.NnUNetNetwork", arguments, "x")
    clip = {"class_path": "segpref.prompts.TransformersClip", "init_args": {"name": "/some/clip"}}
    parts = {"clip": clip, "targets": [{"text": "a", "components": 2}], "use_box": False}
    parts["descriptions"] = {"class_path": "segpref.prompts.Descriptions"}
    saliency = {"class_path": "segpref.prompts.SaliencyPrompts", "init_args": parts}
    kept = {"class_path": "segpref.prompts.KeptPrompts", "init_args": {"prompter": saliency}}
    check_policy("segpref.policies.promptable.PromptablePolicy", {"prompter": kept}, "x")
    check_policy("segpref.policies.Segmenter", {"tail": ["a.b"]}, "x")
    assert check.stays_local("/some/clip")


@pytest.mark.parametrize("changes", PLANS)
def test_plans_name_what_nnunet_ships(changes: dict[str, Any]) -> None:
    with pytest.raises(SegprefError, match=r"--trust|copy them again"):
        check_network("segpref.policies.nnunet.NnUNetNetwork", nnunet(**changes), "plans.json")


def test_configurations_of_known_models_pass() -> None:
    transformers = pytest.importorskip("transformers")
    for kind in ("SamConfig", "Sam2Config"):
        check_config(getattr(transformers, kind)().to_dict(), "x", check._SAM)
    for kind in (
        "BertConfig",
        "CLIPConfig",
        "T5Config",
        "RobertaConfig",
        "SiglipConfig",
        "BlipConfig",
    ):
        check_config(getattr(transformers, kind)().to_dict(), "x")


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_checkpoint_that_brings_kernels_or_adapters(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    from segpref.prompts import pretrained

    transformers.BertConfig(hidden_size=16).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["_attn_implementation"] = "gadget/kernel"
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(SegprefError, match="from elsewhere"):
        pretrained(transformers.AutoModel, tmp_path, "a model")


def test_what_this_process_was_told_to_build_is_opened_again(tmp_path: Path) -> None:
    network = NetworkSpec("gadgets_of_mine.Net", {"a": (1, 2)})
    with pytest.raises(SegprefError, match="--trust"):
        check_network(network.module, network.arguments, "x")
    vouch(network.module, network.arguments)
    check_network(network.module, {"a": [1, 2]}, "x")
    with pytest.raises(SegprefError, match="--trust"):
        check_network(network.module, {"a": [1, 3]}, "x")
    allow_names({"bases": {"one": {"network": {"module": "from_a_recipe.Net", "arguments": {}}}}})
    check_network("from_a_recipe.Net", {"anything": 1}, "x")
    allow_names({"network": {"module": "monai.networks.nets.AHNet", "arguments": {}}})
    with pytest.raises(SegprefError, match="--trust"):
        check_network("monai.networks.nets.AHNet", {"pretrained": True}, "x")


OWN = """
import torch


class Net(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.layer = torch.nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, images):
        return self.layer(images)
"""


def segpref(*arguments: object, place: Path) -> own_process.Ended:
    """A command in a process that was told nothing before, with modules of the user's in its path."""
    cache = {"SEGPREF_CACHE": str(place / "cache")}
    return own_process.ended(_command, place, *map(str, arguments), environment=cache)


def _command(place: Path, *arguments: str) -> int:
    from segpref.cli.main import main

    sys.path.append(str(place))
    return main(arguments)


@pytest.mark.slow
def test_a_class_that_the_user_types_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    data = tmp_path / "data"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(np.eye(16, dtype=np.uint8)).save(data / folder / f"p{number}.png")
    arguments = json.dumps({"in_channels": None, "out_channels": None})
    fitted = segpref(
        *("fit", "--data", data, "--out", tmp_path / "base", "--epochs", 1),
        *("--network.module", "mine.Net", "--network.arguments", arguments),
        *("--preparation.size", "[16, 16]", "--labelled", 2),
        place=tmp_path,
    )
    assert fitted.returncode == 0, fitted.stderr
    predict = ("predict", "--model", tmp_path / "base", "--input", data / "images", "--output")
    refused = segpref(*predict, tmp_path / "none", place=tmp_path)
    assert refused.returncode == 1
    assert "names the class mine.Net" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert segpref(*predict, tmp_path / "some", "--trust", place=tmp_path).returncode == 0
    aligned = segpref(
        *("align", "--data", data, "--model", tmp_path / "base", "--judge", "oracle", "--trust"),
        *("--out", tmp_path / "run", "--epochs", 1),
        place=tmp_path,
    )
    assert aligned.returncode == 0, aligned.stderr


def test_plain_weights_of_a_class_from_elsewhere(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "from_elsewhere.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    from segpref.policies import open_model

    description = {
        "weights": "net.pt",
        "network": {
            "class_path": "from_elsewhere.Net",
            "init_args": {"in_channels": 1, "out_channels": 2},
        },
        "label_space": {"kind": "multi-class", "names": ["background", "heart"]},
        "preparation": {"dims": 2, "size": [16, 16]},
    }
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(description))
    layer = torch.nn.Conv2d(1, 2, 3).state_dict()
    torch.save({f"layer.{name}": value for name, value in layer.items()}, tmp_path / "net.pt")
    with pytest.raises(SegprefError, match=r"model\.yaml names the class from_elsewhere\.Net"):
        open_model(tmp_path / "model.yaml")
    assert "from_elsewhere" not in sys.modules
    (policy,) = open_model(tmp_path / "model.yaml", trust=True).policies()
    assert type(policy.network).__name__ == "Net"
    save_model(tmp_path / "best.safetensors", policy.network, CARD)


def test_a_policy_from_elsewhere(tmp_path: Path) -> None:
    card = json.loads(CARD.to_json())
    card["policy"] = {"class_path": "some.where.Policy", "init_args": {}}
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file(CARD.network.build().state_dict(), path, {"card": json.dumps(card)})
    with pytest.raises(
        SegprefError, match=r"model\.safetensors names the class some\.where\.Policy"
    ):
        load_model(path)
    with pytest.raises(SegprefError, match="can't be imported"):
        load_model(path, trust=True)
    assert PolicySpec().class_path == "segpref.policies.Segmenter"
