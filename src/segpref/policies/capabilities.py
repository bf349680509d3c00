"""Optional capabilities of policies, with a default for classes that lack one of these methods.

Nobody outside this package asks what class a policy is of: with these protocols it is asked what it
can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from torch import nn

from segpref.data.prepared import ImagePreparation
from segpref.types import Case, Policy, Predictor

__all__ = [
    "AnySize",
    "CasePredictor",
    "KnowsItsImages",
    "KnowsItsWeights",
    "OwnPrediction",
    "OwnValidation",
    "PredictingPreparation",
    "own_prediction",
]


@runtime_checkable
class AnySize(Policy, Protocol):
    """A policy of images of any size, as long as its network can halve their sides.

    Images whose sides it can't halve are padded for it.
    """

    any_size: bool

    def stochastic_logits(
        self, images: Any, rate: float, seeds: Sequence[int], kind: Any = "element"
    ) -> Any:
        """As :class:`~segpref.proposals.StochasticPolicy` has it."""
        ...


@runtime_checkable
class KnowsItsImages(Protocol):
    """A policy with parts that take images of one preparation, such as a segmenter that prompts it."""

    def check_preparation(self, preparation: ImagePreparation) -> None:
        """Refuse a preparation that does not suit them; raises SegprefError."""
        ...


@runtime_checkable
class KnowsItsWeights(Protocol):
    """A policy that can tell whether all weights that learn take part in its logits.

    Of others it is supposed that not all do, which costs several processes some time.
    """

    def leaves_out(self, images: Any) -> bool:
        """Whether some have no part in the logits of images ``[B, channel, *space]``."""
        ...


@runtime_checkable
class OwnPrediction(Protocol):
    """A policy that predicts whole images in a way of its own.

    Otherwise windows slide over images where the preparation has a patch, and the others are padded
    or taken as they are.
    """

    def whole_images(
        self,
        preparation: ImagePreparation,
        others: Sequence[Any] = (),
        mirroring: Sequence[int] = (),
        overlap: float = 0.5,
    ) -> Policy:
        """What predicts whole prepared images; it sees the weights as they are when it is called.

        Args:
            preparation: of the images.
            others: further members of an ensemble.
            mirroring: axes over which the model's format mirrors images; none where empty.
            overlap: of neighbouring windows, as a share of the patch.
        """
        ...


@runtime_checkable
class PredictingPreparation(Protocol):
    """A preparation whose models predict whole images in the way of their own program (nnU-Net)."""

    def prediction(
        self, models: Sequence[Any], mirroring: Sequence[int] = (), overlap: float = 0.5
    ) -> Policy:
        """As :meth:`OwnPrediction.whole_images`, of all models at once."""
        ...


@runtime_checkable
class CasePredictor(Protocol):
    """What brings its masks to a case's own voxels by itself."""

    def mask(self, case: Case) -> UInt8[np.ndarray, "field *space"]:
        """The mask of a whole case as it is on disk."""
        ...


@runtime_checkable
class OwnValidation(Protocol):
    """A policy that is measured in a way of its own while it is trained.

    Otherwise it is the mean IoU of its masks of whole images.
    """

    network: nn.Module

    def validation(self, cases: Sequence[Case], whole: Predictor) -> Mapping[str, float]:
        """Figures of the weights as they are; the highest ``val_iou`` chooses the checkpoint.

        Within several processes each measures all cases.

        Args:
            cases: labelled; a :class:`~segpref.data.Dataset` in most trainings.
            whole: predicts whole prepared images with the same weights.
        """
        ...


def own_prediction(
    models: Sequence[Any],
    preparation: ImagePreparation,
    mirroring: Sequence[int] = (),
    overlap: float = 0.5,
) -> Policy | None:
    """What predicts whole images, where the policy or its program has a way of its own; else None."""
    first = models[0]
    if isinstance(first, OwnPrediction):
        return first.whole_images(preparation, models[1:], mirroring, overlap)
    if isinstance(preparation, PredictingPreparation):
        return preparation.prediction(models, mirroring, overlap)
    return None
