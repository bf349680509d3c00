"""A MONAI bundle of a small U-Net with random weights."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import torch

CHANNELS = {"0": "background", "1": "liver", "2": "tumour"}
UNET = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": "@inputs",
    "out_channels": 3,
    "channels": "@widths",
    "strides": [2],
    "num_res_units": 1,
}
CONFIG = {
    "imports": ["$import torch"],
    "bundle_root": ".",
    "inputs": 1,
    "widths": [4, 8],
    "device": "$torch.device('cpu')",
    "network_def": UNET,
    "network": "$@network_def.to(@device)",
    "weights": "$@bundle_root + '/models/model.pt'",
    "output": "$@bundle_root + '/logits.pt'",
    "image": "$torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)",
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16], "overlap": 0.25},
    "initialize": [
        "$@network.load_state_dict(torch.load(@weights, weights_only=True))",
        "$@network.eval()",
    ],
    "run": ["$torch.save(@inferer(@image, @network).detach(), @output)"],
}
METADATA = {
    "version": "0.4.9",
    "changelog": {"0.4.9": "first"},
    "monai_version": "1.5.0",
    "name": "made",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "channel_def": {"0": "CT"}}},
        "outputs": {"pred": {"num_channels": 3, "channel_def": CHANNELS}},
    },
}


def write(root: Path, config: dict[str, Any] | None = None, content: Any = None) -> Path:
    """A bundle of a U-Net with random weights."""
    from monai.networks.nets import UNet

    for folder in ("configs", "models", "docs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    (root / "configs" / "inference.json").write_text(json.dumps(config or CONFIG))
    (root / "LICENSE").write_text("ours")
    (root / "models" / "model.ts").write_bytes(b"of the old weights")
    torch.manual_seed(3)
    network = UNet(2, 1, 3, (4, 8), (2,), num_res_units=1)
    torch.save(content or network.state_dict(), root / "models" / "model.pt")
    return root


def run_bundle(*options: str) -> None:
    """``python -m monai.bundle run``, in a process of its own."""
    sys.argv[1:] = ["run", *options]
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
