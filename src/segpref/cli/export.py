"""`segpref export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.inference.network_export import export_network
from segpref.policies.model_formats import open_model
from segpref.progress import stdout
from segpref.targets import check_outputs
from segpref.types import SegprefError
from segpref.workflows.options import ModelOptions

__all__ = ["EXAMPLES", "export"]

EXAMPLES = """\
  segpref export --model runs/rn-dpo --out model.onnx
  segpref export --model runs/rn-dpo --out model.ts
  segpref export --model runs/base-3d --out model.onnx --size "[96, 96, 96]"
"""


def export(
    model: Path,
    out: Path,
    settings: dict[str, Any],
    opening: ModelOptions,
    size: tuple[int, ...] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Write a model's network as TorchScript or ONNX, checked against the original.

    Inputs are images prepared as the model card says, which is stored in the file; outputs are logits.

    Args:
        model: model file or run folder of segpref, fold of a trained nnU-Net, MONAI bundle, or .yaml
            that describes plain weights.
        out: file to write, ending in .ts (TorchScript) or .onnx.
        settings: the resolved options.
        opening: what may be opened.
        size: voxels of an example input; that of the model's preparation if left out.
        tolerance: largest accepted difference of a logit.

    """
    check_outputs(files=[out.expanduser()], read=[model])
    opened = open_model(model, trust=opening.trust, preparation=opening.preparation)
    if len(opened.members) > 1:
        raise SegprefError(
            f"{model} holds {len(opened.members)} networks: name one of them, such as "
            f"{model / next(iter(opened.members))}"
        )
    (policy,), card = opened.policies(), opened.card
    input = card.preparation
    shape = size or input.size or input.crop or input.patch
    if shape is None:
        raise SegprefError(f"{model} takes images of any size: give --size of an example")
    made = export_network(policy, card, out, shape, tolerance)
    free = " and ".join(made.dynamic) or "nothing"
    stdout.print(
        f"{made.path}: {made.format}, logits within {made.difference:.1g} of the network's; {free} may "
        "differ from the example's shape",
        highlight=False,
        soft_wrap=True,
    )
