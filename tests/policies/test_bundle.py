from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from made_bundle import CONFIG, METADATA, UNET, run_bundle, write
from monai.bundle import run

import own_process
from segpref.data import Preparation
from segpref.policies import ModelCard, load_model, read_bundle, save_model, write_bundle
from segpref.types import LabelSpace, SegprefError


def changed(**parts: Any) -> dict[str, Any]:
    return {**CONFIG, **parts}


def test_a_bundle_is_read_without_running_its_code(tmp_path: Path) -> None:
    # Any import statement would be run if the parser were asked for the network.
    bundle = read_bundle(write(tmp_path / "b", changed(imports=["$import nothing_of_this_name"])))
    assert bundle.label_space == LabelSpace("multi-class", ("background", "liver", "tumour"))
    assert bundle.channels == ("CT",)
    assert bundle.patch(2) == (16, 16)
    assert bundle.network.arguments["channels"] == [4, 8]
    assert bundle.network.arguments["in_channels"] == 1
    stored = torch.load(tmp_path / "b" / "models" / "model.pt", weights_only=True)
    for name, value in bundle.policy().network.state_dict().items():
        assert torch.equal(value, stored[name])


@pytest.mark.parametrize("where", ["network_def", "widths"])
def test_expressions_need_trust(tmp_path: Path, where: str) -> None:
    mark = tmp_path / "mark"
    code = f"$__import__('pathlib').Path({str(mark)!r}).write_text('run') and [4, 8]"
    config = changed(widths=code)
    if where == "network_def":
        config = changed(network_def={**UNET, "channels": code})
    root = write(tmp_path / "b", config)
    with pytest.raises(SegprefError, match=r"made by code .* add --trust"):
        read_bundle(root)
    assert not mark.exists()
    assert read_bundle(root, trust=True).network.arguments["channels"] == [4, 8]
    assert mark.exists()


def test_a_class_of_the_bundle_itself(tmp_path: Path) -> None:
    root = write(tmp_path / "b", changed(network_def={**UNET, "_target_": "made_scripts.nets.Own"}))
    (root / "made_scripts").mkdir()
    (root / "made_scripts" / "__init__.py").touch()
    (root / "made_scripts" / "nets.py").write_text(
        "from monai.networks.nets import UNet\n\nclass Own(UNet): pass\n"
    )
    with pytest.raises(SegprefError, match=r"own \(made_scripts\.nets\.Own\).* add --trust"):
        read_bundle(root)
    policy = read_bundle(root, trust=True).policy()
    assert type(policy.network).__name__ == "Own"


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"network_def": {**UNET, "channels": "@missing"}}, "can't be resolved"),
        ({"network_def": {**UNET, "channels": "@widths", "strides": "@a"}, "a": "@a"}, "resolved"),
        ({"network_def": {"spatial_dims": 2}, "network": None}, "defines no network"),
    ],
)
def test_a_network_that_can_not_be_told(tmp_path: Path, parts: dict[str, Any], match: str) -> None:
    with pytest.raises(SegprefError, match=match):
        read_bundle(write(tmp_path / "b", changed(**parts)))


def test_a_target_that_is_no_network_is_not_called(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    config = changed(network_def={"_target_": "pathlib.Path.touch", "self": str(mark)})
    root = write(tmp_path / "b", config)
    with pytest.raises(SegprefError, match=r"names the class pathlib\.Path\.touch.* --trust"):
        read_bundle(root)
    with pytest.raises(SegprefError, match=r"can't be imported|no torch\.nn\.Module"):
        read_bundle(root, trust=True).policy()
    assert not mark.exists()


def test_pickled_objects_are_not_opened(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"model\.pt is damaged, or holds more than weights"):
        read_bundle(write(tmp_path / "b", content={"model": Path("x")}))


def test_structures_that_overlap(tmp_path: Path) -> None:
    root = write(tmp_path / "b")
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    outputs = metadata["network_data_format"]["outputs"]["pred"]
    outputs["channel_def"] = {"0": "core", "1": "whole", "2": "enhancing"}
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    space = LabelSpace("multi-label", ("core", "whole", "enhancing"))
    assert read_bundle(root).label_space == space
    del outputs["channel_def"]
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(SegprefError, match="what the outputs mean"):
        read_bundle(root)
    assert read_bundle(root, label_space=space).label_space == space


def test_through_a_model_file_and_back(tmp_path: Path) -> None:
    bundle = read_bundle(write(tmp_path / "b"))
    policy = bundle.policy()
    card = bundle.card(Preparation(dims=2, size=(16, 16)), ("p1",))
    save_model(tmp_path / "best.safetensors", policy.network, card)
    again, read = load_model(tmp_path / "best.safetensors")
    assert ModelCard.from_json(card.to_json()) == read
    images = torch.randn(1, 1, 16, 16)
    assert torch.equal(again.logits(images), policy.logits(images))


@pytest.mark.parametrize("nested", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_tuned_bundle_runs_and_gives_the_tuned_logits(tmp_path: Path, nested: bool) -> None:
    root = write(tmp_path / "b")
    if nested:
        weights = torch.load(root / "models" / "model.pt", weights_only=True)
        torch.save({"model": weights, "epoch": 7}, root / "models" / "model.pt")
        text = (root / "configs" / "inference.json").read_text()
        text = text.replace("weights_only=True)", "weights_only=True)['model']")
        (root / "configs" / "inference.json").write_text(text)
    bundle = read_bundle(root)
    policy = bundle.policy()
    with torch.no_grad():
        for value in policy.network.parameters():
            value += 0.1
    out = write_bundle(bundle, policy.network, tmp_path / "tuned")

    assert sorted(path.name for path in (out / "models").iterdir()) == ["model.pt"]
    assert (out / "LICENSE").read_text() == "ours"
    if nested:
        assert torch.load(out / "models" / "model.pt", weights_only=True)["epoch"] == 7
    metadata = json.loads((out / "configs" / "metadata.json").read_text())
    assert metadata["version"] == "0.4.10"
    assert list(metadata["changelog"]) == ["0.4.10", "0.4.9"]
    assert {**metadata, "version": 0, "changelog": 0} == {**METADATA, "version": 0, "changelog": 0}

    config, meta = out / "configs" / "inference.json", out / "configs" / "metadata.json"
    settings = {"config_file": str(config), "meta_file": str(meta), "bundle_root": str(out)}
    # The command needs the package fire, the function does not.
    if not nested and importlib.util.find_spec("fire"):
        options = [f"--{name}={value}" for name, value in settings.items()]
        done = own_process.ended(run_bundle, *options)
        assert done.returncode == 0, done.stderr[-2000:]
    else:
        run(**settings)  # type: ignore[arg-type]
    image = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    found = torch.load(out / "logits.pt", weights_only=True)
    torch.testing.assert_close(found, policy.logits(image), rtol=0, atol=1e-5)
    before = bundle.policy().logits(image)
    assert (found - before).abs().max() > 1e-2

    again = write_bundle(read_bundle(out), policy.network, tmp_path / "tuned twice")
    assert json.loads((again / "configs" / "metadata.json").read_text())["version"] == "0.4.11"
    with pytest.raises(SegprefError, match="there already"):
        write_bundle(bundle, policy.network, out)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"there is no .*metadata\.json"):
        read_bundle(tmp_path)
    root = write(tmp_path / "b")
    with pytest.raises(SegprefError, match=r"no configs/train\.json"):
        read_bundle(root, config="train")
    (root / "configs" / "inference.json").write_text("{")
    with pytest.raises(SegprefError, match=r"inference\.json can't be read"):
        read_bundle(root)
