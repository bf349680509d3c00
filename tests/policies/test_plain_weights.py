from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.networks.nets import UNet
from safetensors import safe_open
from safetensors.torch import save_file

from segpref.policies import read_plain, write_plain
from segpref.types import Region, SegprefError

DESCRIPTION: dict[str, Any] = {
    "weights": "unet.pt",
    "network": {
        "class_path": "monai.networks.nets.UNet",
        "init_args": {
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 3,
            "channels": [4, 8],
            "strides": [2],
        },
    },
    "label_space": {
        "kind": "multi-class",
        "names": ["background", "a", "b"],
        "regions": {"whole": [1, 2]},
    },
    "preparation": {"dims": 2, "size": [16, 16], "normalise": "z-score"},
    "channels": ["T2"],
    "labelled": ["p1"],
}


def network() -> UNet:
    torch.manual_seed(1)
    return UNet(2, 1, 3, (4, 8), (2,))


def write(folder: Path, content: Any, name: str = "unet.pt", **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".safetensors"):
        save_file(content, folder / name, {"note": "kept"})
    else:
        torch.save(content, folder / name)
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({**DESCRIPTION, "weights": name, **changes}))
    return path


FORMS = {
    "whole file": lambda weights: weights,
    "in a checkpoint": lambda weights: {"epoch": 3, "state_dict": weights},
    "under a name of its own": lambda weights: {"ema": weights, "state_dict": weights | {"x": 1}},
    "wrapped": lambda weights: {f"module.{name}": value for name, value in weights.items()},
}


@pytest.mark.parametrize("form", [*FORMS, "safetensors"])
def test_weights_come_in_and_go_out_in_their_own_format(tmp_path: Path, form: str) -> None:
    weights = network().state_dict()
    if form == "safetensors":
        path = write(tmp_path / "in", weights, "unet.safetensors")
    else:
        keys = {"key": "ema"} if form == "under a name of its own" else {}
        path = write(tmp_path / "in", FORMS[form](weights), **keys)
    model = read_plain(path)
    assert model.card.label_space.regions == (Region("whole", (1, 2)),)
    assert model.card.preparation.size == (16, 16)
    assert model.card.channels == ("T2",)
    assert model.card.labelled == ("p1",)
    policy = model.policy()
    for name, value in policy.network.state_dict().items():
        assert torch.equal(value, weights[name])

    with torch.no_grad():
        for value in policy.network.parameters():
            value *= 2
    out = write_plain(model, policy.network, tmp_path / "out")
    again = read_plain(out)
    assert again.card == model.card
    assert again.file.key == model.file.key
    assert again.file.prefix == model.file.prefix == ("module." if form == "wrapped" else "")
    for name, value in again.policy().network.state_dict().items():
        assert torch.equal(value, policy.network.state_dict()[name])
        if value.dtype.is_floating_point and "bias" not in name:
            assert torch.equal(value, 2 * weights[name])
    if form == "in a checkpoint":
        assert torch.load(tmp_path / "out" / "unet.pt", weights_only=True)["epoch"] == 3
    if form == "safetensors":
        with safe_open(tmp_path / "out" / "unet.safetensors", framework="pt") as file:
            assert file.metadata() == {"note": "kept"}
    with pytest.raises(SegprefError, match="there already"):
        write_plain(model, policy.network, tmp_path / "in")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Malice:
        def __reduce__(self) -> Any:
            return Path.touch, (mark,)

    path = write(tmp_path / "in", {"state_dict": network().state_dict(), "more": Malice()})
    with pytest.raises(SegprefError, match=r"unet\.pt is damaged, or holds more than weights"):
        read_plain(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "changes", "match"),
    [
        ({"epoch": 3}, {}, r"holds no weights: name the key .* epoch"),
        (None, {"key": "ema"}, "holds no weights under 'ema'"),
        (None, {"networks": 1}, "unknown setting 'networks'"),
        (None, {"label_space": {"kind": "multi-class"}}, "in a way that is not known"),
        (None, {"preparation": {"dimensions": 2}}, "in a way that is not known"),
        (None, {"preparation": {"dims": 2, "size": [16]}}, "size needs 2 positive numbers"),
    ],
)
def test_mistakes(tmp_path: Path, content: Any, changes: dict[str, Any], match: str) -> None:
    path = write(tmp_path / "in", content or network().state_dict(), **changes)
    with pytest.raises(SegprefError, match=match):
        read_plain(path)


def test_weights_of_another_network(tmp_path: Path) -> None:
    model = read_plain(write(tmp_path / "in", UNet(2, 1, 3, (4, 16), (2,)).state_dict()))
    with pytest.raises(SegprefError, match=r"unet\.pt do not fit UNet \(.*size mismatch"):
        model.policy()


@pytest.mark.parametrize("lacking", ["weights", "network", "label_space", "preparation"])
def test_what_a_description_needs(tmp_path: Path, lacking: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in DESCRIPTION.items() if k != lacking}))
    with pytest.raises(SegprefError, match=f"add {lacking}"):
        read_plain(path)


@pytest.mark.parametrize(("text", "match"), [("[1]", "add weights"), ("{", "is not valid YAML")])
def test_no_description(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(SegprefError, match=match):
        read_plain(path)


@pytest.mark.parametrize("name", ["unet.pt", "unet.safetensors"])
@pytest.mark.parametrize("keep", [0, 100, None])
def test_damaged_and_missing_weights(tmp_path: Path, name: str, keep: int | None) -> None:
    path = write(tmp_path / "in", network().state_dict(), name)
    file = tmp_path / "in" / name
    if keep is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(SegprefError, match=r"unet\.(pt|safetensors)") as caught:
        read_plain(path)
    assert "\n" not in str(caught.value)
