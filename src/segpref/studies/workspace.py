"""The workspace of a study: dataset, split, and how networks and judges are made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from segpref.data.cache import Cache, write_atomically
from segpref.data.dataset import Dataset
from segpref.data.masks import MaskFolder
from segpref.data.preparing import prepare
from segpref.data.source import Reader
from segpref.data.splits import Split, cross_validation, split_patients
from segpref.folder_kinds import refuse_other_kind
from segpref.policies import ModelCard, load_model
from segpref.policies.model_formats import OpenModel
from segpref.progress import console, headed
from segpref.proposals import SlateProposals
from segpref.report.runs import label
from segpref.studies.engine.job import Portable
from segpref.studies.existing import digest_of, keep_model, open_existing, refuse_measured
from segpref.studies.judging import (
    JudgeInputs,
    LabelledRecipe,
    StandingRecipe,
    labelled_recipes,
)
from segpref.studies.kept_data import keep_data
from segpref.studies.kept_recipe import begun_with, has_recipe, keep_recipe
from segpref.studies.planning import Task, judge_task, plan
from segpref.studies.recipe import Recipe, default_network
from segpref.studies.recorded_settings import as_recorded, plain
from segpref.studies.stages import Stage1
from segpref.training import RunFolder, fit
from segpref.trust import allow_names, read_json
from segpref.types import Judge, SegprefError

__all__ = ["Workspace"]

_MODELS = "models.json"


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
        refuse_other_kind(self.out, "study")
        self._refuse_changes()
        for name, opened in self.existing.items():
            refuse_measured(name, opened, self._splits)
        self._check_standing()
        # A recipe that is refused can be corrected: nothing is written before all fits.
        # The split comes first: beside a recipe, a split that lies there is the study's own.
        for fold, split in enumerate(self._splits):
            split.keep(self._split_file(fold))
        self.keep_recipe()
        keep_data(self.out, self.reader, self.dataset)
        if self.existing:
            kept = {**self._kept_models(), **self._digests}
            write_atomically(self.out / _MODELS, json.dumps(kept, indent=1).encode())

    def split(self, seed: int) -> Split:
        """Who trains, judges, validates and tests with this seed; the same for all without folds."""
        return self._splits[seed % (self.recipe.folds or 1)]

    @cached_property
    def _splits(self) -> list[Split]:
        return [self._split_of(fold) for fold in range(self.recipe.folds or 1)]

    def _split_of(self, fold: int) -> Split:
        """The split that the study was begun with; a new one is not that of a file that lies there."""
        file = self._split_file(fold)
        begun = has_recipe(self.out) and file.exists()
        return Split.load(file) if begun else self._draw_split(fold)

    def _split_file(self, fold: int) -> Path:
        return self.out / ("split.json" if self.recipe.folds is None else f"split-{fold}.json")

    def _draw_split(self, fold: int) -> Split:
        recipe = self.recipe
        if (file := recipe.split_file) is not None:
            return Split.load(file)
        assert isinstance(recipe.split, Mapping)
        if recipe.folds is None:
            return split_patients(self.reader, recipe.split, recipe.split_seed)
        return cross_validation(self.reader, recipe.folds, fold, recipe.split, recipe.split_seed)

    @cached_property
    def dataset(self) -> Dataset:
        """All cases, prepared."""
        turned = {one.card.orientation for one in self.existing.values()} - {None}
        if len(turned) > 1:
            raise SegprefError(
                f"the bases' axes point to {' and '.join(sorted(map(str, turned)))}: study models "
                "of one orientation at a time"
            )
        where = next(iter(turned), None)
        return prepare(self.reader, self.recipe.preparation, self.cache, orientation=where)

    @cached_property
    def existing(self) -> Mapping[str, OpenModel]:
        """The bases that are existing models, opened and checked, by name."""
        recipe = self.recipe
        return {
            name: open_existing(stage.model, self.reader, recipe.preparation)
            for name, stage in recipe.bases.items()
            if stage.model is not None
        }

    @cached_property
    def _digests(self) -> Mapping[str, str]:
        return {name: digest_of(opened) for name, opened in self.existing.items()}

    def _kept_models(self) -> Mapping[str, str]:
        """Hashes of the existing models that the study was begun with."""
        file = self.out / _MODELS
        if not file.exists():
            return {}
        found = read_json(file, "restore it, or choose another --out")
        return found if isinstance(found, dict) else {}

    def keep_existing(self, base: str, path: Path) -> None:
        """Put a base that is an existing model into its folder.

        Raises:
            SegprefError: the model was changed since the study has begun.
        """
        self._refuse_other_models()
        keep_model(self.existing[base], RunFolder(path))

    def validation(self, seed: int) -> Dataset:
        """Labelled cases that choose checkpoints."""
        return self.dataset.of_patients(self.split(seed).validation).labelled()

    def test(self, seed: int) -> Dataset:
        """Labelled cases that are scored once per checkpoint."""
        return self.dataset.of_patients(self.split(seed).test).labelled()

    def base_cases(self, seed: int, base: str) -> Dataset:
        """Labelled cases of a base."""
        cases = self.dataset.of_patients(self.split(seed).train).labelled()
        if (model := self.existing.get(base)) is not None:
            return cases.of_patients({*model.card.labelled} & {*cases.patients})
        stage = self.recipe.bases[base]
        own = stage.drawn(cases, seed)
        if stage.labels_of is None:
            return own
        judge = self.recipe.judges[stage.labels_of]
        assert isinstance(judge, LabelledRecipe)  # or the recipe was refused
        aside = self.dataset.of_patients(self.split(seed).judge).labelled()
        both = {case.id for one in (own, judge.labelled_cases(aside, seed)) for case in one}
        everything = self.dataset
        return everything.take(place for place, case in enumerate(everything) if case.id in both)

    def pool(self, seed: int, base: str) -> Dataset:
        """The unlabelled images: the training patients without the base's."""
        labelled = set(self.base_cases(seed, base).patients)
        return self.dataset.of_patients([p for p in self.split(seed).train if p not in labelled])

    def slates(self) -> SlateProposals:
        """What makes the slates of audits."""
        align = self.recipe.align
        families: Any = align.families
        return self.proposals or SlateProposals(align.candidates, families)

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
            fit=partial(self._fit_judge, pool=pool, validation=self.validation(seed)),
            masks=partial(
                MaskFolder,
                readers=[self.reader],
                label_space=everybody.label_space,
                preparation=self.recipe.preparation,
                cache=self.cache,
            ),
            images=self.dataset,
            measured=frozenset({*split.validation, *split.test}),
            model=self._digests.get(task.base),
        )

    def check_labels(self, tasks: Sequence[Task]) -> None:
        """Refuse bases and judges for which the split has too few labels, and runs without images.

        Args:
            tasks: what is to be done.

        Raises:
            SegprefError: there is one, or the folder was begun with another recipe.
        """
        self._refuse_changes()
        for task in tasks:
            stage = self.recipe.bases.get(task.base)
            judge = self.recipe.judges.get(task.judge)
            trained = task.kind == "base" and stage is not None and stage.model is None
            try:
                if trained and not len(self.base_cases(task.seed, task.base)):
                    raise SegprefError("no training patient has a label")
                aside = self.dataset.of_patients(self.split(task.seed).judge).labelled()
                for one in labelled_recipes(judge) if task.kind == "judge" else ():
                    if not len(one.labelled_cases(aside, task.seed)):
                        raise SegprefError("no patient who is set aside for judges has a label")
                if self._learns_unlabelled(task) and not len(self.pool(task.seed, task.base)):
                    raise SegprefError(
                        "no image is left to learn from beside the base's own: give the base fewer "
                        "labels"
                    )
            except SegprefError as error:
                raise SegprefError(
                    f"{task.judge if task.kind == 'judge' else task.base}, seed {task.seed}: {error} "
                    "(labelled and split in the recipe)"
                ) from error

    def _learns_unlabelled(self, task: Task) -> bool:
        """Whether a run learns from the images of the pool."""
        if task.kind != "run" or isinstance(self.recipe.judges[task.judge], StandingRecipe):
            return False
        return task.config(self.recipe).images == "unlabelled"

    def _check_standing(self) -> None:
        """Refuse what can't be learned from preferences that are there, such as votes."""
        standing = {
            name: one for name, one in self.recipe.judges.items() if isinstance(one, StandingRecipe)
        }
        tasks = plan(self.recipe) if standing else []
        for task in tasks:
            if task.kind != "judge" or task.judge not in standing:
                continue
            methods = {
                label(run.method, run.changes): run.config(self.recipe)
                for run in tasks
                if run.kind == "run" and task in run.needs(self.recipe)
            }
            try:
                inputs = self.judge_inputs(task.seed, task.base, task.judge)
                standing[task.judge].check(inputs, methods)
            except SegprefError as error:
                raise SegprefError(
                    f"the judge {task.judge} of the base {task.base}: {error}"
                ) from error

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
        """Stage 1 of a base or of a judge's network; the pool is for semi-supervised training."""
        recipe = self.recipe
        chosen = stage.network or recipe.network or default_network(recipe.preparation.dims)
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

    def _fit_judge(
        self,
        stage: Stage1,
        labelled: Dataset,
        path: Path,
        seed: int,
        validation: Dataset,
        pool: Dataset,
    ) -> None:
        """Stage 1 of a judge's network.

        Raises:
            SegprefError: the recipe says of it what only a base can be.
        """
        for name, what in (
            ("model", "be an existing model"),
            ("start", "start from another one"),
            ("labels_of", "learn from a judge's labels"),
        ):
            if (value := getattr(stage, name)) is not None:
                raise SegprefError(
                    f"only a base can {what}: take `{name}: {value}` out of the judge in the recipe"
                )
        self.fit(stage, labelled, path, seed, validation, pool)

    def keep_recipe(self) -> None:
        """Write down the recipe, or refuse another one than that of the folder.

        Raises:
            SegprefError: the folder was begun with another recipe.
        """
        keep_recipe(self.out, self.recipe, self.reader.channels)

    def _refuse_changes(self) -> None:
        """Refuse a recipe, or files that it names, that were changed since the study has begun."""
        begun_with(self.out, self.recipe, self.reader.channels)
        given, kept = self.recipe.split_file, self._split_file(0)
        begun = given is not None and given.exists() and kept.exists()
        if given is not None and begun and Split.load(given) != Split.load(kept):
            raise SegprefError(
                f"{given} was changed since this study has begun: put the old one back, or write the "
                "study into a new folder"
            )
        self._refuse_other_models()

    def _refuse_other_models(self) -> None:
        for name, digest in self._kept_models().items():
            if self._digests.get(name, digest) != digest:
                raise SegprefError(
                    f"{self.existing[name].path} was changed since this study has begun: put the old "
                    "model back, or write the study into a new folder"
                )
