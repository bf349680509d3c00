"""`segpref export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.inference.deploy import export_network
from segpref.policies import load_model
from segpref.progress import stdout
from segpref.types import SegprefError

__all__ = ["export"]


def export(
    model: Path,
    out: Path,
    settings: dict[str, Any],
    size: tuple[int, ...] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Write a model's network as TorchScript or ONNX, checked against the network itself.

    Input are images prepared as the model card says, which goes into the file; output are logits.

    Args:
        model: file or run folder.
        out: file to write, ending in .ts (TorchScript) or .onnx.
        settings: the resolved options.
        size: voxels of an example; of the model's own preparation if left out.
        tolerance: largest difference of a logit that is taken for equal.
    """
    policy, card = load_model(model)
    shape = size or card.preparation.size or card.preparation.crop
    if shape is None:
        raise SegprefError(f"{model} takes images of any size: give --size of an example")
    made = export_network(policy, card, out, shape, tolerance)
    free = " and ".join(made.dynamic) or "nothing"
    stdout.print(
        f"{made.path}: {made.format}, logits within {made.difference:.1g} of the network's; {free} may "
        "differ from the example's shape",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
