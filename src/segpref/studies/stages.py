"""Stage 1 as recipes have it, and what no training of a recipe may say itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from segpref.data.dataset import Dataset
from segpref.data.splits import draw_cases, draw_patients
from segpref.policies import NetworkSpec
from segpref.settings import Settings, setting
from segpref.studies.recorded_settings import settings_of
from segpref.training.config import FitConfig, TrainingConfig
from segpref.types import SegprefError

__all__ = ["Labels", "Stage1", "refuse_empty", "refuse_seeds"]


@dataclass(frozen=True, kw_only=True)
class Labels(Settings):
    """Labelled cases that a seed draws."""

    labelled: int | None = setting(3, least=1)
    """How many labelled units are drawn; all for null."""

    unit: Literal["patients", "cases"] = "patients"
    """patients, or cases (slices in 2D)."""

    def drawn(self, cases: Dataset, seed: int) -> Dataset:
        """The labelled cases that the seed draws."""
        if self.labelled is None:
            return cases
        if self.unit == "cases":
            return draw_cases(cases, self.labelled, seed)
        return cases.of_patients(draw_patients(cases.patients, self.labelled, seed))


@dataclass(frozen=True, kw_only=True)
class Stage1(Labels, FitConfig):
    """Stage 1 of a base or of a judge: :class:`~segpref.training.FitConfig`, with fewer epochs."""

    epochs: int = setting(60, least=1)

    start: str | None = None
    """Name of another base whose weights are the beginning; random ones if left out."""

    labels_of: str | None = None
    """Name of a judge of the recipe whose own labelled cases the base learns from, too: what if the
    judge's labels had simply been used for training?"""

    network: NetworkSpec | None = None
    """Another network than the recipe's."""

    model: Path | None = None
    """An existing model, which is the base as it is: a run folder, a model file, or another format that
    can be aligned. Nothing is trained, so that no other setting has an effect. Of bases only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is None:
            return
        usual = {one.name: one.default for one in fields(self) if one.name != "model"}
        given = [name for name, value in usual.items() if getattr(self, name) != value]
        if given:
            raise SegprefError(
                f"the base is {self.model}, which is not trained: leave {' and '.join(given)} out"
            )


def refuse_seeds(recipe: object) -> None:
    """Refuse a recipe without seeds, and a seed of a single training, which would count for nothing.

    Raises:
        SegprefError: there are none, or one twice; or a training of the recipe has one.
    """
    refuse_empty("the recipe", seeds=getattr(recipe, "seeds", None))
    for place, config in _trainings(recipe):
        if config.seed:
            raise SegprefError(
                f"{place}: the seeds of a recipe are its own `seeds`: leave seed out here"
            )


def refuse_empty(where: str, **lists: Sequence[object] | None) -> None:
    """Refuse lists of what is to be run that leave nothing, or name something twice.

    Args:
        where: they stand.
        lists: by name; None for one that is left out.

    Raises:
        SegprefError: there is one.
    """
    for name, values in lists.items():
        if values is None:
            continue
        if not values:
            raise SegprefError(
                f"{where} leaves nothing to run ({name}: []): name some, or leave {name} out"
            )
        if twice := next((one for n, one in enumerate(values) if one in values[:n]), None):
            raise SegprefError(f"{where} has {twice} twice among its {name}: leave one out")


def _trainings(one: Any, place: str = "") -> Iterator[tuple[str, TrainingConfig]]:
    if isinstance(one, TrainingConfig):
        yield place, one
        return
    parts: Mapping[Any, Any] = {}
    if isinstance(one, Mapping):
        parts = one
    elif isinstance(one, list | tuple):
        parts = dict(enumerate(one, 1))
    elif hasattr(one, "__dataclass_fields__"):
        parts = settings_of(one)
    for name, part in parts.items():
        yield from _trainings(part, f"{place}: {name}" if place else str(name))
