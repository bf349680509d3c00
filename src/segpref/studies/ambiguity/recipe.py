"""What a study of ambiguous segmentation consists of: one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from segpref.data.names import check_folder_name
from segpref.data.preparation import Preparation
from segpref.objectives.diffusion import BetaConvention
from segpref.objectives.likelihood import Reduction
from segpref.policies import NetworkSpec
from segpref.policies.diffusion import Sampler
from segpref.studies.recipe import parse_recipe, recipe_file
from segpref.types import SegprefError

__all__ = [
    "AlignStage",
    "Alignment",
    "AmbiguityRecipe",
    "FitStage",
    "Variant",
    "load_ambiguity_recipe",
]


@dataclass(frozen=True)
class FitStage:
    """Stage 1: AmbiSeg.

    Args:
        epochs: number of epochs.
        images_per_epoch: images in an epoch.
        batch_size: images per update.
        learning_rate: at the beginning; it falls linearly to 0.
        kl_weight: lambda.
        average: highest decay of the moving average of weights.
        augment: flip and turn images and masks.
        text_dropout: share of the images whose text is left out, so that images without one can be
            sampled, too; 0 as in the paper.
    """

    epochs: int = 4
    images_per_epoch: int = 12800
    batch_size: int = 16
    learning_rate: float = 1e-3
    kl_weight: float = 1e-3
    average: float = 0.9999
    augment: bool = True
    text_dropout: float = 0.0


@dataclass(frozen=True)
class AlignStage:
    """What all alignments of the study share.

    Args:
        epochs: number of epochs.
        images_per_epoch: images in an epoch; all that slates are made of where None.
        batch_size: images per update.
        learning_rate: of AdamW, constant.
        average: highest decay of the moving average of weights.
        candidates: K, samples in a run of a slate.
        images: slices of the training patients that slates are made of, drawn once; all where None.
        slices: ``all`` of a nodule, or its ``middle`` one, as in validation and test.
        tau: scores of winner and loser differ by at least this; in the paper by anything.
        parts: of the network that learn; all where None. ``[unet]`` leaves the latent's prior alone.
        sampler: draws the candidates.
        convention: what beta is meant for.
    """

    epochs: int = 3
    images_per_epoch: int | None = 3200
    batch_size: int = 16
    learning_rate: float = 2e-5
    average: float = 0.99
    candidates: int = 4
    images: int | None = None
    slices: Literal["all", "middle"] = "all"
    tau: float = 1e-4
    parts: list[str] | None = None
    sampler: Sampler = field(default_factory=Sampler)
    convention: BetaConvention = "half-mean"


@dataclass(frozen=True)
class Alignment:
    """One way of making preferences and of learning from them.

    Args:
        preference: ``mean-dice``, ``best-rater`` or ``stochastic-run`` (TDG-DiffDPO, Sec. 3.4.2).
        reduction: ``image`` (Diffusion-DPO) or ``region``.
        beta: strength of the preference.
        safeguard: share of the winner's progress that is kept; None for no safeguard.
        learning_rate: instead of that of all alignments.
        diversity: weight of what a sample has in common with the others of its slate, which the
            preference is against (:class:`~segpref.judges.DiversityJudge`); 0 as in the paper.
        flip_rate: share of the pairs that are turned round by chance; with 0.5 they say nothing, which
            tells what the preference adds to training as such.
        refresh: epochs after which slates are drawn anew, from what the policy is by then; None for
            once, as in the paper.
    """

    preference: Literal["mean-dice", "best-rater", "stochastic-run"] = "mean-dice"
    reduction: Reduction = "image"
    beta: float = 5000.0
    safeguard: float | None = None
    learning_rate: float | None = None
    diversity: float = 0.0
    flip_rate: float = 0.0
    refresh: int | None = None


@dataclass(frozen=True)
class Variant:
    """Another stage 1 than the study's, for one seed: an ablation or another prediction.

    Args:
        network: arguments of the network that differ.
        fit: settings of stage 1 that differ.
        table: in which table it stands.
    """

    network: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    table: Literal["components", "predictions"] = "components"


@dataclass(frozen=True)
class AmbiguityRecipe:
    """A study of AmbiSeg and its alignments on images with several raters.

    Args:
        name: what tables call it.
        description: what it is, in a sentence.
        network: arguments of :class:`~segpref.policies.diffusion.AmbiSegNetwork`.
        split: patients per part, as counts or fractions.
        labelled: share of the training patients that stage 1 and slates see, drawn once.
        preparation: from image to network input.
        data_options: passed to the dataset's reader.
        fit: stage 1.
        align: what alignments share.
        methods: alignments by the names that tables give them.
        checkpoint: of an alignment: its ``best`` epoch on validation, by the IoU of samples and raters
            matched one to one, or its ``last``, as in the paper. Of stage 1 it is always the best.
        variants: other stage 1s, by name.
        sampler: draws the samples that are measured.
        samples: N of the main table.
        numbers: N of the table over the number of samples.
        knob: values of w besides 0 and 1, per method whose knob is turned. All methods are compared
            with the first one's at equal Average Dice.
        control: two descriptions, as ratings by name, whose outlines should differ; the first is the
            more irregular one.
        speed: samplers that are timed; the first is what the others are compared with.
        speed_images: images that they are timed on.
        pictures: test images of the pictures.
        test_images: at most so many test images, one per nodule; all where None.
        seeds: of weights, order and noise; the split stays.
        split_seed: of the split.
    """

    name: str
    description: str
    network: dict[str, Any]
    split: dict[str, float]
    labelled: float = 1.0
    preparation: Preparation = field(default_factory=Preparation)
    data_options: dict[str, Any] = field(default_factory=dict)
    fit: FitStage = field(default_factory=FitStage)
    align: AlignStage = field(default_factory=AlignStage)
    methods: dict[str, Alignment] = field(default_factory=dict)
    checkpoint: Literal["best", "last"] = "best"
    variants: dict[str, Variant] = field(default_factory=dict)
    sampler: Sampler = field(default_factory=Sampler)
    samples: int = 16
    numbers: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 12, 16, 24, 32])
    knob: dict[str, list[float]] = field(default_factory=dict)
    control: dict[str, dict[str, int]] = field(default_factory=dict)
    speed: list[Sampler] = field(default_factory=list)
    speed_images: int = 50
    pictures: int = 6
    test_images: int | None = 200
    seeds: list[int] = field(default_factory=lambda: [0, 1])
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_folder_name(self.name, "the recipe")
        unknown = [name for name in self.knob if name not in self.methods]
        if unknown:
            raise SegprefError(f"knob names {unknown[0]}, which is no method: correct it")
        if not 0 < self.labelled <= 1:
            raise SegprefError(
                f"labelled is a share above 0 up to 1, not {self.labelled}: correct it"
            )
        if self.control and len(self.control) != 2:
            raise SegprefError("control compares two descriptions: give two, or leave it out")

    def network_spec(self, changes: Mapping[str, Any]) -> NetworkSpec:
        """The network with some of its arguments changed."""
        # The data fill in what is None.
        given = {"in_channels": None, "out_channels": None}
        arguments = {**given, **self.network, **changes}
        return NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments)

    def stage1(self, changes: Mapping[str, Any]) -> FitStage:
        """Stage 1 with some of its settings changed."""
        return replace(self.fit, **changes)


def load_ambiguity_recipe(name: str | Path) -> AmbiguityRecipe:
    """A recipe of this kind by name or path."""
    path = recipe_file(name, "segpref.studies.ambiguity")
    return parse_recipe(path, AmbiguityRecipe)[0]
