"""Bundles that are not for segmentation are refused in one sentence; what is, is opened."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.zoo_bundles import tried
from made_bundle import CHANNELS, CONFIG, METADATA, UNET, write
from torch import nn

from segpref.networks import full_size
from segpref.policies import Segmenter, open_model, read_bundle
from segpref.types import LabelSpace, SegprefError

IMAGE = {"type": "image", "format": "magnitude", "num_channels": 1, "spatial_shape": [64, 64]}
LIVER = LabelSpace("multi-class", ("background", "liver", "tumour"))
OUTPUT = {
    "type": "image", "format": "segmentation", "num_channels": 3, "spatial_shape": [64, 64],
    "channel_def": CHANNELS,
}  # fmt: skip
TRANSFORMS = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True},
]
PREPARED = {**CONFIG, "preprocessing": {"_target_": "Compose", "transforms": TRANSFORMS}}


def bundle(
    root: Path,
    outputs: Any = None,
    task: str | None = None,
    inputs: Any = None,
    config: Any = None,
    **more: Any,
) -> Path:
    """A bundle with these metadata."""
    write(root, config or PREPARED)
    metadata = copy.deepcopy(METADATA)
    formats: dict[str, Any] = metadata["network_data_format"]  # type: ignore[assignment]
    if outputs is not None:
        formats["outputs"] = outputs
    if inputs is not None:
        formats["inputs"] = inputs
    metadata |= ({} if task is None else {"task": task}) | more
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return root


@pytest.mark.parametrize(
    ("outputs", "task", "inputs", "kind"),
    [
        ({"pred": {"type": "probabilities", "format": "classes", "spatial_shape": [1, 4]}}, "of eyes",
         None, "for classification"),
        ({"pred": {"type": "image", "format": "labels", "spatial_shape": [1, 4]}}, "Density",
         {"image": IMAGE}, "for classification"),
        ({"pred": {"type": "probability", "format": "classification"}}, "Tumour detection", None,
         "for classification"),
        ({"pred": {"type": "object", "format": "dict"}}, "Lung nodules", None, "for detection"),
        ({"pred": {"type": "tuples", "format": "points"}}, "Valves", None, "for landmarks"),
        ({"pred": {"type": "image", "format": "magnitude"}}, "Registration of hands", None,
         "for registration"),
        ({"pred": {"type": "image", "format": "magnitude"}}, "Hands", None,
         "with an output of the format 'image magnitude'"),
        ({"pred": {"type": "feature", "format": "image"}}, "BraTS",
         {"latent": {"type": "noise", "format": "image"}}, "for image generation"),
        # Where the output is not described, the task is all that tells.
        ({"pred": {"channel_def": {"0": "nodule"}}}, "CT lung nodule detection", None,
         "for detection"),
        ({}, "Image synthesis", None, "for image generation"),
        ({"cells": OUTPUT, "types": OUTPUT}, "Nuclei", None, "with several outputs, cells, types"),
    ],
)  # fmt: skip
def test_another_kind_is_refused(
    tmp_path: Path, outputs: Any, task: str, inputs: Any, kind: str
) -> None:
    root = bundle(tmp_path / "b", outputs, task, inputs)
    with pytest.raises(SegprefError) as refused:
        open_model(root, labelled=[])
    assert f"b is a MONAI bundle {kind} ({task}): segpref takes bundles for segm" in str(
        refused.value
    )


@pytest.mark.parametrize(
    ("outputs", "task", "inputs"),
    [
        ({"pred": OUTPUT}, "Detection of tumours", {"image": IMAGE}),
        ({"pred": {**OUTPUT, "format": "labels"}}, "Prostate", {"image": IMAGE}),
        ({"pred": {**OUTPUT, "format": "classes"}}, "Prostate", {"image": IMAGE}),
        ({"pred": {"channel_def": CHANNELS}}, "Livers", None),
        # By any name, as long as it is the only one.
        ({"masks": OUTPUT}, "Livers", {"scan": IMAGE}),
        ({"pred": OUTPUT, "features": {"type": "feature"}}, "Livers", None),
    ],
)
def test_segmentation_is_told_by_the_output(
    tmp_path: Path, outputs: Any, task: str, inputs: Any
) -> None:
    opened = open_model(bundle(tmp_path / "b", outputs, task, inputs), labelled=[])
    assert opened.card.label_space == LIVER


def test_metadata_of_a_generator_alone(tmp_path: Path) -> None:
    root = bundle(tmp_path / "b", task="CT image synthesis")
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    metadata["generator_data_format"] = metadata.pop("network_data_format")
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(SegprefError, match="for image generation"):
        read_bundle(root)


def test_a_network_that_is_shown_clicks(tmp_path: Path) -> None:
    clicks = [*TRANSFORMS, {"_target_": "AddClickSignalsd", "image": "image"}]
    config = {**CONFIG, "preprocessing": {"_target_": "Compose", "transforms": clicks}}
    with pytest.raises(SegprefError, match=r"annotation by clicks \(AddClickSignalsd\)"):
        read_bundle(bundle(tmp_path / "b", config=config))


@pytest.mark.parametrize(
    ("network", "match"),
    [
        (
            "$monai.networks.nets.UNet(2, 1, 3, (4, 8), (2,))",
            r"makes its network by code \(\$monai",
        ),
        ({**UNET, "act": {"_target_": "torch.nn.ReLU"}}, r"is given an object \(torch\.nn\.ReLU\)"),
        ({**UNET, "act": "@part"}, r"is given an object \(torch\.nn\.ReLU\).*folder of masks"),
    ],
)
def test_a_network_that_no_card_can_name(tmp_path: Path, network: Any, match: str) -> None:
    part = {"_target_": "torch.nn.ReLU"}
    config = {**PREPARED, "network_def": network, "network": None, "part": part}
    with pytest.raises(SegprefError, match=match):
        read_bundle(write(tmp_path / "b", config), trust=True)


def test_arguments_that_monai_has_removed_are_left_out(tmp_path: Path) -> None:
    swin = {
        "_target_": "SwinUNETR", "spatial_dims": 2, "img_size": 64, "in_channels": 1,
        "out_channels": 3, "feature_size": 12,
    }  # fmt: skip
    spec = read_bundle(write(tmp_path / "b", {**PREPARED, "network_def": swin})).network
    assert spec.arguments == {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 3,
        "feature_size": 12,
    }
    assert type(spec.build()).__name__ == "SwinUNETR"


def test_channels_are_numbered(tmp_path: Path) -> None:
    outputs = {"pred": {**OUTPUT, "channel_def": {"one": "liver"}}}
    with pytest.raises(SegprefError, match="keys are no numbers of channels"):
        read_bundle(bundle(tmp_path / "b", outputs))


def test_several_outputs() -> None:
    half, whole, other = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    assert full_size([whole, half]) is whole
    assert full_size((half, whole, other)) is whole
    assert full_size({"aux": half, "out": whole}) is whole
    assert full_size({"pred": [half, whole]}) is whole
    assert full_size([whole, torch.tensor(0.5)]) is whole
    assert full_size({"boxes": half}) == {"boxes": half}


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.linear(images.mean((2, 3)))
        return pooled


def test_a_classifier_is_told_by_its_output() -> None:
    with pytest.raises(SegprefError, match=r"output of shape \(2, 3\) .* as classifiers do"):
        Segmenter(Classifier(), LIVER).logits(torch.zeros(2, 1, 8, 8))


def test_the_table_of_a_folder_of_bundles(tmp_path: Path) -> None:
    found = {}
    for name, made in {
        "ours": {},
        "unsaid": {"config": CONFIG},
        "detector": {"outputs": {"pred": {"type": "object", "format": "dict"}}},
    }.items():
        root = bundle(tmp_path / name, inputs={"image": IMAGE}, **made)
        (root / "models" / "model.pt").unlink()
        found[name] = tried(root, tmp_path / "work")
    assert [row.bundle for row in found.values()] == list(found)
    assert [row.result for row in found.values()] == [
        "works",
        "works with --preparation",
        "refused",
    ]
    assert found["ours"].why == "UNet, 1 channels, multi-class of 3, tried on 32 x 32"
    assert found["unsaid"].why.endswith("window, ...)")
    assert found["detector"].why.startswith(
        "detector is a MONAI bundle for detection: segpref takes"
    )
    assert not list((tmp_path / "work").iterdir())
