from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec, PolicySpec, load_model, read_card, save_model
from segpref.types import LabelSpace, Region, SegprefError

SPACE = LabelSpace("multi-class", ("background", "a", "b"), (Region("whole", (1, 2)),))


@pytest.fixture
def card(tiny_unet: Callable[..., NetworkSpec]) -> ModelCard:
    return ModelCard(
        network=tiny_unet(3),
        label_space=SPACE,
        preparation=Preparation(2, (1.0, 2.0), (30, 20), (32, 32), "percentile", (-5.0, 9.0)),
        channels=("T1",),
        labelled=("p1", "p2"),
        policy=PolicySpec(init_args={"tail": ["model.2"]}),
    )


@pytest.fixture
def saved(card: ModelCard, tmp_path: Path) -> Path:
    path = tmp_path / "run" / "best.safetensors"
    save_model(path, card.network.build(), card)
    return path


def test_a_model_comes_back_with_its_card(card: ModelCard, tmp_path: Path) -> None:
    network = card.network.build()
    save_model(tmp_path / "best.safetensors", network, card)
    for path in (tmp_path, tmp_path / "best.safetensors", str(tmp_path)):
        model, loaded = load_model(path)  # type: ignore[arg-type]
        assert loaded == read_card(Path(path)) == card
        assert model.label_space == SPACE
        for name, value in network.state_dict().items():
            assert torch.equal(model.network.state_dict()[name], value)
    assert not model.network.training


@pytest.mark.parametrize("policy", [PolicySpec(), PolicySpec("own.Policy", {"a": [1, "b"]})])
@pytest.mark.parametrize(
    "space", [SPACE, LabelSpace("multi-label", ("lungs",)), LabelSpace("multi-class", ("b", "ü"))]
)
def test_cards_round_trip(card: ModelCard, space: LabelSpace, policy: PolicySpec) -> None:
    from dataclasses import replace

    one = replace(card, label_space=space, policy=policy)
    assert ModelCard.from_json(one.to_json(), trust=True) == one


def test_none_becomes_the_channels_of_the_data() -> None:
    spec = NetworkSpec("x.Y", {"in_channels": None, "out_channels": 5, "dropout": None})
    assert spec.for_data(3, 4).arguments == {"in_channels": 3, "out_channels": 5, "dropout": None}


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    for use in (read_card, load_model):
        with pytest.raises(SegprefError, match="not a complete safetensors file") as caught:
            use(saved)
        assert str(saved) in str(caught.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"card": "{"}, {"card": "[]"}])
def test_somebody_elses_safetensors(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(
        SegprefError, match=r"does not say of which model|card in .* is not valid JSON"
    ) as caught:
        read_card(path)
    assert str(path) in str(caught.value)


def test_there_is_no_model(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "best.safetensors"):
        with pytest.raises(SegprefError, match="there is no model at"):
            load_model(path)


class Explodes:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize("name", ["best.safetensors", "model.pt", "model.pth"])
def test_nothing_is_ever_unpickled(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Explodes()))
    with pytest.raises(SegprefError):
        load_model(path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(SegprefError):
        load_model(path)


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("no.such.place.Net", {}, "can't be imported"),
        ("monai.networks.nets.NoNet", {}, "can't be imported"),
        ("Net", {}, "can't be imported"),
        ("", {}, "can't be imported"),
        ("pathlib.Path", {}, "is not a torch.nn.Module"),
        ("os.system", {"command": "true"}, "is not a torch.nn.Module"),
        ("monai.networks.nets.UNet", {"depth": 3}, "can't be made with"),
        ("monai.networks.nets.UNet", {"plans": {"stages": ["3 x 3"] * 999}}, r"\.\.\.: "),
        (
            "monai.networks.nets.UNet",
            {
                "spatial_dims": 5,
                "in_channels": 1,
                "out_channels": 2,
                "channels": [4, 8],
                "strides": [2],
            },
            "can't be made with",
        ),
    ],
)
def test_networks_that_cannot_be_made(module: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SegprefError, match=said) as caught:
        NetworkSpec(module, arguments).build()
    assert module in str(caught.value)


def test_weights_of_another_network(
    saved: Path, card: ModelCard, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    from dataclasses import replace

    other = replace(card, network=tiny_unet(3, (8, 16)))
    path = tmp_path / "mixed.safetensors"
    save_file(load_file(saved), path, {"card": other.to_json()})
    with pytest.raises(SegprefError, match="do not fit") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_shared_and_strided_weights_are_saved(tmp_path: Path, card: ModelCard) -> None:
    network = card.network.build()
    weight = next(network.parameters())
    weight.data = weight.data.transpose(-1, -2)
    assert not weight.is_contiguous()
    save_model(tmp_path / "best.safetensors", network, card)
    assert torch.equal(next(load_model(tmp_path)[0].network.parameters()), weight)
