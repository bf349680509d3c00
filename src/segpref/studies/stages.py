"""The two stages of a recipe: supervised training, and what all methods of stage 2 share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.data.splits import draw_cases, draw_patients
from segpref.policies import NetworkSpec
from segpref.training.augmentation import AugmentationName
from segpref.training.semisupervised import Method
from segpref.types import SegprefError

__all__ = ["Stage1", "Stage2"]


@checked()
@dataclass(frozen=True)
class Stage1:
    """Supervised training of a base or of a judge.

    Args:
        labelled: how many labelled units are drawn; all where None.
        unit: ``patients``, or ``cases`` (slices in 2D).
        epochs: number of epochs.
        images_per_epoch: images in an epoch; all where None.
        batch_size: images per update.
        learning_rate: highest learning rate of AdamW.
        augment: ``flips-rotations``, ``photometric`` or ``none``.
        method: how unlabelled images help (:mod:`segpref.training.semisupervised`), such as UniMatch;
            supervised training alone where None.
        start: name of another base whose weights are the beginning; random ones where None.
        dropout: rate of dropout after every block while training (MAPO's warm-up); 0 leaves the network
            as it is. Supervised training only.
        network: another one than the recipe's.
        loss: of logits and one-hot masks, such as monai.losses.DiceLoss; Dice + cross-entropy where
            None. Supervised training only.
    """

    labelled: int | None = 3
    unit: Literal["patients", "cases"] = "patients"
    epochs: int = 60
    images_per_epoch: int | None = None
    batch_size: int = 8
    learning_rate: float = 1e-3
    augment: AugmentationName = "flips-rotations"
    method: Method | None = None
    start: str | None = None
    dropout: float = 0.0
    network: NetworkSpec | None = None
    loss: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.method is None:
            return
        for name in ("dropout", "loss"):
            if getattr(self, name):
                raise SegprefError(
                    f"{name} is for supervised training, not for {type(self.method).__name__}: take "
                    "one of the two out of the recipe"
                )

    def drawn(self, cases: Dataset, seed: int) -> Dataset:
        """The labelled cases that the seed draws."""
        if self.labelled is None:
            return cases
        if self.unit == "cases":
            return draw_cases(cases, self.labelled, seed)
        return cases.of_patients(draw_patients(cases.patients, self.labelled, seed))


@checked()
@dataclass(frozen=True)
class Stage2:
    """What all methods of stage 2 have in common.

    Args:
        epochs: number of epochs.
        images_per_epoch: images in an epoch; the whole pool where None.
        batch_size: images per update.
        candidates: K, the number of masks in a slate.
        refresh: epochs for which slates and scores stand (MAPO's rounds); made at every step where
            None.
        reference: ``base``, or with ``refresh`` the policy at the beginning of each ``round``.
        optimizer: ``adam`` or ``adamw``.
        pool: the ``unlabelled`` images, or the base's ``labelled`` ones, as in MAPO.
    """

    epochs: int = 15
    images_per_epoch: int | None = None
    batch_size: int = 8
    candidates: int = 32
    refresh: int | None = None
    reference: Literal["base", "round"] = "base"
    optimizer: Literal["adam", "adamw"] = "adam"
    pool: Literal["unlabelled", "labelled"] = "unlabelled"
