"""A recipe: one YAML file that says everything about a comparison but where the data are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace

from segpref.data.preparation import Preparation
from segpref.miners import TopVsRandom
from segpref.objectives.likelihood import Reduction
from segpref.objectives.pairwise import DPO
from segpref.policies import NetworkSpec
from segpref.training.augmentation import AugmentationName
from segpref.training.signals import PreferenceSignal, PseudoLabelSignal, Signal
from segpref.types import LabelSpace, Margins, SegprefError

__all__ = [
    "Method",
    "Recipe",
    "Stage1",
    "Stage2",
    "default_network",
    "load_recipe",
    "recipe_names",
]


@dataclass(frozen=True)
class Stage1:
    """Supervised training of the base or of the judge.

    Args:
        labelled: how many labelled units are drawn.
        unit: ``patients``, or ``cases`` (slices in 2D).
        epochs: number of epochs.
        images_per_epoch: images in an epoch; all where None.
        batch_size: images per update.
        learning_rate: highest learning rate of AdamW.
        augment: ``flips-rotations``, ``photometric`` or ``none``.
    """

    labelled: int = 3
    unit: Literal["patients", "cases"] = "patients"
    epochs: int = 60
    images_per_epoch: int | None = None
    batch_size: int = 8
    learning_rate: float = 1e-3
    augment: AugmentationName = "flips-rotations"


@dataclass(frozen=True)
class Stage2:
    """What all methods of stage 2 have in common.

    Args:
        epochs: number of epochs.
        images_per_epoch: images in an epoch; the whole pool where None.
        batch_size: images per update.
        candidates: K, the number of masks in a slate.
    """

    epochs: int = 15
    images_per_epoch: int | None = None
    batch_size: int = 8
    candidates: int = 32


@dataclass(frozen=True)
class Method:
    """One way of learning from scored slates.

    Args:
        signal: ``preference`` (pairs) or ``pseudo-label`` (the best candidate as target).
        reduction: ``region`` (RN-DPO), ``image`` (DPO as usual) or ``[power, a]``.
        objective: loss on margins; DPO with beta 1 where None.
        miner: picks the pairs; Top-vs-Random where None.
        learning_rate: of Adam.
    """

    signal: Literal["preference", "pseudo-label"] = "preference"
    reduction: Reduction = "region"
    # Protocols of one call, written so that jsonargparse takes a class by name for them.
    objective: Callable[[Margins], Any] | None = None
    miner: Callable[[Any, Any], Any] | None = None
    learning_rate: float = 1e-4

    def build(self, label_space: LabelSpace) -> Signal:
        """The signal for masks of this label space."""
        if self.signal == "pseudo-label":
            return PseudoLabelSignal(label_space)
        return PreferenceSignal(
            label_space, self.miner or TopVsRandom(), self.objective or DPO(), self.reduction
        )


@dataclass(frozen=True)
class Recipe:
    """A comparison of methods on one dataset.

    Args:
        name: what tables call it.
        description: what it is, in a sentence.
        split: patients per part, as counts or fractions.
        network: of base and judge.
        preparation: from image to network input.
        base: stage 1 of the segmenter that is tuned.
        judge: stage 1 of the judge's segmenter.
        align: stage 2.
        methods: by the name that tables give them.
        seeds: each draws the labelled cases and the judge's cases anew; the split stays.
        split_seed: of the split.
    """

    name: str
    description: str
    split: dict[str, float]
    network: NetworkSpec
    preparation: Preparation = field(default_factory=Preparation)
    base: Stage1 = field(default_factory=Stage1)
    judge: Stage1 = field(default_factory=Stage1)
    align: Stage2 = field(default_factory=Stage2)
    methods: dict[str, Method] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    split_seed: int = 0


def default_network(dims: int) -> NetworkSpec:
    """MONAI's residual U-Net with about 1.6 M parameters in 2D; dropout for stochastic candidates."""
    return NetworkSpec(
        "monai.networks.nets.UNet",
        {
            "spatial_dims": dims,
            "in_channels": None,
            "out_channels": None,
            "channels": [16, 32, 64, 128, 256],
            "strides": [2, 2, 2, 2],
            "num_res_units": 2,
            "dropout": 0.1,
        },
    )


def recipe_names() -> list[str]:
    """Names of the recipes that come with segpref."""
    folder = resources.files("segpref.studies") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def load_recipe(name: str | Path) -> tuple[Recipe, Mapping[str, Any]]:
    """A recipe by name or path, and its resolved settings."""
    path = Path(name)
    if not path.suffix and str(name) in recipe_names():
        path = Path(str(resources.files("segpref.studies") / "recipes" / f"{name}.yaml"))
    if not path.exists():
        raise SegprefError(
            f"there is no recipe {name}: name a YAML file or one of {', '.join(recipe_names())}"
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe, "recipe")
    try:
        settings: Namespace = parser.parse_object({"recipe": yaml.safe_load(path.read_text())})
        recipe = parser.instantiate_classes(settings).recipe
    except Exception as error:
        # YAML and jsonargparse tell over several lines what is wrong.
        reason = " ".join(str(error).split())
        raise SegprefError(f"{path} is no valid recipe: {reason}") from error
    assert isinstance(recipe, Recipe)
    return recipe, settings.recipe.as_dict()
