"""The recipe of a study: one YAML file with everything except the path of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from jsonargparse import ArgumentParser, Namespace

from segpref.checking import check_range, checked
from segpref.data.names import check_folder_name
from segpref.data.preparation import Preparation
from segpref.policies import NetworkSpec
from segpref.report.runs import Measure
from segpref.studies.earlier import whole_methods
from segpref.studies.judging import JudgeRecipe
from segpref.studies.stages import Stage1, refuse_empty, refuse_seeds
from segpref.training.config import AlignConfig
from segpref.trust import read_yaml
from segpref.types import SegprefError

__all__ = [
    "Block",
    "Recipe",
    "default_network",
    "load_recipe",
    "parse_recipe",
    "read_recipe",
    "recipe_file",
    "recipe_names",
]

R = TypeVar("R")


@checked(seeds={"least": 0})
@dataclass(frozen=True)
class Block:
    """A part of the grid: every base with every judge, method, change and seed.

    Args:
        title: of the table.
        bases: names of bases; all where None.
        judges: names of judges; all where None.
        methods: names of methods; all where None.
        sweep: values to try instead of the recipe's, by setting: ``learning_rate`` (or
            ``align.learning_rate``) or another setting of stage 2, ``objective.beta`` or another one of
            its objective or ``miner``. Every combination becomes a run.
        seeds: instead of the recipe's.
        compare: what stands together in one table: the ``methods`` of one base and judge, all
            ``judges`` of a base, all ``bases`` with what a judge's methods make of them, or ``all``.
            Where there are several bases, the first, and the proposed method on it (with the first
            judge), is what the others are compared with, and whose gap is closed. Where there are
            several judges of one base, a method is also compared with itself under the first.
    """

    title: str = "Methods"
    bases: list[str] | None = None
    judges: list[str] | None = None
    methods: list[str] | None = None
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    seeds: list[int] | None = None
    compare: Literal["methods", "bases", "judges", "all"] = "methods"

    def __post_init__(self) -> None:
        where = f"the block {self.title!r}"
        refuse_empty(where, bases=self.bases, seeds=self.seeds)
        # A block may be of bases alone.
        refuse_empty(where, judges=self.judges or None, methods=self.methods or None)
        refuse_empty(where, **self.sweep)


@checked(seeds={"least": 0}, split_seed={"least": 0}, folds={"least": 2})
@dataclass(frozen=True)
class Recipe:
    """A study on one dataset.

    Args:
        name: what tables call it.
        description: what it is, in a sentence.
        split: patients per part, as counts or fractions; or a split file, such as the ``split.json``
            of a run folder.
        bases: the segmenters that are tuned, by name: stage 1 of each, or an existing model
            (``{model: runs/base}``).
        judges: by name.
        methods: stage 2, by the name that tables give them. Each is a whole configuration; in YAML it
            says what differs from ``align``.
        network: of bases and judges; :func:`default_network` where None.
        preparation: from image to network input.
        align: what methods share in YAML; K and families of the slates that audits see.
        grid: which of them are combined; everything with everything where it is empty.
        seeds: each draws the labelled cases and the judge's cases anew; the split stays.
        split_seed: of the split.
        folds: cross-validation for small datasets: patients are cut into so many folds, seed s tests
            on fold s (modulo their number), and ``split`` is of the others, without ``test``. One
            split for all seeds where None.
        measures: what claims are about: ``iou``, ``dice``, ``assd`` (mean surface distance, which
            tables then show).
        audits: whether every judge is audited on every base, which also gives Select-best; of no use
            where the judge is the truth.
        proposed: the method that the study is about: it is compared with all others of its tables,
            besides the base, and the page's verdict is about it.
        ceiling: the method that, with the oracle as judge, marks 100 % of *gap closed*; no such
            column where None.
    """

    name: str
    description: str
    split: dict[str, float] | Path
    bases: dict[str, Stage1]
    judges: dict[str, JudgeRecipe]
    methods: dict[str, AlignConfig]
    network: NetworkSpec | None = None
    preparation: Preparation = field(default_factory=Preparation)
    align: AlignConfig = field(default_factory=AlignConfig)
    grid: list[Block] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    split_seed: int = 0
    folds: int | None = None
    measures: list[Measure] = field(default_factory=lambda: ["iou"])
    audits: bool = True
    proposed: str | None = None
    ceiling: str | None = None

    def __post_init__(self) -> None:
        check_folder_name(self.name, "the recipe")  # of the study, where no --out is given
        refuse_seeds(self)
        if isinstance(self.split, Mapping):
            for value in self.split.values():
                check_range("Recipe: split", value, {"least": 0})
        elif self.folds is not None or self.split_seed:
            name = "split_seed" if self.folds is None else "folds"
            raise SegprefError(f"the split is that of {self.split}: leave {name} out")

    @property
    def split_file(self) -> Path | None:
        """The file of the split; None where it is drawn."""
        return None if isinstance(self.split, Mapping) else Path(self.split)

    @property
    def blocks(self) -> list[Block]:
        """The grid; one block with everything where it is left out."""
        return self.grid or [Block()]


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


def recipe_names(package: str = "segpref.studies") -> list[str]:
    """Names of the recipes that come with segpref."""
    folder = resources.files(package) / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())


def load_recipe(name: str | Path) -> tuple[Recipe, Mapping[str, Any]]:
    """A recipe by name or path, and its resolved settings."""
    return parse_recipe(recipe_file(name), Recipe, whole_methods)


def recipe_file(name: str | Path, package: str = "segpref.studies") -> Path:
    """The file of a recipe that comes with segpref, or of the user's own."""
    path, names = Path(name), recipe_names(package)
    if not path.suffix and str(name) in names:
        path = Path(str(resources.files(package) / "recipes" / f"{name}.yaml"))
    if not path.exists():
        raise SegprefError(
            f"there is no recipe {name}: name a YAML file or one of {', '.join(names)}"
        )
    return path


def parse_recipe(
    path: Path, kind: type[R], today: Callable[[Any], Any] = lambda content: content
) -> tuple[R, Mapping[str, Any]]:
    """What a YAML file says, as a class of recipes, and its resolved settings.

    Args:
        path: of the file.
        kind: class of the recipe.
        today: what was read, by the names that settings have today.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "recipe")
    try:
        settings: Namespace = parser.parse_object({"recipe": today(read_yaml(path))})
        recipe = parser.instantiate(settings).recipe
    except Exception as error:
        # YAML and jsonargparse report over several lines what is wrong.
        reason = " ".join(str(error).split())
        raise SegprefError(f"{path} is not a valid recipe: {reason}") from error
    assert isinstance(recipe, kind)
    return recipe, settings.recipe.as_dict()


def read_recipe(path: Path) -> dict[str, Any]:
    """The settings that a study keeps in its folder.

    Raises:
        SegprefError: the file is damaged.
    """
    content = read_yaml(path, "restore it, or choose another --out")
    if not isinstance(content, dict):
        raise SegprefError(f"{path} holds no settings: restore it, or choose another --out")
    return content
