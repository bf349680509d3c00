"""`segpref export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.inference.deploy import export_network
from segpref.policies.opening import open_model
from segpref.progress import stdout
from segpref.targets import check_outputs
from segpref.types import SegprefError
from segpref.workflows.options import ModelOptions

__all__ = ["export"]


def export(
    model: Path,
    out: Path,
    settings: dict[str, Any],
    opening: ModelOptions,
    size: tuple[int, ...] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Write a model's network as TorchScript or ONNX, checked against the network itself.

    Input are images prepared as the model card says, which goes into the file; output are logits.

    Args:
        model: segpref's file or run folder, one fold of a trained nnU-Net, a MONAI bundle, or a .yaml
            that describes plain weights.
        out: file to write, ending in .ts (TorchScript) or .onnx.
        settings: the resolved options.
        opening: what may be opened.
        size: voxels of an example; of the model's own preparation if left out.
        tolerance: largest difference of a logit that is taken for equal.

    """
    check_outputs(files=[out.expanduser()])
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
