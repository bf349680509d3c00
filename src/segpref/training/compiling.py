"""Whether a network can be compiled for a training (``torch.compile``), found out before any work."""

from __future__ import annotations

from segpref.data.prepared import ImagePreparation
from segpref.networks import check_compiler
from segpref.policies import PolicySpec, Segmenter
from segpref.policies.tunable import imported
from segpref.runtime import gpus
from segpref.training.config import TrainingConfig
from segpref.types import SegprefError

__all__ = ["check_compiled"]


def check_compiled(
    config: TrainingConfig,
    preparation: ImagePreparation | None = None,
    policy: PolicySpec | None = None,
) -> None:
    """Refuse to compile what can't be, where that is asked for.

    Args:
        config: of the training.
        preparation: of the images, which must give the network one size; None where it is not known
            yet.
        policy: what the network becomes; its class says by ``compiles`` that the network maps images
            alone to logits. None where it is not known yet.

    Raises:
        SegprefError: another kind of model, images of many sizes, or no compiler.
    """
    if not config.compile:
        return
    kind = Segmenter if policy is None else imported(policy.class_path)
    if not getattr(kind, "compiles", False):
        raise SegprefError(
            f"compile is for segmenters, whose networks take an image alone, not for "
            f"{kind.__name__}: leave it out"
        )
    fixed = preparation is None or preparation.patch or preparation.size or preparation.crop
    if not fixed:
        raise SegprefError(
            "compile is for images of one size, for the network would be compiled again for each of "
            "many: give the preparation a size, crop or patch, or leave compile out"
        )
    check_compiler(gpu=gpus() > 0)
