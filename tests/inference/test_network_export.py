from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segpref.data import Preparation
from segpref.inference import export_network
from segpref.policies import ModelCard, NetworkSpec, Segmenter
from segpref.types import LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "a", "b"))
UNET = NetworkSpec(
    "monai.networks.nets.UNet",
    {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [4, 8],
        "strides": [2],
        "dropout": 0.1,
    },
)
VNET = NetworkSpec(
    "monai.networks.nets.SegResNet",
    {"spatial_dims": 3, "init_filters": 8, "in_channels": 1, "out_channels": 3},
)


def made(spec: NetworkSpec, dims: int = 2) -> tuple[Segmenter, ModelCard]:
    torch.manual_seed(0)
    card = ModelCard(spec, SPACE, Preparation(dims=dims))  # type: ignore[arg-type]
    return Segmenter(spec.build(), SPACE), card


class Positional(nn.Module):
    """Adds a map of fixed size, as many transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Parameter(torch.randn(1, 3, 16, 16))
        self.head = nn.Conv2d(1, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image) + self.where


class BySize(nn.Module):
    """Right at every size, but its trace keeps the number of rows that it was made with."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image) * float(image.shape[2])


class ByBatch(nn.Module):
    """Treats two images unlike any other number."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image) * (1.0 if len(image) == 2 else -1.0)


class Grows(nn.Module):
    """Can't be traced at all."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 3, 1)

    def forward(self, image: Tensor) -> Any:
        return {"answer": 42, "logits": None}


@pytest.mark.parametrize("dims", [2, 3])
def test_torchscript_is_eager_in_every_shape(tmp_path: Path, dims: int) -> None:
    model, card = made(UNET if dims == 2 else VNET, dims)
    before = model.digest()
    told = export_network(model, card, tmp_path / "net.ts", (16,) * dims)
    assert told.dynamic == ("batch", "space")
    assert told.difference <= 1e-4
    files = {"card": ""}
    loaded = torch.jit.load(tmp_path / "net.ts", _extra_files=files)
    images = torch.randn(3, 1, *(24, 32, 16)[:dims])
    torch.testing.assert_close(loaded(images), model.logits(images), rtol=0, atol=1e-4)
    assert ModelCard.from_json(files["card"]) == card
    assert model.digest() == before
    assert not any(module.training for module in loaded.modules())


@pytest.mark.parametrize("dims", [2, 3])
def test_onnx_is_eager_in_every_shape(tmp_path: Path, dims: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model, card = made(UNET if dims == 2 else VNET, dims)
    told = export_network(model, card, tmp_path / "net.onnx", (16,) * dims)
    assert told.dynamic == ("batch", "space")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    images = torch.randn(3, 1, *(24, 32, 16)[:dims])
    (found,) = session.run(None, {"image": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model.logits(images), rtol=0, atol=1e-4)
    note = session.get_modelmeta().custom_metadata_map["card"]
    assert json.loads(note)["label_space"]["names"] == ["background", "a", "b"]


@pytest.mark.parametrize("network", [Positional, BySize])
def test_what_a_trace_does_not_take_is_refused_by_the_file(
    tmp_path: Path, network: type[nn.Module]
) -> None:
    _, card = made(UNET)
    model = Segmenter(network(), SPACE)
    told = export_network(model, card, tmp_path / "net.ts", (16, 16))
    assert told.dynamic == ("batch",)
    loaded = torch.jit.load(tmp_path / "net.ts")
    images = torch.randn(5, 1, 16, 16)
    torch.testing.assert_close(loaded(images), model.logits(images))
    with pytest.raises(torch.jit.Error, match="16, 16"):
        loaded(torch.randn(1, 1, 8, 16))


def test_onnx_of_one_size_says_so(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    _, card = made(UNET)
    told = export_network(Segmenter(BySize(), SPACE), card, tmp_path / "net.onnx", (16, 16))
    # The exporter keeps the number of rows as a part of the graph, so that it is right at every size.
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    shape = session.get_inputs()[0].shape
    assert ("space" in told.dynamic) == (shape[2:] != [16, 16])
    fixed = Segmenter(Positional(), SPACE)
    told = export_network(fixed, card, tmp_path / "fixed.onnx", (16, 16))
    assert told.dynamic == ("batch",)
    session = onnxruntime.InferenceSession(tmp_path / "fixed.onnx")
    assert session.get_inputs()[0].shape[1:] == [1, 16, 16]


@pytest.mark.parametrize("ending", [".ts", ".onnx"])
def test_what_can_not_be_traced(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("onnxruntime")
    _, card = made(UNET)
    path = tmp_path / f"net{ending}"
    with pytest.raises(SegprefError, match="Grows can't be exported"):
        export_network(Segmenter(Grows(), SPACE), card, path, (16, 16))
    assert not path.exists()


def test_a_branch_on_numbers_of_images_is_found(tmp_path: Path) -> None:
    _, card = made(UNET)
    model = Segmenter(ByBatch(), SPACE)
    told = export_network(model, card, tmp_path / "net.ts", (16, 16))
    assert "batch" not in told.dynamic
    loaded = torch.jit.load(tmp_path / "net.ts")
    with pytest.raises(torch.jit.Error, match="2 images at once"):
        loaded(torch.randn(1, 1, 16, 16))


def test_an_unknown_ending(tmp_path: Path) -> None:
    model, card = made(UNET)
    with pytest.raises(SegprefError, match=r"must end in \.ts"):
        export_network(model, card, tmp_path / "net.pb", (16, 16))
