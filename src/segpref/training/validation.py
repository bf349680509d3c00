"""How a training validates its weights: by the policy's own method, or the task's default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segpref.data.prepared import ImagePreparation
from segpref.inference.windows import whole_images
from segpref.policies import OwnValidation
from segpref.types import Case, SegprefError

__all__ = ["Validate", "validation_of"]

Validate = Callable[[], Mapping[str, float]]
"""Figures of the current weights; ``val_iou`` chooses the best checkpoint."""


def validation_of(
    policy: Any, cases: Sequence[Case], preparation: ImagePreparation, usual: Validate
) -> Validate:
    """The policy's own validation, where it has one (:class:`~segpref.policies.OwnValidation`).

    Args:
        policy: whose weights are validated, in evaluation mode.
        cases: labelled.
        preparation: of their images.
        usual: what is measured otherwise.
    """
    own: Any = policy if isinstance(policy, OwnValidation) else None
    if own is None:
        return usual
    whole = whole_images([own], preparation)

    def validate() -> Mapping[str, float]:
        own.network.eval()
        figures: Mapping[str, float] = own.validation(cases, whole)
        if "val_iou" not in figures:
            raise SegprefError(
                f"the validation of {type(own).__name__} gives no val_iou, by which the checkpoint "
                "is chosen: let it return one"
            )
        return figures

    return validate
