"""The workspace of the study: data, folds, prompters and networks."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from segpref.data import Cache, Dataset, Reader, open_dataset, prepare
from segpref.data.cache import write_atomically
from segpref.data.splits import Split, cross_validation, draw_patients
from segpref.folder_kinds import refuse_other_kind
from segpref.policies import ModelCard, open_model
from segpref.policies.promptable import (
    PromptableNetwork,
    PromptablePolicy,
    as_promptable,
    load_promptable,
    promptable_card,
    small_sam,
)
from segpref.studies.engine import Portable
from segpref.studies.kept_data import keep_data
from segpref.studies.prompted.earlier import recipe_settings
from segpref.studies.prompted.recipe import PromptedRecipe, Prompts
from segpref.studies.prompted.stand_in import SourceSubset, other_data
from segpref.studies.recipe import read_recipe
from segpref.studies.recorded_settings import changed_settings, plain
from segpref.types import SegprefError

__all__ = ["UNET", "Fold", "PromptedWorkspace"]

UNET = "U-Net"
"""Name of its row and folder."""


@dataclass(frozen=True)
class Fold:
    """The images of one fold; none is in two of them.

    Args:
        number: of the fold.
        labelled: learned from.
        more: labelled for the row with more labels, never unlabelled.
        validation: choose checkpoints.
        pools: unlabelled images by their share; a larger one holds the smaller ones.
        test: scored.
    """

    number: int
    labelled: Dataset
    more: Dataset
    validation: Dataset
    pools: Mapping[float, Dataset]
    test: Dataset


@dataclass(frozen=True)
class PromptedWorkspace(Portable):
    """Data, folds and networks of a study.

    Args:
        recipe: of the study.
        data: folder of the dataset.
        others: folder that holds other datasets, for the SAM's stand-in; None for a checkpoint.
        out: the study's folder.
        cache: where prepared images, prompts and predictions are kept.
    """

    recipe: PromptedRecipe
    data: Path
    others: Path | None
    out: Path
    cache: Cache

    def open(self) -> None:
        """Write down the recipe, and prepare the images; refuse others than those of the folder.

        Raises:
            SegprefError: the folder was begun with another recipe, or with other data.
        """
        refuse_other_kind(self.out, "study")
        self.keep_recipe()
        keep_data(self.out, self.reader, self.images, self.empty)

    def keep_recipe(self) -> None:
        """Write down the recipe, or refuse another one than that of the folder.

        Raises:
            SegprefError: the folder was begun with another recipe.
        """
        path = self.out / "recipe.yaml"
        if not path.exists():
            text = yaml.safe_dump(plain(self.recipe), sort_keys=False)
            write_atomically(path, text.encode())
        elif changed := changed_settings(recipe_settings(read_recipe(path)), self.recipe):
            raise SegprefError(
                f"{self.out} was begun with another recipe ({', '.join(changed)}): choose another --out"
            )

    @cached_property
    def reader(self) -> Reader:
        """The images with the structure, as files."""
        return self._of(self.recipe.strata)

    @cached_property
    def _all(self) -> Reader:
        return open_dataset(self.data, **self.recipe.data_options)

    @cached_property
    def images(self) -> Dataset:
        """The images with the structure."""
        return prepare(self.reader, self.recipe.preparation, self.cache)

    @cached_property
    def empty(self) -> Dataset | None:
        """The images without it."""
        if self.recipe.empty is None:
            return None
        return prepare(self._of([self.recipe.empty]), self.recipe.preparation, self.cache)

    def fold(self, number: int) -> Fold:
        """The images of a fold.

        Raises:
            SegprefError: there are too few images.
        """
        recipe = self.recipe
        split: Split = cross_validation(
            self.reader, recipe.folds, number, {"validation": recipe.validation}, recipe.seed
        )
        labelled = draw_patients(split.train, recipe.labelled + recipe.more, recipe.seed)
        first = draw_patients(labelled, recipe.labelled, recipe.seed)
        rest = [name for name in split.train if name not in labelled]
        everything = len(self.images.patients) - len(split.test)
        pools, sizes = {}, {share: round(share * everything) for share in recipe.unlabelled}
        if max(sizes.values()) > len(rest):
            raise SegprefError(
                f"a fold has {len(rest)} images left for {max(sizes.values())} unlabelled ones: ask "
                "for smaller shares or fewer labels"
            )
        order = draw_patients(rest, len(rest), recipe.seed)
        for share, size in sizes.items():
            pools[share] = self.images.of_patients(order[:size])
        return Fold(
            number,
            self.images.of_patients(first),
            self.images.of_patients([name for name in labelled if name not in first]),
            self.images.of_patients(split.validation),
            pools,
            self.images.of_patients(split.test),
        )

    def other_data(self) -> tuple[Dataset, Dataset]:
        """What the SAM's stand-in learns from, and is validated on."""
        recipe = self.recipe
        assert self.others is not None
        made = self.out / "phantoms"
        return other_data(
            self.others, made, recipe.start.sources, recipe.preparation, self.cache, recipe.seed
        )

    @property
    def start(self) -> Path:
        """The model that all rows begin with."""
        return self.out / "start"

    @cached_property
    def checkpoint(self) -> PromptablePolicy:
        """The model that the recipe names.

        Raises:
            SegprefError: none there, or one that takes no prompts.
        """
        path = self.recipe.checkpoint
        assert path is not None
        found = open_model(path, labelled=())
        (made,) = found.members.values()
        return as_promptable(made(), path)

    def network(self) -> PromptableNetwork:
        """Its network; before it is there, the stand-in's with random weights."""
        recipe = self.recipe
        if recipe.checkpoint is not None:
            return load_promptable(self.start)[0].inner
        return small_sam(
            **recipe.start.network, text_encoder=self._text_encoder(), seed=recipe.seed
        )

    def folder(self, fold: int) -> Path:
        """Where the jobs of a fold write."""
        return self.out / f"fold{fold}"

    def card(
        self, network: PromptableNetwork, fold: Fold, cases: Dataset, prompts: Prompts
    ) -> ModelCard:
        """The card of a promptable model that is asked in this way."""
        return promptable_card(
            network,
            self.images.label_space,
            self.recipe.preparation,
            self.reader.channels,
            cases.patients,
            self.prompter(fold.number, prompts),
        )

    def prompter(self, fold: int, prompts: Prompts) -> dict[str, Any] | None:
        """What makes the prompts, by class_path and init_args."""
        if prompts == "none":
            return None
        if prompts in ("expert", "expert box"):
            expert: dict[str, Any] = {"class_path": "segpref.prompts.ExpertPrompts"}
            if prompts == "expert box":
                draw = {"points": 0, "shift": 0.0}
                told = {"class_path": "segpref.prompts.LabelPrompts", "init_args": draw}
                expert["init_args"] = {"draw": told}
            return expert
        if prompts == "U-Net box":
            return _kept(
                {
                    "class_path": "segpref.policies.promptable.SegmenterPrompts",
                    "init_args": {"model": str(self.folder(fold) / UNET)},
                }
            )
        saliency: dict[str, Any] = {
            "clip": {
                "class_path": "segpref.prompts.TransformersClip",
                "init_args": {"name": str(self.folder(fold) / "clip")},
            },
            "targets": [{"text": self.recipe.structure}],
            "saliency": {
                "class_path": "segpref.prompts.GScoreCAM",
                "init_args": {"channels": self.recipe.clip.channels},
            },
        }
        if prompts == "text":
            saliency |= {"use_box": False, "points": 0}
        if prompts == "box":
            saliency |= {"points": 0}
        if "text" in prompts:
            saliency["descriptions"] = {"class_path": "segpref.prompts.Descriptions"}
        return _kept({"class_path": "segpref.prompts.SaliencyPrompts", "init_args": saliency})

    def _text_encoder(self) -> str:
        name = self.recipe.text_encoder
        if Path(name).is_dir():
            return name
        try:
            package = importlib.import_module(name)
        except ImportError as error:
            raise SegprefError(
                f"the text encoder {name} is no folder and no installed package: install it, or "
                "name another text_encoder"
            ) from error
        return str(Path(str(package.__file__)).parent / "model")

    def _of(self, strata: list[str] | None) -> Reader:
        sources = list(self._all.sources())
        known = sorted({str(source.stratum) for source in sources})
        if unknown := sorted(set(strata or ()) - set(known)):
            raise SegprefError(
                f"the dataset has no images of {unknown[0]!r}, only of {', '.join(known)}: correct the "
                "recipe's strata"
            )
        return SourceSubset(
            self._all, [s for s in sources if strata is None or s.stratum in strata]
        )


def _kept(prompter: dict[str, Any]) -> dict[str, Any]:
    """A prompter whose prompts are looked up by the image where they are known."""
    return {"class_path": "segpref.prompts.KeptPrompts", "init_args": {"prompter": prompter}}
