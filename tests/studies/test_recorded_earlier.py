"""Studies that were recorded by earlier versions go on with today's recipes of their names.

``recorded_earlier.json`` holds what the version before the one configuration wrote of recipes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from segpref.data import Cache
from segpref.studies import (
    Recipe,
    Task,
    Workspace,
    as_recorded,
    changed_settings,
    load_recipe,
    plan,
    run_settings,
    same_settings,
    whole_methods,
)
from segpref.studies.ambiguity import alignment_settings, load_ambiguity_recipe
from segpref.studies.prompted import load_prompted, recipe_settings
from segpref.studies.prompted import run_settings as prompted_settings
from segpref.training import AlignConfig, RunFolder
from segpref.types import SegprefError

ZIPS = sorted(Path(__file__).parents[2].glob("docs/results/**/runs.zip"))
RENAMED = {
    '"coin": ': '"random-order": ',
    ", turned by a coin": ", random preferences",
    "Mean Dice, coin": "Mean Dice, random preferences",
}
"""Names in recipes that changed since; a study's folder from before keeps them in its recipe.yaml."""


def before() -> Any:
    """What is recorded, under today's names."""
    text = Path(__file__).with_name("recorded_earlier.json").read_text()
    for earlier, now in RENAMED.items():
        assert earlier in text
        text = text.replace(earlier, now)
    return json.loads(text)


BEFORE = before()
NOBODY: Any = SimpleNamespace(channels=("image",))


def tasks_of(recipe: Recipe, seeds: set[int]) -> dict[str, Task]:
    """Whatever the folder of a study may hold, by name."""
    bases = [Task(seed, "base", base) for seed in seeds for base in recipe.bases]
    return {task.name: task for task in (*bases, *plan(recipe))}


def test_there_are_recorded_studies() -> None:
    assert {path.parent.name for path in ZIPS} >= {"busi-mapo", "hippocampus-mapo"}


@pytest.mark.slow
@pytest.mark.parametrize("file", ZIPS, ids=lambda path: path.parent.name)
def test_a_published_study_goes_on(file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(file) as content:
        content.extractall(tmp_path)
    kept = sorted(tmp_path.rglob("recipe.yaml"))
    assert kept
    for path in kept:
        out = path.parent
        recipe, _ = load_recipe(yaml.safe_load(path.read_text())["name"])
        Workspace(recipe, NOBODY, out, Cache(tmp_path)).keep_recipe()
        assert all(task.finished(out) for task in plan(recipe))
        tasks = tasks_of(recipe, set(recipe.seeds))
        # One run that nothing asks for any more was stopped.
        notes = [path.with_name("run.json") for path in sorted(out.rglob("summary.json"))]
        assert len(notes) > len(recipe.methods)
        for note in notes:
            task = tasks[str(note.parent.relative_to(out))]
            recorded = json.loads(note.read_text())["settings"]
            now = {**run_settings(recorded), "seed": task.seed}
            if task.kind == "run":
                now["align"] = task.config(recipe)
            else:
                now["stage"] = recipe.bases[task.base]
            folder = RunFolder(note.parent)
            assert as_recorded(folder, now, run_settings) == recorded
            # Anything else is told apart.
            name = "align" if task.kind == "run" else "stage"
            other = {**now, name: replace(now[name], epochs=now[name].epochs + 1)}
            with pytest.raises(SegprefError, match="begun with other settings"):
                folder.refuse_others(as_recorded(folder, other, run_settings))


@pytest.mark.slow
def test_a_recipe_of_preferences() -> None:
    recipe, _ = load_recipe("acdc-small")
    before = whole_methods(BEFORE["acdc-small"])
    for section in ("bases", "judges", "methods"):
        now = getattr(recipe, section)
        assert before[section].keys() == now.keys()
        for name, one in now.items():
            assert same_settings(before[section][name], one), (section, name)
    assert same_settings(before["align"], recipe.align)
    control = before["methods"]["RN-DPO, random preferences"]
    assert not same_settings(control, recipe.methods["RN-DPO"])
    assert not same_settings({**control, "average": 0.5}, recipe.methods["RN-DPO"])


def test_a_study_of_prompts() -> None:
    recipe, _ = load_prompted("busi-small")
    before = BEFORE["prompted"]
    assert changed_settings(recipe_settings(before["recipe"]), recipe) == []
    other = replace(recipe, start=replace(recipe.start, halve_every=10))
    assert changed_settings(recipe_settings(before["recipe"]), other) == ["start"]
    assert recipe.align.feedback is not None
    said = replace(
        recipe.align.feedback,
        kind="rating",
        reduction="region",
        flip_rate=0.1,
        seed=recipe.seed + 3,
        reverse_rate=0.3,
    )
    runs = {
        "start": {"start": recipe.start},
        "stage1": {"stage1": recipe.stage1, "prompts": "text"},
        "unet": {"unet": recipe.unet},
        "align": {"align": replace(recipe.align, feedback=said)},
    }
    for name, now in runs.items():
        assert all_same(prompted_settings(before[name]), {**now, "seed": recipe.seed}), name
    wrong = {"align": recipe.align, "seed": recipe.seed}
    assert not all_same(prompted_settings(before["align"]), wrong)


@pytest.mark.parametrize("name", ["lidc-small", "lidc"])
def test_a_study_of_ambiguity(name: str) -> None:
    recipe, before = load_ambiguity_recipe(name), BEFORE[name]
    assert before["align"].keys() == recipe.methods_of(None).keys()
    assert before["fit"].keys() == {"AmbiSeg", *recipe.variants}
    for method, recorded in before["align"].items():
        named = run_settings(recorded, "stage", alignment_settings)
        now = {"align": recipe.methods[method], "seed": 0, "base": "x"}
        assert all_same(named, now), method
        other = replace(recipe.methods[method], tau=0.2)
        assert not all_same(named, {**now, "align": other})
    for variant, recorded in before["fit"].items():
        changes = recipe.variants[variant].fit if variant in recipe.variants else {}
        assert all_same(recorded, {"stage": recipe.stage1(changes), "seed": 0}), variant


def all_same(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return recorded.keys() == now.keys() and all(
        same_settings(recorded[name], one) for name, one in now.items()
    )


def test_an_average_of_zero_is_none() -> None:
    old = {"class": "AlignConfig", "average": 0.0}
    assert same_settings(old, AlignConfig())
    assert same_settings({**old, "average": None}, AlignConfig(average=0.0))
    assert not same_settings(old, AlignConfig(average=0.5))
    calibrated = AlignConfig(method="calibrated")
    assert same_settings({**old, "method": "calibrated", "average": 0.99}, calibrated)
    assert not same_settings({**old, "method": "calibrated"}, calibrated)


def test_colours_of_an_earlier_study_keep_a_range_each(tmp_path: Path) -> None:
    recipe, _ = load_recipe("phantoms")
    colours: Any = SimpleNamespace(channels=("red", "green", "blue"))
    for reader in (NOBODY, colours):
        Workspace(recipe, reader, tmp_path, Cache(tmp_path / "cache")).keep_recipe()
    kept = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    del kept["preparation"]["colour_range"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(kept))
    with pytest.raises(SegprefError, match=r"begun with another recipe \(preparation\)"):
        Workspace(recipe, colours, tmp_path, Cache(tmp_path / "cache")).keep_recipe()
    each = replace(recipe, preparation=replace(recipe.preparation, colour_range="each"))
    Workspace(each, colours, tmp_path, Cache(tmp_path / "cache")).keep_recipe()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(kept))
    # Of one channel it makes no difference.
    Workspace(recipe, NOBODY, tmp_path, Cache(tmp_path / "cache")).keep_recipe()
