"""The workspace of a study: dataset, split, and how networks and judges are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from segpref.data.cache import Cache, write_atomically
from segpref.data.dataset import Dataset
from segpref.data.masks import MaskFolder
from segpref.data.preparing import prepare
from segpref.data.source import Reader
from segpref.data.splits import Split, cross_validation, split_patients
from segpref.policies import ModelCard, load_model
from segpref.progress import console, headed
from segpref.proposals import SlateProposals
from segpref.studies.earlier import whole_methods
from segpref.studies.engine.job import Portable
from segpref.studies.judging import JudgeInputs
from segpref.studies.plan import Task, judge_task
from segpref.studies.recipe import Recipe, read_recipe
from segpref.studies.recorded_settings import as_recorded, changed_settings, plain, same_settings
from segpref.studies.stages import Stage1
from segpref.training import RunFolder, fit
from segpref.trust import allow_names
from segpref.types import Judge, SegprefError

__all__ = ["Workspace"]

_SHARED = ("split", "split_seed", "folds", "preparation", "network", "align")
_NAMED = ("bases", "judges", "methods")


@dataclass(frozen=True)
class Workspace(Portable):
    """A recipe, the data that it is for, and the folder in which it happens.

    Args:
        recipe: the study.
        reader: the dataset.
        out: the study's folder.
        cache: where prepared images and predictions are kept.
        proposals: makes slates; the default families with the recipe's K where None.
    """

    recipe: Recipe
    reader: Reader
    out: Path
    cache: Cache = field(default_factory=Cache)
    proposals: SlateProposals | None = None

    def __post_init__(self) -> None:
        # Its networks are the user's choice; their files are read in other processes, too.
        allow_names(plain(self.recipe))

    def open(self) -> None:
        """Prepare the images, draw or read the split, and refuse a recipe that was changed.

        Names may be added to the recipe of a folder that is in use; what is there must stay as it
        was, so that a table never mixes two meanings of one name.
        """
        self.keep_recipe()
        for fold in range(self.recipe.folds or 1):
            if not self._split_file(fold).exists():
                self._draw_split(fold).save(self._split_file(fold))
        _ = self.dataset

    def split(self, seed: int) -> Split:
        """Who trains, judges, validates and tests with this seed; the same for all without folds."""
        return self._splits[seed % (self.recipe.folds or 1)]

    @cached_property
    def _splits(self) -> list[Split]:
        return [Split.load(self._split_file(fold)) for fold in range(self.recipe.folds or 1)]

    def _split_file(self, fold: int) -> Path:
        return self.out / ("split.json" if self.recipe.folds is None else f"split-{fold}.json")

    def _draw_split(self, fold: int) -> Split:
        recipe = self.recipe
        if recipe.folds is None:
            return split_patients(self.reader, recipe.split, recipe.split_seed)
        return cross_validation(self.reader, recipe.folds, fold, recipe.split, recipe.split_seed)

    @cached_property
    def dataset(self) -> Dataset:
        """All cases, prepared."""
        return prepare(self.reader, self.recipe.preparation, self.cache)

    def validation(self, seed: int) -> Dataset:
        """Labelled cases that choose checkpoints."""
        return self.dataset.of_patients(self.split(seed).validation).labelled()

    def test(self, seed: int) -> Dataset:
        """Labelled cases that are scored once per checkpoint."""
        return self.dataset.of_patients(self.split(seed).test).labelled()

    def base_cases(self, seed: int, base: str) -> Dataset:
        """Labelled cases of a base."""
        cases = self.dataset.of_patients(self.split(seed).train).labelled()
        return self.recipe.bases[base].drawn(cases, seed)

    def pool(self, seed: int, base: str) -> Dataset:
        """The unlabelled images: the training patients without the base's."""
        labelled = set(self.base_cases(seed, base).patients)
        return self.dataset.of_patients([p for p in self.split(seed).train if p not in labelled])

    def slates(self) -> SlateProposals:
        """What makes the slates of audits."""
        return self.proposals or SlateProposals(self.recipe.align.candidates)

    def base_folder(self, seed: int, base: str) -> Path:
        """Run folder of a base."""
        return Task(seed, "base", base).folder(self.out)

    def judge_inputs(self, seed: int, base: str, judge: str) -> JudgeInputs:
        """What a judge is made from."""
        # A judge that bases share has no base, which may not even be trained yet.
        task = judge_task(self.recipe, seed, base, judge)
        split = self.split(seed)
        everybody = self.dataset.of_patients(split.train)
        pool = self.pool(seed, task.base) if task.base else everybody
        return JudgeInputs(
            seed=seed,
            judge_cases=self.dataset.of_patients(split.judge).labelled(),
            base_cases=self.base_cases(seed, task.base) if task.base else None,
            validation=self.validation(seed),
            base=self.base_folder(seed, task.base) if task.base else None,
            folder=task.folder(self.out),
            cache=self.cache,
            # Unlabelled images cost no label, so a judge may be trained on them, too.
            fit=partial(self.fit, pool=pool, validation=self.validation(seed)),
            masks=partial(
                MaskFolder,
                readers=[self.reader],
                label_space=everybody.label_space,
                preparation=self.recipe.preparation,
                cache=self.cache,
            ),
        )

    def judge(self, seed: int, base: str, judge: str) -> Judge:
        """A judge whose networks are trained."""
        return self.recipe.judges[judge].build(self.judge_inputs(seed, base, judge))

    def fit(
        self,
        stage: Stage1,
        labelled: Dataset,
        path: Path,
        seed: int,
        validation: Dataset,
        pool: Dataset | None = None,
        start: Path | None = None,
    ) -> None:
        """Stage 1 of a base or of a judge's network; the pool is for semi-supervised training.

        Raises:
            SegprefError: a judge's network is to start from a base.
        """
        if stage.start is not None and start is None:
            raise SegprefError(
                f"only a base can start from another one: take `start: {stage.start}` out of the judge "
                "in the recipe"
            )
        recipe = self.recipe
        chosen = stage.network or recipe.network
        network = chosen.for_data(len(self.reader.channels), labelled.label_space.channels)
        card = ModelCard(
            network=network,
            label_space=labelled.label_space,
            preparation=recipe.preparation,
            channels=self.reader.channels,
            labelled=labelled.patients,
        )
        folder = RunFolder(path)
        settings: dict[str, Any] = {"stage": stage, "card": card, "seed": seed}
        if start is not None:
            settings["start"] = load_model(start)[0].digest()
        folder.open(as_recorded(folder, settings), resume=True)
        if not folder.finished:
            place = path.relative_to(self.out)
            console.print(headed(str(place), f": stage 1 from {len(labelled)} cases"))
        fit(
            labelled,
            validation,
            card,
            folder,
            stage,
            unlabelled=None if stage.method is None else pool,
            start=start,
            seed=seed,
        )

    def keep_recipe(self) -> None:
        """Write down the recipe, or refuse another one than that of the folder.

        Raises:
            SegprefError: the folder was begun with another recipe.
        """
        now = plain(self.recipe)
        path = self.out / "recipe.yaml"
        if path.exists():
            before = whole_methods(read_recipe(path))
            if changed := _changed(before, self.recipe):
                raise SegprefError(
                    f"{self.out} was begun with another recipe ({', '.join(changed)}): choose another "
                    "--out, or give what was changed a new name"
                )
            for section in _NAMED:
                now[section] = {**before[section], **now[section]}
        write_atomically(path, yaml.safe_dump(now, sort_keys=False).encode())


def _changed(before: Mapping[str, Any], now: Recipe) -> list[str]:
    """Which settings that affect results were changed; names may be added."""
    found = [name for name in changed_settings(before, now) if name in _SHARED]
    for section in _NAMED:
        old = before.get(section)
        if not isinstance(old, Mapping):
            found.append(section)
            continue
        found += [
            f"{section}: {name}"
            for name, one in getattr(now, section).items()
            if name in old and not same_settings(old[name], one)
        ]
    return found
