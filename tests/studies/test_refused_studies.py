"""Studies that can't be run as they are written are refused before anything is trained or written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segpref.data import Cache, Preparation, Reader
from segpref.studies import Block, Recipe, Stage1, Workspace, run_study
from segpref.studies.ambiguity import AmbiguityWorkspace, load_ambiguity_recipe
from segpref.studies.judging import ModelBased, Noisy, Together
from segpref.training import AlignConfig
from segpref.types import SegprefError

SPLIT = {"judge": 2, "validation": 2, "test": 3}
MANY = ModelBased(Stage1(labelled=999, unit="cases"))


@pytest.fixture
def workspace(tiny_unet: Any, heart_reader: Reader, store: Cache, tmp_path: Path) -> Workspace:
    recipe = Recipe(
        name="tiny",
        description="a test",
        split=SPLIT,
        network=tiny_unet(None, in_channels=None),
        preparation=Preparation(dims=2, size=(32, 32)),
        bases={"weak": Stage1(labelled=2)},
        judges={"model": ModelBased(Stage1(labelled=4, unit="cases"))},
        methods={"RN-DPO": AlignConfig()},
        seeds=[0],
    )
    return Workspace(recipe, heart_reader, tmp_path / "out", store)


def written(out: Path) -> set[str]:
    return {path.name for path in out.rglob("*") if path.is_file()} - {".lock"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bases": {"weak": Stage1(labelled=99)}}, r"weak, seed 0: 99 .*\(labelled and split in"),
        (
            {"bases": {"weak": Stage1(labelled=None)}},
            "weak, seed 0: no image is left to learn from",
        ),
        ({"judges": {"model": MANY}}, "model, seed 0: 999 labelled cases were asked for"),
        ({"judges": {"noisy": Noisy(MANY, 0.1)}}, "noisy, seed 0: 999 labelled cases"),
        ({"judges": {"both": Together([MANY, MANY])}}, "both, seed 0: 999 labelled cases"),
        (
            {"split": {"validation": 2, "test": 3}},
            "model, seed 0: 4 labelled cases were asked for, of 0",
        ),
    ],
)
def test_labels_that_the_split_has_not(
    workspace: Workspace, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SegprefError, match=said):
        run_study(replace(workspace, recipe=replace(workspace.recipe, **changes)))
    assert not written(workspace.out)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda of: replace(of, seeds=[]), r"the recipe leaves nothing to run \(seeds: \[\]\)"),
        (lambda of: replace(of, seeds=[1, 1]), "the recipe has 1 twice among its seeds"),
        (lambda of: Block("A", seeds=[]), r"the block 'A' leaves nothing to run \(seeds: \[\]\)"),
        (lambda of: Block("A", bases=[]), r"'A' leaves nothing to run \(bases: \[\]\)"),
        (lambda of: Block("A", judges=["j", "j"]), "'A' has j twice among its judges"),
        (
            lambda of: Block("A", sweep={"learning_rate": []}),
            r"nothing to run \(learning_rate: \[\]\)",
        ),
        (lambda of: Block("A", sweep={"beta": [1.0, 1]}), "'A' has 1 twice among its beta"),
    ],
)
def test_lists_that_leave_nothing_or_repeat(
    workspace: Workspace, make: Callable[[Recipe], object], said: str
) -> None:
    with pytest.raises(SegprefError, match=said):
        make(workspace.recipe)


def test_a_block_of_bases_alone_is_one() -> None:
    assert Block("A", judges=[], methods=[]).methods == []


def test_the_split_of_something_else_is_not_taken(workspace: Workspace) -> None:
    workspace.out.mkdir()
    file = workspace.out / "split.json"
    split = {"train": ["phantom000"], "judge": ["phantom001"], "validation": [], "test": []}
    file.write_text(json.dumps(split))
    for _ in range(2):
        with pytest.raises(SegprefError, match=r"split\.json holds another split of the patients"):
            replace(workspace).open()
    assert written(workspace.out) == {"split.json"}
    assert json.loads(file.read_text()) == split


def test_the_folder_of_a_run_is_no_study(workspace: Workspace) -> None:
    workspace.out.mkdir()
    (workspace.out / "run.json").write_text("{}")
    with pytest.raises(
        SegprefError, match=r"out holds a run of segpref fit or align \(run\.json\)"
    ):
        run_study(workspace)
    assert written(workspace.out) == {"run.json"}


def test_a_study_of_ambiguity_takes_no_other_split(heart_reader: Reader, tmp_path: Path) -> None:
    recipe = load_ambiguity_recipe("lidc-small")
    sizes = {"validation": 2, "test": 3}
    workspace = AmbiguityWorkspace(replace(recipe, split=sizes), heart_reader, tmp_path)
    assert len(workspace.split.test) == 3
    other = AmbiguityWorkspace(replace(recipe, split=sizes, split_seed=9), heart_reader, tmp_path)
    with pytest.raises(SegprefError, match=r"split\.json holds another split of the patients"):
        _ = other.split
