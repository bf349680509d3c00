"""The recipe of a study of ambiguous segmentation: one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from segpref.checking import checked
from segpref.data.names import check_folder_name
from segpref.data.preparation import Preparation
from segpref.objectives.likelihood import Reduction
from segpref.policies import NetworkSpec
from segpref.policies.diffusion import Sampler
from segpref.settings import setting
from segpref.studies.ambiguity.peers import Peer, refuse_shared_folders
from segpref.studies.ambiguity.sample_files import REFERENCE
from segpref.studies.earlier import align_settings, whole_methods
from segpref.studies.recipe import parse_recipe, recipe_file
from segpref.studies.recorded_settings import CLASS
from segpref.studies.stages import refuse_seeds
from segpref.training import AlignConfig, Denoising, DiffusionConfig
from segpref.training.config import Optimizer
from segpref.types import SegprefError

__all__ = [
    "Alignment",
    "AmbiguityRecipe",
    "FitStage",
    "Variant",
    "alignment_settings",
    "load_ambiguity_recipe",
]

_OF_SEGMENTERS = (
    "method",
    "feedback",
    "families",
    "supervised",
    "loss",
    "view",
    "images",
    "reference",
)
_OF_DIFFUSION = ("convention", "safeguard", "refresh")


@dataclass(frozen=True, kw_only=True)
class FitStage(DiffusionConfig):
    """Stage 1, AmbiSeg: :class:`~segpref.training.DiffusionConfig`, but shorter."""

    epochs: int = setting(4, least=1)
    images_per_epoch: int | None = setting(12800, least=1)
    batch_size: int = setting(16, least=1)
    learning_rate: float = setting(1e-3, least=0)
    augment: bool = True
    validation_samples: int = setting(4, least=1)


@dataclass(frozen=True, kw_only=True)
class Alignment(Denoising, AlignConfig):
    """One way of making preferences and of learning from them (TDG-DiffDPO, Sec. 3.4)."""

    epochs: int = setting(3, least=1)
    images_per_epoch: int | None = setting(3200, least=1)
    batch_size: int = setting(16, least=1)
    learning_rate: float = setting(2e-5, least=0)
    optimizer: Optimizer = "adamw"
    candidates: int = setting(4, least=2)
    reduction: Reduction = "image"
    beta: float | None = setting(5000.0, above=0)
    average: float | None = setting(0.99, least=0, below=1)

    preference: Literal["mean-dice", "best-rater", "stochastic-run"] = "mean-dice"
    """mean-dice, best-rater or stochastic-run (Sec. 3.4.2)."""

    diversity: float = setting(0.0, least=0)
    """Weight of what a sample has in common with the others of its slate, which the preference is
    against (segpref.judges.DiversityJudge); 0 as in the paper."""

    tau: float = setting(1e-4, least=0)
    """Scores of winner and loser differ by at least this; in the paper by anything."""

    pool_images: int | None = setting(None, least=1)
    """Slices of the training patients that slates are made of, drawn once; all if left out."""

    slices: Literal["all", "middle"] = "all"
    """all slices of a nodule, or its middle one, as in validation and test."""

    parts: list[str] | None = None
    """Of the network that learn; all if left out. [unet] leaves the latent's prior alone."""

    sampler: Sampler = field(default_factory=Sampler)
    """Draws the candidates."""

    of: str | None = None
    """The peer of kind probabilistic-unet that is aligned on its own samples; AmbiSeg if left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        usual = AlignConfig()
        if self.of is not None:
            for name in _OF_DIFFUSION:
                if getattr(self, name) != getattr(Alignment, name):
                    raise SegprefError(
                        f"{name} is for diffusion models, and this method is of {self.of}: leave it out"
                    )
            if self.beta == Alignment.beta:
                raise SegprefError(
                    f"beta {self.beta:g} is for the errors of a diffusion model, and this method is of "
                    f"{self.of}: give it a beta of its own, such as 1"
                )
        for name in _OF_SEGMENTERS:
            if getattr(self, name) != getattr(usual, name):
                raise SegprefError(
                    f"{name} is for segmenters, not for samples of a diffusion model: leave it out"
                )


@checked()
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


@checked(
    split={"least": 0},
    labelled={"above": 0, "most": 1},
    samples={"least": 1},
    numbers={"least": 1},
    speed_images={"least": 1},
    pictures={"least": 0},
    test_images={"least": 1},
    seeds={"least": 0},
    split_seed={"least": 0},
)
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
        align: what alignments share in YAML.
        methods: alignments by the names that tables give them. Each is a whole configuration; in YAML
            it says what differs from ``align``.
        checkpoint: of an alignment: its ``best`` epoch on validation, by the IoU of samples and raters
            matched one to one, or its ``last``, as in the paper. Of stage 1 it is always the best.
        variants: other stage 1s, by name.
        peers: other models of several raters that are set beside AmbiSeg, by name.
        sampler: draws the samples of AmbiSeg and its alignments that are measured.
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
    align: Alignment = field(default_factory=Alignment)
    methods: dict[str, Alignment] = field(default_factory=dict)
    checkpoint: Literal["best", "last"] = "best"
    variants: dict[str, Variant] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
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
        refuse_seeds(self)
        for variant in self.variants.values():
            self.stage1(variant.fit)
        unknown = [name for name in self.knob if name not in self.methods]
        if unknown:
            raise SegprefError(f"knob names {unknown[0]}, which is not a method: correct it")
        self._refuse_unknown_peers()
        refuse_shared_folders(self.peers, (REFERENCE, *self.methods, *self.variants))
        if not 0 < self.labelled <= 1:
            raise SegprefError(
                f"labelled is a share above 0 up to 1, not {self.labelled}: correct it"
            )
        if self.control and len(self.control) != 2:
            raise SegprefError("control compares two descriptions: give two, or leave it out")

    def _refuse_unknown_peers(self) -> None:
        for name, method in self.methods.items():
            if method.of is None:
                continue
            peer = self.peers.get(method.of)
            if peer is None or peer.kind != "probabilistic-unet":
                raise SegprefError(
                    f"{name} is of {method.of}, which is not a peer of kind probabilistic-unet: "
                    "correct of"
                )
            if name in self.knob:
                raise SegprefError(
                    f"knob names {name}, and only diffusion models have one: leave it out there"
                )

    def methods_of(self, peer: str | None) -> dict[str, Alignment]:
        """The alignments of a peer, or of AmbiSeg where None."""
        return {name: one for name, one in self.methods.items() if one.of == peer}

    def network_spec(self, changes: Mapping[str, Any]) -> NetworkSpec:
        """The network with some of its arguments changed."""
        # The data fill in what is None.
        given = {"in_channels": None, "out_channels": None}
        arguments = {**given, **self.network, **changes}
        return NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments)

    def stage1(self, changes: Mapping[str, Any]) -> FitStage:
        """Stage 1 with some of its settings changed.

        Raises:
            SegprefError: it has no such setting, or not with this value.
        """
        known = [one.name for one in fields(self.fit)]
        if unknown := [name for name in changes if name not in known]:
            raise SegprefError(
                f"stage 1 has no setting {unknown[0]!r}: choose from {', '.join(known)}"
            )
        return replace(self.fit, **changes)


def load_ambiguity_recipe(name: str | Path) -> AmbiguityRecipe:
    """A recipe of this kind by name or path."""
    path = recipe_file(name, "segpref.studies.ambiguity")
    return parse_recipe(path, AmbiguityRecipe, partial(whole_methods, today=alignment_settings))[0]


def alignment_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an alignment by today's names."""
    found = align_settings(given)
    if not isinstance(found.get("images", ""), str):
        found["pool_images"] = found.pop("images")
    if found.get(CLASS) == "AlignStage":
        found[CLASS] = "Alignment"
    # Once, a method had the common one where it had none of its own.
    return {name: one for name, one in found.items() if (name, one) != ("learning_rate", None)}
