"""A study goes on where settings that change no result were added or removed since it was begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from segpref.data import Cache, Reader
from segpref.objectives import DPO
from segpref.policies import NetworkSpec
from segpref.proposals import UniformOffset
from segpref.studies import (
    Recipe,
    Stage1,
    Workspace,
    as_recorded,
    changed_settings,
    plain,
    same_settings,
)
from segpref.studies.judging import ModelBased, Noisy, Oracle
from segpref.training import AlignConfig, RunFolder
from segpref.types import SegprefError


class Own:
    """An object of the user's, with settings but no dataclass."""

    def __init__(self, width: int, depth: int = 2) -> None:
        self.width, self.depth = width, depth
        self._cache: object = None


@dataclass(frozen=True)
class Stage:
    rate: float = 0.1
    inner: Own | None = None
    names: tuple[str, ...] = ("a",)
    more: dict[str, Any] = field(default_factory=dict)
    removed: ClassVar[dict[str, Any]] = {"momentum": 0.9}


def without(settings: Any, *names: str) -> dict[str, Any]:
    found: dict[str, Any] = plain(settings)
    return {name: value for name, value in found.items() if name not in names}


@pytest.mark.parametrize(
    ("recorded", "now", "same"),
    [
        (plain(Stage()), Stage(), True),
        (without(Stage(), "rate", "names", "more", "inner"), Stage(), True),
        (without(Stage(), "rate"), Stage(rate=0.2), False),
        (without(Stage(), "names"), Stage(names=("b",)), False),
        (plain(Stage(rate=0.2)), Stage(), False),
        ({**plain(Stage()), "momentum": 0.9}, Stage(), True),
        ({**plain(Stage()), "momentum": 0.5}, Stage(), False),
        ({**plain(Stage()), "unknown": 1}, Stage(), False),
        ({**plain(Stage()), "class": "Other"}, Stage(), False),
        ({**plain(Stage()), "inner": without(Own(3), "depth")}, Stage(inner=Own(3)), True),
        ({**plain(Stage()), "inner": without(Own(3), "depth")}, Stage(inner=Own(3, 4)), False),
        ({**plain(Stage()), "inner": without(Own(3), "width")}, Stage(inner=Own(3)), False),
        ({"weak": without(Stage(), "rate")}, {"weak": Stage()}, True),
        ({"weak": plain(Stage())}, {"weak": Stage(), "strong": Stage()}, False),
        ([without(Stage(), "rate")], [Stage()], True),
        ([plain(Stage())], [Stage(), Stage()], False),
        (plain(Stage()), None, False),
        (None, Stage(), False),
        (str(Stage()), Stage(), True),
        (1, 1.0, True),
    ],
)
def test_settings_are_the_same_where_they_mean_the_same(
    recorded: Any, now: Any, same: bool
) -> None:
    assert same_settings(recorded, now) is same


def test_what_changed_is_named() -> None:
    assert changed_settings(without(Stage(), "rate"), Stage(names=("b",))) == ["names"]
    assert changed_settings({**plain(Stage()), "unknown": 1}, Stage()) == ["unknown"]


def test_a_run_folder_from_before_a_setting_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    before = {"stage": without(Stage1(epochs=4), "loss", "dropout"), "seed": 0}
    folder.open(before, resume=True)
    settings = {"stage": Stage1(epochs=4), "seed": 0}
    assert as_recorded(folder, settings) == before
    folder.open(as_recorded(folder, settings), resume=True)
    idle = {**settings, "stage": Stage1(epochs=4, log_with=(), checkpoint_seconds=1.0)}
    assert as_recorded(folder, idle) == before
    # The name that log_with had once.
    old = {**plain(Stage1(epochs=4)), "trackers": ["tensorboard"]}
    assert not changed_settings(old, Stage1(epochs=4))
    for changed in (Stage1(epochs=4, dropout=0.5), Stage1(epochs=5)):
        with pytest.raises(SegprefError, match=r"begun with other settings \(stage\)"):
            folder.open(as_recorded(folder, {**settings, "stage": changed}), resume=True)


@pytest.fixture
def recipe(tiny_unet: Callable[..., NetworkSpec]) -> Recipe:
    return Recipe(
        name="tiny",
        description="a test",
        split={"judge": 2, "validation": 2, "test": 3},
        network=tiny_unet(None, in_channels=None),
        bases={"weak": Stage1(epochs=4)},
        judges={"weak": ModelBased(Stage1(epochs=4)), "noisy": Noisy(Oracle(), flip_rate=0.1)},
        methods={"RN-DPO": AlignConfig(objective=DPO(beta=1.5), families=[UniformOffset()])},
    )


def strip(settings: Any, names: tuple[str, ...]) -> Any:
    """Recorded settings as of a version that did not have some of them."""
    if isinstance(settings, dict):
        return {name: strip(one, names) for name, one in settings.items() if name not in names}
    return [strip(one, names) for one in settings] if isinstance(settings, list) else settings


NEWER = (
    "folds",
    "split_seed",
    "refresh",
    "optimizer",
    "pool",
    "dropout",
    "loss",
    "average",
    "size_bias",
)


def test_a_study_from_before_defaulted_settings_goes_on(
    recipe: Recipe, heart_reader: Reader, store: Cache, tmp_path: Path
) -> None:
    workspace = Workspace(recipe, heart_reader, tmp_path, store)
    workspace.open()
    file = tmp_path / "recipe.yaml"
    kept = yaml.safe_load(file.read_text())
    old = {**strip(kept, NEWER), "network": kept["network"]}
    assert old != plain(recipe)
    file.write_text(yaml.safe_dump(old))
    workspace.open()
    for change, said in (
        ({"folds": 3, "split": {"validation": 2}}, "split, folds"),
        ({"align": AlignConfig(refresh=2)}, "align"),
        ({"bases": {"weak": Stage1(epochs=4, dropout=0.5)}}, "bases: weak"),
        ({"judges": {"noisy": Noisy(Oracle(), flip_rate=0.1, size_bias=1.0)}}, "judges: noisy"),
        ({"methods": {"RN-DPO": AlignConfig(objective=DPO(beta=2.0))}}, "methods: RN-DPO"),
    ):
        file.write_text(yaml.safe_dump(old))
        changed = replace(workspace, recipe=replace(recipe, **change))
        with pytest.raises(SegprefError) as caught:
            changed.open()
        assert said in str(caught.value)
