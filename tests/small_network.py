"""A network of a few hundred weights, as the option of a command."""

from __future__ import annotations

import json
from typing import Any


def network_option(**changes: Any) -> str:
    """What ``--network`` takes."""
    arguments = {
        "spatial_dims": 2,
        "in_channels": None,
        "out_channels": None,
        "channels": [4, 8],
        "strides": [2],
        **changes,
    }
    return json.dumps({"module": "monai.networks.nets.UNet", "arguments": arguments})
