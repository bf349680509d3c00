"""Base, Select-best and every method of a recipe, on the same splits and seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpref.data.cache import Cache, key_digest, write_atomically
from segpref.data.dataset import Dataset, prepare
from segpref.data.source import Reader
from segpref.data.splits import Split, draw_cases, draw_patients, split_patients
from segpref.inference.evaluation import score_masks, score_model
from segpref.judges import ModelJudge
from segpref.miners import TopVsRandom
from segpref.policies import ModelCard, load_model, read_card
from segpref.progress import console
from segpref.proposals import SlateProposals
from segpref.studies.audit import audit
from segpref.studies.recipe import Method, Recipe, Stage1
from segpref.studies.slates import scored_slates, select_best
from segpref.training.folder import RunFolder
from segpref.training.preference import align
from segpref.training.supervised import fit
from segpref.types import SegprefError

__all__ = ["BASE", "SELECT_BEST", "Comparison", "Run", "compare"]

BASE = "Base"
SELECT_BEST = "Select-best"

Row = dict[str, str | float]


@dataclass(frozen=True, slots=True)
class Run:
    """One method with one seed.

    Args:
        method: its name.
        seed: of everything that was drawn.
        folder: of its training; None for Select-best, which trains nothing.
        summary: the training's figures.
        test: rows of the checkpoint with the best validation IoU.
        test_last: rows of the final weights; empty where there are none.
    """

    method: str
    seed: int
    folder: Path | None
    summary: Mapping[str, Any]
    test: Sequence[Mapping[str, str | float]]
    test_last: Sequence[Mapping[str, str | float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs of a recipe."""

    recipe: Recipe
    runs: tuple[Run, ...]
    audits: Mapping[int, Mapping[str, Any]]
    test: Dataset

    @property
    def methods(self) -> list[str]:
        """Names in the order of the table."""
        return list(dict.fromkeys(run.method for run in self.runs))

    def of(self, method: str) -> list[Run]:
        """The runs of a method, by seed."""
        return sorted((r for r in self.runs if r.method == method), key=lambda run: run.seed)


def compare(
    recipe: Recipe,
    reader: Reader,
    out: Path,
    cache: Cache | None = None,
    seeds: Sequence[int] | None = None,
    proposals: SlateProposals | None = None,
) -> Comparison:
    """Run a recipe; finished trainings and scores are taken from ``out``, unfinished ones go on.

    Args:
        recipe: what to compare.
        reader: the dataset.
        out: one folder per seed and method is made here.
        cache: where prepared images and predictions are kept.
        seeds: instead of the recipe's.
        proposals: instead of the default slates.
    """
    _check_names(recipe.methods)
    cache = cache or Cache()
    dataset = prepare(reader, recipe.preparation, cache)
    split_file = out / "split.json"
    if split_file.exists():
        split = Split.load(split_file)
    else:
        split = split_patients(reader, recipe.split, recipe.split_seed)
        split.save(split_file)
    runs: list[Run] = []
    audits = {}
    for seed in recipe.seeds if seeds is None else seeds:
        study = _Seed(recipe, reader, dataset, split, out / f"seed-{seed}", cache, seed, proposals)
        study.train_networks()
        audits[seed] = study.audited()
        runs += [study.base_run(), study.select_best_run()]
        runs += [study.method_run(name, method) for name, method in recipe.methods.items()]
    return Comparison(recipe, tuple(runs), audits, dataset.of_patients(split.test))


class _Seed:
    """Everything that one seed does."""

    def __init__(
        self,
        recipe: Recipe,
        reader: Reader,
        dataset: Dataset,
        split: Split,
        out: Path,
        cache: Cache,
        seed: int,
        proposals: SlateProposals | None,
    ) -> None:
        self.recipe, self.reader, self.out, self.cache, self.seed = recipe, reader, out, cache, seed
        self.validation = dataset.of_patients(split.validation).labelled()
        self.test = dataset.of_patients(split.test).labelled()
        self.proposals = proposals or SlateProposals(recipe.align.candidates)
        self.labelled = _drawn(dataset.of_patients(split.train).labelled(), recipe.base, seed)
        self.judge_cases = _drawn(dataset.of_patients(split.judge).labelled(), recipe.judge, seed)
        rest = [name for name in split.train if name not in self.labelled.patients]
        self.pool = dataset.of_patients(rest)

    def train_networks(self) -> None:
        """Stage 1 of base and judge."""
        self._fit("base", self.labelled, self.recipe.base)
        self._fit("judge", self.judge_cases, self.recipe.judge)

    def audited(self) -> dict[str, Any]:
        """Judge and slates on the validation set."""
        return self._kept(
            "audit.json",
            lambda: audit(
                load_model(self.out / "base")[0],
                self.validation,
                self._judge(),
                TopVsRandom(),
                self.proposals,
                self.seed,
            ).as_dict(),
        )

    def base_run(self) -> Run:
        """The base as it is."""
        folder = RunFolder(self.out / "base")
        test = self._scored(
            "base.csv",
            lambda: score_model(load_model(folder.best)[0], self.test, surface=True, slices=True),
        )
        return Run(BASE, self.seed, folder.path, folder.read_summary(), test, [])

    def select_best_run(self) -> Run:
        """The judge's favourite candidates of the base, without training."""

        def scores() -> list[Row]:
            policy, card = load_model(self.out / "base")
            slates = scored_slates(policy, self.test, self._judge(), self.proposals, self.seed)
            masks = select_best(slates, self.test)
            return score_masks(masks, card.label_space, surface=True, slices=True)

        return Run(SELECT_BEST, self.seed, None, {}, self._scored("select-best.csv", scores), [])

    def method_run(self, name: str, method: Method) -> Run:
        """Stage 2 with one method."""
        stage = self.recipe.align
        slug = _slug(name)
        folder = RunFolder(self.out / slug)
        settings = {
            "method": _plain(method),
            "align": _plain(stage),
            "seed": self.seed,
            "base": key_digest({"card": load_model(self.out / "base")[0].digest()}),
        }
        folder.open(settings, resume=True)
        console.print(f"[bold]{name}[/bold], seed {self.seed}")
        summary = align(
            self.out / "base",
            self.pool,
            self.validation,
            self._judge(),
            method.build(self.pool.label_space),
            folder,
            proposals=self.proposals,
            epochs=stage.epochs,
            images_per_epoch=stage.images_per_epoch,
            batch_size=stage.batch_size,
            learning_rate=method.learning_rate,
            seed=self.seed,
            cache=self.cache,
        )
        best = self._scored(
            f"{slug}.csv",
            lambda: score_model(load_model(folder.best)[0], self.test, surface=True, slices=True),
        )
        last = self._scored(
            f"{slug}-last.csv", lambda: score_model(load_model(folder.last)[0], self.test)
        )
        return Run(name, self.seed, folder.path, summary, best, last)

    def _fit(self, name: str, labelled: Dataset, stage: Stage1) -> None:
        recipe = self.recipe
        card = ModelCard(
            network=recipe.network.for_data(
                len(self.reader.channels), labelled.label_space.channels
            ),
            label_space=labelled.label_space,
            preparation=recipe.preparation,
            channels=self.reader.channels,
            labelled=labelled.patients,
        )
        folder = RunFolder(self.out / name)
        settings = {"stage": _plain(stage), "network": _plain(recipe.network), "seed": self.seed}
        folder.open(settings, resume=True)
        if folder.best.exists() and read_card(folder.best) != ModelCard.from_json(card.to_json()):
            raise SegprefError(
                f"{folder.path} was trained on other cases or with another preparation than the recipe "
                "says now: choose another --out, or delete that folder"
            )
        if not folder.finished:
            console.print(f"[bold]{name}[/bold] from {len(labelled)} cases, seed {self.seed}")
        fit(
            labelled,
            self.validation,
            card,
            folder,
            epochs=stage.epochs,
            images_per_epoch=stage.images_per_epoch,
            batch_size=stage.batch_size,
            learning_rate=stage.learning_rate,
            augment=stage.augment,
            # Base and judge must not share their initial weights.
            seed=self.seed if name == "base" else self.seed + 1000,
        )

    def _judge(self) -> ModelJudge:
        return ModelJudge(load_model(self.out / "judge")[0], self.cache)

    def _kept(self, name: str, compute: Any) -> dict[str, Any]:
        path = self.out / name
        if not path.exists():
            write_atomically(path, json.dumps(compute(), indent=1).encode())
        result = json.loads(path.read_text())
        assert isinstance(result, dict)
        return result

    def _scored(self, name: str, compute: Any) -> list[Row]:
        path = self.out / "test" / name
        if not path.exists():
            rows = compute()
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(path, text.getvalue().encode())
        with path.open(newline="") as file:
            return [_typed(row) for row in csv.DictReader(file)]


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c == "-" else "-" for c in name.lower())


def _check_names(names: Iterable[str]) -> None:
    taken = dict.fromkeys(("base", "judge", "test", "select-best"), "segpref itself")
    for name in names:
        if other := taken.get(_slug(name)):
            raise SegprefError(
                f"the method {name} would share its folder with that of {other}: rename it in the "
                "recipe"
            )
        taken[_slug(name)] = name


def _drawn(dataset: Dataset, stage: Stage1, seed: int) -> Dataset:
    if stage.unit == "cases":
        return draw_cases(dataset, stage.labelled, seed)
    return dataset.of_patients(draw_patients(dataset.patients, stage.labelled, seed))


def _typed(row: Mapping[str, str]) -> Row:
    names = ("volume", "patient", "structure")
    return {key: value if key in names else float(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda one: [type(one).__name__, _fields(one)]))


def _fields(one: Any) -> dict[str, Any]:
    from dataclasses import fields, is_dataclass

    return {f.name: getattr(one, f.name) for f in fields(one)} if is_dataclass(one) else {}
