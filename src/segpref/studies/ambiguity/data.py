"""The data of the study: split, training images, pool, validation and test."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.lidc import middle_slices
from segpref.data.preparing import prepare
from segpref.data.source import Reader
from segpref.data.splits import Split, draw_patients, split_patients
from segpref.folder_kinds import refuse_other_kind
from segpref.policies.diffusion import TextEncoder
from segpref.studies.ambiguity.recipe import Alignment, AmbiguityRecipe
from segpref.studies.engine import Portable
from segpref.studies.kept_data import has_data, keep_data

__all__ = ["AmbiguityData"]


@dataclass(frozen=True)
class AmbiguityData(Portable):
    """A recipe, the data that it is for, and the folder in which it happens.

    Args:
        recipe: the study.
        reader: a dataset with several raters.
        out: the study's folder.
        cache: where prepared images and the samples of references are kept.
    """

    recipe: AmbiguityRecipe
    reader: Reader
    out: Path
    cache: Cache = field(default_factory=Cache)

    @cached_property
    def split(self) -> Split:
        """Who trains, validates and tests."""
        path = self.out / "split.json"
        if not path.exists() or not has_data(self.out):
            split_patients(self.reader, self.recipe.split, self.recipe.split_seed).keep(path)
        return Split.load(path)

    @cached_property
    def dataset(self) -> Dataset:
        """All slices, prepared."""
        return prepare(self.reader, self.recipe.preparation, self.cache)

    @cached_property
    def train(self) -> Dataset:
        """Every slice of the training patients, or of the share of them that the recipe uses."""
        patients, share = self.split.train, self.recipe.labelled
        if share < 1:
            count = max(1, round(share * len(patients)))
            patients = draw_patients(patients, count, self.recipe.split_seed)
        return self.dataset.of_patients(patients)

    def pool(self, config: Alignment) -> Dataset:
        """The slices that slates are made of."""
        slices = middle_slices(self.train) if config.slices == "middle" else self.train
        if config.pool_images is None or config.pool_images >= len(slices):
            return slices
        drawn = np.random.default_rng(self.recipe.split_seed).permutation(len(slices))
        return slices.take(sorted(drawn[: config.pool_images].tolist()))

    @cached_property
    def validation(self) -> Dataset:
        """One slice per nodule of the validation patients."""
        return middle_slices(self.dataset.of_patients(self.split.validation))

    @cached_property
    def test(self) -> Dataset:
        """One slice per nodule of the test patients, at most as many as the recipe says."""
        cases = middle_slices(self.dataset.of_patients(self.split.test))
        return cases.take(range(len(cases))[: self.recipe.test_images])

    @cached_property
    def encoder(self) -> TextEncoder | None:
        """The frozen text encoder, so that every text is embedded once."""
        name = self.recipe.network.get("text_encoder")
        return None if name is None else TextEncoder(name)

    def open(self) -> None:
        """Draw or read the split, prepare the images, and refuse others than before."""
        refuse_other_kind(self.out, "study")
        _ = self.split
        keep_data(self.out, self.reader, self.dataset)
