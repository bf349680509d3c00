"""Recipes whose base is an existing model, and whose judge is people."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.collect.studies import HEART, small_study, untrained

from segpref import audit
from segpref.collect import Assignment, Rules, StudyFolder, VoteStore
from segpref.data import Cache, Folders, Preparation, Split
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.policies import read_card
from segpref.report import BASE, SELECT_BEST
from segpref.studies import (
    Block,
    Recipe,
    Results,
    Stage1,
    Task,
    Workspace,
    judges_of,
    load_recipe,
    plan,
    run_study,
    study_tables,
    write_study,
)
from segpref.studies.judging import Noisy, Oracle, Together, Votes
from segpref.training import AlignConfig
from segpref.types import SegprefError
from segpref.workflows import align
from vote_studies import vote_all, welcome

SHORT: Mapping[str, Any] = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "log_with": ()}
CONFIG = AlignConfig(**SHORT, candidates=8)


def larger(given: Assignment) -> str:
    """A rater who always likes the candidate with the larger number."""
    first, second = (mask.candidate for mask in given.masks)
    return "left" if first > second else "right"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study of votes; data, model and cache are beside it."""
    made = small_study(tmp_path_factory.mktemp("voted"), images=6, practice=0, gold=0.0, votes=2)
    with VoteStore(made.database) as store:
        store.create(made.contents(), Rules(repeats=0.0, gold=0.0))
        vote_all(store, welcome(store), larger)
    return made


def hearts(study: StudyFolder) -> Folders:
    return named_data(study, HEART)


def named_data(study: StudyFolder, names: tuple[str, ...]) -> Folders:
    data = study.path.parent / "data"
    return Folders(data, names=names, patient_pattern=PATIENT_PATTERN)


def recipe_of(study: StudyFolder, **changes: Any) -> Recipe:
    settings: dict[str, Any] = {
        "name": "people",
        "description": "votes beside a judge that knows the truth",
        "split": study.path / "split.json",
        "preparation": Preparation(dims=2, size=(32, 32)),
        "bases": {"ours": Stage1(model=study.path.parent / "base.safetensors")},
        "judges": {"oracle": Oracle(), "people": Votes([study.path])},
        "methods": {"RN-DPO": CONFIG, "Control": replace(CONFIG, control=True)},
        "align": CONFIG,
        "grid": [Block(compare="judges")],
        "seeds": [0],
    }
    return Recipe(**{**settings, **changes})


def workspace_of(study: StudyFolder, out: Path, **changes: Any) -> Workspace:
    return Workspace(
        recipe_of(study, **changes), hearts(study), out, Cache(study.path.parent / "cache")
    )


@pytest.fixture(scope="module")
def finished(
    study: StudyFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Results, Workspace]:
    workspace = workspace_of(study, tmp_path_factory.mktemp("study") / "out")
    for task in plan(workspace.recipe):
        if task.kind == "run" and (task.judge, task.method) != ("people", "RN-DPO"):
            # Whose pages are tested elsewhere, and take longer than the runs.
            task.folder(workspace.out).mkdir(parents=True)
            (task.folder(workspace.out) / "report.html").touch()
    return run_study(workspace), workspace


def same(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def folder_of(workspace: Workspace, method: str, judge: str = "people", seed: int = 0) -> Path:
    return Task(seed, "run", "ours", judge, method).folder(workspace.out)


@pytest.mark.slow
def test_a_study_learns_from_votes_as_align_does(
    finished: tuple[Results, Workspace], study: StudyFolder, tmp_path: Path
) -> None:
    results, workspace = finished
    assert not results.failed
    assert not results.missing
    base = study.path.parent / "base.safetensors"
    for name, control in (("RN-DPO", False), ("Control", True)):
        given = {"votes": study.path, "cache": workspace.cache.root, "control": control}
        split = {"split": study.path / "split.json"}
        alone = align(
            base, hearts(study), out=tmp_path / name, config=CONFIG, **given, **split
        ).runs[""]
        run = folder_of(workspace, name)
        assert same(run / "last.safetensors", alone.last)
        assert same(run / "best.safetensors", alone.best)
        assert json.loads((run / "summary.json").read_text()) == alone.read_summary()
    people, control, oracle = (
        folder_of(workspace, *one) / "last.safetensors"
        for one in (("RN-DPO",), ("Control",), ("RN-DPO", "oracle"))
    )
    assert not same(people, control)
    assert not same(people, oracle)


@pytest.mark.slow
def test_an_existing_base_is_kept_as_it_is(
    finished: tuple[Results, Workspace], study: StudyFolder
) -> None:
    results, workspace = finished
    base, model = workspace.base_folder(0, "ours"), study.path.parent / "base.safetensors"
    assert same(base / "best.safetensors", model)
    assert read_card(base).labelled == read_card(model).labelled == ("phantom000",)
    split = Split.load(workspace.out / "split.json")
    assert split == Split.load(study.path / "split.json")
    (run,) = results.of(BASE, "ours")
    assert {row["patient"] for row in run.test} == set(split.test)
    assert "phantom000" in split.train
    assert "phantom000" not in workspace.pool(0, "ours").patients
    assert set(workspace.base_cases(0, "ours").patients) == {"phantom000"}


@pytest.mark.slow
def test_people_stand_beside_other_judges_without_select_best(
    finished: tuple[Results, Workspace],
) -> None:
    results, workspace = finished
    (one,) = study_tables(results)
    assert list(one.entries) == [
        BASE,
        *(f"{name}, oracle judge" for name in (SELECT_BEST, "RN-DPO", "Control")),
        *(f"{name}, people judge" for name in ("RN-DPO", "Control")),
    ]
    assert one.controls == ["Control, oracle judge", "Control, people judge"]
    told = {(claim.method, claim.other) for claim in one.claims}
    assert ("RN-DPO, people judge", "RN-DPO, oracle judge") in told
    assert ("RN-DPO, people judge", "Control, people judge") in told
    rows, _ = judges_of(results)
    assert [row.method for row in rows] == [
        "ours base, oracle judge",
        "ours base, people judge (on the masks that people saw)",
    ]
    page = write_study(workspace, results).read_text()
    assert "on the masks that people saw" in page


@pytest.mark.slow
def test_the_audit_is_that_of_votes(
    finished: tuple[Results, Workspace], study: StudyFolder
) -> None:
    results, workspace = finished
    found = results.audits["ours", "people", 0]
    alone = audit(data=hearts(study), votes=study.path, cache=workspace.cache.root)
    assert found == json.loads(json.dumps(alone.as_dict()))


@pytest.mark.slow
def test_a_second_call_does_nothing_and_a_lost_run_comes_back(
    finished: tuple[Results, Workspace], study: StudyFolder
) -> None:
    results, workspace = finished

    def times() -> dict[Path, int]:
        own = (p for p in workspace.out.rglob("*") if p.is_file() and p.name != ".lock")
        kept = ("recipe.yaml", "models.json")
        return {path: path.stat().st_mtime_ns for path in own if path.name not in kept}

    before = times()
    again = workspace_of(study, workspace.out)
    # As text: figures that are unknown are not equal to themselves.
    assert str(run_study(again).runs) == str(results.runs)
    assert times() == before
    run = folder_of(workspace, "RN-DPO")
    last, test = (run / "last.safetensors").read_bytes(), (run / "test.csv").read_bytes()
    for name in ("last.safetensors", "summary.json", "state.safetensors", "test.csv"):
        (run / name).unlink()
    run_study(again)
    assert (run / "last.safetensors").read_bytes() == last
    assert (run / "test.csv").read_bytes() == test


@pytest.mark.slow
def test_other_votes_or_another_model_than_at_the_start_are_refused(
    study: StudyFolder, tmp_path: Path
) -> None:
    out, voted, model = tmp_path / "out", tmp_path / "study", tmp_path / "base.safetensors"
    shutil.copytree(study.path, voted)
    shutil.copyfile(study.path.parent / "base.safetensors", model)
    split = tmp_path / "split.json"
    shutil.copyfile(study.path / "split.json", split)
    changes: dict[str, Any] = {
        "bases": {"ours": Stage1(model=model)},
        "judges": {"people": Votes([voted])},
        "methods": {},
        "split": split,
    }
    assert not run_study(workspace_of(study, out, **changes)).failed
    with VoteStore(StudyFolder(voted).database) as store:
        rater = welcome(store, "ben")
        vote_all(store, rater, lambda given: "tie")
    with pytest.raises(SegprefError, match=r"votes in .* were changed since this study has begun"):
        run_study(workspace_of(study, out, **changes))
    before = split.read_text()
    content = json.loads(before)
    moved = content["test"].pop()
    split.write_text(json.dumps({**content, "train": [*content["train"], moved]}))
    with pytest.raises(SegprefError, match=r"split.json was changed since this study"):
        run_study(workspace_of(study, out, **changes))
    split.write_text(before)
    untrained(model, "phantom000", seed=1)
    with pytest.raises(SegprefError, match=r"base.safetensors was changed since this study"):
        run_study(workspace_of(study, out, **{**changes, "judges": {"oracle": Oracle()}}))


@pytest.mark.slow
def test_votes_about_patients_who_measure_are_left_out_and_counted(
    study: StudyFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with VoteStore(study.database) as store:
        records = store.preferences("train")
    cases = {case.id: case.patient for case in workspace_of(study, tmp_path).dataset}
    patients = [cases[one.case] for one in records]
    content = json.loads((study.path / "split.json").read_text())
    moved = patients[0]
    content["train"].remove(moved)
    content["test"].append(moved)
    split = tmp_path / "split.json"
    split.write_text(json.dumps(content))
    workspace = workspace_of(
        study, tmp_path / "out", split=split, judges={"people": Votes([study.path])},
        methods={"Calibrated": replace(CONFIG, method="calibrated")}, audits=False,
    )  # fmt: skip
    assert not run_study(workspace).failed
    run = folder_of(workspace, "Calibrated")
    told = json.loads((run / "summary.json").read_text())["votes"]
    gone = patients.count(moved)
    assert gone > 0
    assert told["preferences"] == len(records) - gone
    assert told["left out"]["of validation or test"] == gone
    printed = " ".join(capfd.readouterr().err.split())
    assert f"{gone} about patients of validation or test are left out" in printed


@pytest.mark.slow
def test_where_no_image_that_people_saw_has_a_label_they_are_not_audited(
    study: StudyFolder, tmp_path: Path
) -> None:
    shutil.copytree(study.path.parent / "data", tmp_path / "data")
    with VoteStore(study.database) as store:
        voted = {one.case for use in ("train", "choose") for one in store.preferences(use)}
    for case in voted:
        (label,) = (tmp_path / "data" / "labels").glob(f"{case}*")
        label.unlink()
    data = Folders(tmp_path / "data", names=HEART, patient_pattern=PATIENT_PATTERN)
    recipe = recipe_of(study, methods={})
    workspace = Workspace(recipe, data, tmp_path / "out", Cache(study.path.parent / "cache"))
    results = run_study(workspace)
    assert not results.failed
    assert [judge for _, judge, _ in results.audits] == ["oracle"]
    assert [run.judge for run in results.runs] == ["", "oracle"]


REFUSED: Mapping[str, tuple[Callable[[StudyFolder], dict[str, Any]], str]] = {
    "pseudo-labels": (
        lambda study: {"methods": {"Top-1": replace(CONFIG, method="pseudo-label")}},
        "Top-1: votes are preferences: leave method and feedback out",
    ),
    "a miner in a sweep": (
        lambda study: {"grid": [Block(sweep={"images": ["labelled"]})]},
        "RN-DPO, images labelled: images and write_preferences have no effect with votes",
    ),
    "a base that the study trains": (
        lambda study: {"bases": {"ours": Stage1(labelled=2)}},
        "votes are about masks of one model, and this base is trained by the study",
    ),
    "another model": (
        lambda study: {
            "bases": {
                "ours": Stage1(model=untrained(study.path.parent / "other.safetensors", seed=3))
            }
        },
        "this base did not make the masks that were voted on: write `model: .*base.safetensors`",
    ),
    "another preparation": (
        lambda study: {"preparation": Preparation(dims=2, size=(48, 48), normalise="z-score")},
        r"prepared with size: \[32, 32\], normalise: min-max, but the recipe's preparation says "
        r"size: \[48, 48\], normalise: z-score: write size: \[32, 32\], normalise: min-max there",
    ),
    "patients of the base in test": (
        lambda study: {"split": {"judge": 3, "validation": 3, "test": 5}},
        r"trained on labels of patients who are in \w+ here \(phantom000\): write .* into the recipe",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(REFUSED))
def test_what_does_not_fit_is_refused_before_anything_is_written(
    name: str, study: StudyFolder, tmp_path: Path
) -> None:
    changes, why = REFUSED[name]
    workspace = workspace_of(study, tmp_path / "out", **changes(study))
    with pytest.raises(SegprefError, match=why):
        run_study(workspace)
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left <= {".lock"}


@pytest.mark.slow
def test_votes_that_teach_nothing_are_refused_before_anything_is_written(
    study: StudyFolder, tmp_path: Path
) -> None:
    votes = tmp_path / "votes.db"
    with VoteStore(votes) as store:
        store.create(study.contents(), Rules(repeats=0.0, gold=0.0))
        vote_all(store, welcome(store), lambda _: "cant-tell")
    people = Votes([study.path], database=f"sqlite:///{votes}")
    workspace = workspace_of(study, tmp_path / "out", judges={"people": people})
    with pytest.raises(SegprefError, match=r"RN-DPO: nothing can be learned .* \(\d+ can't tell\)"):
        run_study(workspace)
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left <= {".lock"}


def test_a_model_of_other_labels_is_refused(study: StudyFolder, tmp_path: Path) -> None:
    data = named_data(study, ("background", "RV", "myocardium", "LV"))
    workspace = Workspace(recipe_of(study), data, tmp_path, Cache(tmp_path / "cache"))
    said = (
        r"labels of the data are multi-class background, \w+, .* predicts multi-class background, RV, "
        "MYO, LV: use the dataset that the model was made for"
    )
    with pytest.raises(SegprefError, match=said):
        workspace.open()


@pytest.mark.slow
def test_plain_weights_are_a_base_if_they_name_their_patients(
    study: StudyFolder, tmp_path: Path
) -> None:
    card = read_card(study.path.parent / "base.safetensors")
    described: dict[str, Any] = {
        "weights": str(study.path.parent / "base.safetensors"),
        "network": {"class_path": card.network.module, "init_args": dict(card.network.arguments)},
        "label_space": {"kind": "multi-class", "names": list(HEART)},
        "preparation": {"dims": 2, "size": [32, 32]},
    }
    model = tmp_path / "model.yaml"
    changes: dict[str, Any] = {"bases": {"ours": Stage1(model=model)}, "methods": {}}
    model.write_text(yaml.safe_dump(described))
    with pytest.raises(SegprefError, match="does not say which patients it was trained with"):
        workspace_of(study, tmp_path / "out", **changes).open()
    # By the name of an image of the patient.
    model.write_text(yaml.safe_dump({**described, "labelled": ["phantom000_t0_s0"]}))
    workspace = workspace_of(study, tmp_path / "out", **changes)
    assert not run_study(workspace).failed
    base = workspace.base_folder(0, "ours")
    assert same(base / "best.safetensors", study.path.parent / "base.safetensors")
    assert read_card(base).labelled == ("phantom000",)


def test_settings_beside_a_model_have_no_effect_and_are_refused() -> None:
    with pytest.raises(SegprefError, match="not trained: leave epochs and labelled out"):
        Stage1(model=Path("runs/base"), epochs=3, labelled=2)


def test_a_split_file_leaves_nothing_to_draw(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "name": "one", "description": "", "bases": {}, "judges": {}, "methods": {},
        "split": tmp_path / "split.json",
    }  # fmt: skip
    with pytest.raises(SegprefError, match="leave folds out"):
        Recipe(**settings, folds=2)
    with pytest.raises(SegprefError, match="leave split_seed out"):
        Recipe(**settings, split_seed=1)
    with pytest.raises(SegprefError, match="split must be at least 0"):
        Recipe(**{**settings, "split": {"test": -1}})


def test_a_password_is_not_kept_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="leave the password out of database"):
        Votes([tmp_path], "postgresql://segpref:secret@localhost/votes")
    assert Votes([tmp_path], "postgresql://segpref@localhost/votes").database


@pytest.mark.slow
def test_the_documented_recipe_opens(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guide" / "let-people-vote.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", guide.read_text(), re.DOTALL)
    file = tmp_path / "people.yaml"
    assert "size: [96, 96]" in block
    file.write_text(block.replace("size: [96, 96]", "size: [32, 32]"))
    monkeypatch.chdir(study.path.parent)
    recipe, _ = load_recipe(file)
    workspace = Workspace(recipe, hearts(study), tmp_path / "out", Cache(Path("cache")))
    workspace.open()
    assert {task.judge for task in plan(recipe) if task.kind == "run"} == {"oracle", "people"}
    assert {task.method for task in plan(recipe) if task.kind == "run"} == {"RN-DPO", "Control"}


def test_votes_are_no_part_of_another_judge(tmp_path: Path) -> None:
    votes = Votes([tmp_path])
    with pytest.raises(SegprefError, match="Votes can't be part of another judge"):
        Noisy(votes)
    with pytest.raises(SegprefError, match="Votes can't be part of another judge"):
        Together([Oracle(), votes])


def test_a_recipe_in_yaml_names_model_split_and_votes(tmp_path: Path) -> None:
    file = tmp_path / "people.yaml"
    text = {
        "name": "people", "description": "votes", "split": "study/split.json",
        "bases": {"ours": {"model": "runs/base"}},
        "judges": {
            "people": {
                "class_path": "segpref.studies.judging.Votes",
                "init_args": {"studies": ["study", "second"]},
            },
        },
        "methods": {"RN-DPO": {}},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(text))
    recipe, _ = load_recipe(file)
    assert recipe.split_file == Path("study/split.json")
    assert recipe.bases["ours"].model == Path("runs/base")
    people = recipe.judges["people"]
    assert isinstance(people, Votes)
    assert people.studies == [Path("study"), Path("second")]
    assert [task.name for task in plan(recipe, [0])] == [
        "seed-0/bases/ours",
        "seed-0/judges/ours/people",
        "seed-0/audits/ours/people",
        "seed-0/runs/ours/people/rn-dpo",
    ]
    text["bases"] = {"ours": {"model": "runs/base", "epochs": 2}}
    file.write_text(yaml.safe_dump(text))
    with pytest.raises(
        SegprefError, match="the base is runs/base, which is not trained: leave epochs"
    ):
        load_recipe(file)
