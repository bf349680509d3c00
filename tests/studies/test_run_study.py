from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from monai.losses import DiceLoss
from PIL import Image

from segpref.data import Cache, Preparation, Reader, Split
from segpref.objectives import DPO, CalibratedDPO
from segpref.policies import load_model, read_card
from segpref.proposals import SlateProposals, UniformOffset
from segpref.report import BASE, SELECT_BEST, markdown
from segpref.studies import (
    Block,
    Recipe,
    Results,
    Stage1,
    Task,
    Workspace,
    collect,
    plan,
    run_study,
    run_task,
    study_tables,
    write_study,
)
from segpref.studies.judging import JudgeInputs, ModelBased, Oracle
from segpref.training import AlignConfig
from segpref.types import Judge, SegprefError
from waiting import until


@dataclass(frozen=True)
class Broken:
    """A judge that can't be trained."""

    of_base = False

    def train(self, inputs: JudgeInputs) -> None:
        raise ValueError("out of order")

    def build(self, inputs: JudgeInputs) -> Judge:
        raise NotImplementedError


@pytest.fixture(scope="module")
def recipe(tiny_unet: Any) -> Recipe:
    stage = Stage1(labelled=2, epochs=4, images_per_epoch=16, learning_rate=2e-2)
    align = AlignConfig(epochs=2, images_per_epoch=8, candidates=8)
    return Recipe(
        name="tiny",
        description="a test",
        split={"judge": 2, "validation": 2, "test": 3},
        network=tiny_unet(None, in_channels=None),
        preparation=Preparation(dims=2, size=(32, 32)),
        bases={"weak": stage},
        judges={"weak": ModelBased(replace(stage, labelled=4, unit="cases"))},
        align=align,
        methods={
            "Top-1 pseudo-labelling": replace(align, method="pseudo-label"),
            "RN-DPO": replace(align, objective=DPO(beta=1.5), learning_rate=1e-3),
        },
        seeds=[0, 1],
    )


@pytest.fixture(scope="module")
def finished(
    recipe: Recipe, heart_reader: Reader, store: Cache, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Results, Workspace]:
    workspace = Workspace(recipe, heart_reader, tmp_path_factory.mktemp("study") / "out", store)
    return run_study(workspace), workspace


def times(folder: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("recipe.yaml", ".lock")
    }


def text_of(results: Results) -> str:
    return "\n".join(markdown(one.rows) for one in study_tables(results))


@pytest.mark.slow
def test_every_method_is_there_for_every_seed(finished: tuple[Results, Workspace]) -> None:
    results, workspace = finished
    assert not results.failed
    assert not results.missing
    (one,) = study_tables(results)
    entries = one.entries
    assert list(entries) == [BASE, SELECT_BEST, "Top-1 pseudo-labelling", "RN-DPO"]
    split = Split.load(workspace.out / "split.json")
    for name, runs in entries.items():
        assert [run.seed for run in runs] == [0, 1]
        for run in runs:
            assert {row["patient"] for row in run.test} == set(split.test)
            assert bool(run.test_last) == (name not in (BASE, SELECT_BEST))
            if run.folder is not None and name != BASE:
                assert (run.folder / "report.html").exists()
    assert set(results.audits) == {("weak", "weak", 0), ("weak", "weak", 1)}
    assert all(0 <= found["judge"]["pair_flip"] <= 1 for found in results.audits.values())


@pytest.mark.slow
def test_a_second_call_trains_nothing_and_says_the_same(
    finished: tuple[Results, Workspace],
) -> None:
    results, workspace = finished
    before = times(workspace.out)
    again = run_study(workspace)
    assert times(workspace.out) == before
    assert text_of(again) == text_of(results) == text_of(collect(workspace))


@pytest.mark.slow
def test_a_lost_file_is_made_again_and_is_the_same(finished: tuple[Results, Workspace]) -> None:
    results, workspace = finished
    run = Task(1, "run", "weak", "weak", "RN-DPO").folder(workspace.out)
    content, weights = (run / "test.csv").read_bytes(), (run / "last.safetensors").read_bytes()
    for name in ("test.csv", "summary.json", "state.safetensors", "last.safetensors"):
        (run / name).unlink()
    assert [task.name for task in collect(workspace).missing] == ["seed-1/runs/weak/weak/rn-dpo"]
    again = run_study(workspace)
    assert (run / "test.csv").read_bytes() == content
    assert (run / "last.safetensors").read_bytes() == weights
    assert text_of(again) == text_of(results)


@pytest.mark.slow
def test_nobody_is_in_two_roles(finished: tuple[Results, Workspace]) -> None:
    _, workspace = finished
    split = Split.load(workspace.out / "split.json")
    bases = [read_card(workspace.base_folder(seed, "weak")) for seed in (0, 1)]
    judges = [read_card(Task(seed, "judge", "", "weak").folder(workspace.out)) for seed in (0, 1)]
    assert all(set(card.labelled) <= set(split.train) for card in bases)
    assert all(set(card.labelled) <= set(split.judge) for card in judges)
    assert all(len(card.labelled) == 2 for card in bases)
    assert bases[0].labelled != bases[1].labelled
    assert set(workspace.pool(0, "weak").patients) == set(split.train) - set(bases[0].labelled)


@pytest.mark.slow
def test_base_and_judge_do_not_start_alike(finished: tuple[Results, Workspace]) -> None:
    _, workspace = finished
    base, judge = (
        workspace.base_folder(0, "weak"),
        Task(0, "judge", "", "weak").folder(workspace.out),
    )
    assert load_model(base)[0].digest() != load_model(judge)[0].digest()


@pytest.mark.slow
def test_fewer_seeds_may_be_asked_for(finished: tuple[Results, Workspace]) -> None:
    _, workspace = finished
    part = run_study(workspace, seeds=[1])
    assert {run.seed for run in part.runs} == {1}
    assert [row.seeds for row in study_tables(part)[0].rows] == [1, 1, 1, 1]


@pytest.mark.slow
def test_tables_figures_and_page_are_written(finished: tuple[Results, Workspace]) -> None:
    results, workspace = finished
    page = write_study(workspace, results)
    assert "RN-DPO, seed 1" in page.read_text()
    tables = (workspace.out / "tables.md").read_text()
    assert "| RN-DPO against Base |" in tables
    # What a judge is worth on each structure, not on their mean alone.
    structures = workspace.dataset.label_space.structures
    assert len(structures) > 1
    assert all(f"## Judges on validation, {name}\n" in tables for name in structures)
    assert (
        (workspace.out / "tables.csv")
        .read_text()
        .startswith("table,row,seeds,figure,mean,sd\nMethods,")
    )
    assert r"\toprule" in (workspace.out / "tables.tex").read_text()
    single, grid = (
        Image.open(path)
        for path in (
            next((workspace.out / "figures").glob("outlines-*-rn-dpo.png")),
            workspace.out / "figures" / "outlines.png",
        )
    )
    # Base and method side by side.
    assert grid.height > single.height
    assert grid.width > single.width


@pytest.mark.slow
def test_claims_can_be_computed_anew_from_the_written_scores(
    finished: tuple[Results, Workspace],
) -> None:
    results, workspace = finished
    write_study(workspace, results, pictures=1)
    runs, scores, curves = (
        list(csv.DictReader((workspace.out / name).open()))
        for name in ("runs.csv", "scores.csv", "curves.csv")
    )

    def named(line: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(line[name] for name in ("seed", "base", "judge", "method", "settings"))

    assert len({named(line) for line in runs}) == len(runs) == len(results.runs)
    assert {line["method"] for line in runs} == {*results.recipe.methods, BASE, SELECT_BEST}
    for line in runs:
        # The figure of a run is the mean of its lines over volumes, then over structures.
        by_weights: dict[str, dict[str, list[float]]] = {}
        for score in scores:
            if named(score) == named(line) and score["iou"]:
                by_structure = by_weights.setdefault(score["weights"], {})
                by_structure.setdefault(score["structure"], []).append(float(score["iou"]))
        figures = {"best": line["test_iou"], "last": line["test_iou_last"]}
        assert by_weights.keys() == {weights for weights, iou in figures.items() if iou}
        for weights, by_structure in by_weights.items():
            mean = np.mean([np.mean(values) for values in by_structure.values()])
            assert float(figures[weights]) == pytest.approx(mean)
        history = [float(one["val_iou"]) for one in curves if named(one) == named(line)]
        if line["method"] == SELECT_BEST:
            assert (history, line["folder"], line["peak_epoch"]) == ([], "", "")
            continue
        metrics = list(csv.DictReader((workspace.out / line["folder"] / "metrics.csv").open()))
        assert history == [float(one["val_iou"]) for one in metrics]
        assert history[int(line["peak_epoch"])] == float(line["val_iou_peak"]) == max(history[1:])
        assert bool(line["tail_avg"]) == (line["method"] != BASE)

    # A claim is paired by volume and structure; where only one has a structure, the other has 1.
    ious: dict[str, dict[tuple[str, ...], float]] = {"RN-DPO": {}, BASE: {}}
    for score in scores:
        if score["method"] in ious and score["iou"] and score["weights"] == "best":
            key = tuple(score[name] for name in ("patient", "seed", "volume", "structure"))
            ious[score["method"]][key] = float(score["iou"])
    gains: dict[str, dict[str, list[float]]] = {}
    for key in ious["RN-DPO"].keys() | ious[BASE].keys():
        gain = ious["RN-DPO"].get(key, 1.0) - ious[BASE].get(key, 1.0)
        gains.setdefault(key[0], {}).setdefault(key[1], []).append(gain)
    patients = [np.mean([np.mean(seed) for seed in one.values()]) for one in gains.values()]
    (claim,) = [
        one
        for one in study_tables(results)[0].claims
        if (one.method, one.other) == ("RN-DPO", BASE)
    ]
    assert claim.patients == len(patients)
    assert claim.mean == pytest.approx(np.mean(patients))


@pytest.mark.slow
def test_ways_of_making_candidates_stand_side_by_side(
    finished: tuple[Results, Workspace], tmp_path: Path
) -> None:
    results, workspace = finished
    write_study(workspace, results, pictures=1)
    assert not list((workspace.out / "figures").glob("*variance*"))
    named = workspace.recipe.methods
    methods = {
        "Labels": AlignConfig(method="supervised"),
        "Top-1 pseudo-labelling": named["Top-1 pseudo-labelling"],
        "RN-DPO": replace(named["RN-DPO"], families=[UniformOffset()]),
    }
    recipe = replace(workspace.recipe, methods=methods)
    page = write_study(
        replace(workspace, recipe=recipe), replace(results, recipe=recipe), pictures=1
    )
    assert "Where the candidates of weak differ" in page.read_text()
    figures = workspace.out / "figures"
    tiles = list(figures.glob("where-the-candidates-of-weak-differ-*.png"))
    ways = [re.sub(r".*-s\d-", "", tile.stem) for tile in tiles]
    assert sorted(ways) == ["rn-dpo", "rn-dpo", "top-1-pseudo-labelling", "top-1-pseudo-labelling"]
    with Image.open(figures / "variance-weak.png") as grid:
        assert grid.size == pytest.approx((2 * 240, 2 * 270), abs=5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"align": AlignConfig(epochs=3, images_per_epoch=8, candidates=8)}, r"\(align\)"),
        ({"methods": {"RN-DPO": AlignConfig(learning_rate=9e-3)}}, "methods: RN-DPO"),
        ({"bases": {"weak": Stage1(labelled=3)}}, "bases: weak"),
        ({"judges": {"weak": Oracle()}}, "judges: weak"),
        ({"preparation": Preparation(dims=2, crop=(32, 32))}, "preparation"),
        ({"split": {"judge": 3, "validation": 2, "test": 3}}, "split"),
        (
            {"methods": {"A b": AlignConfig(), "a-b": AlignConfig()}},
            "A b and a-b would share a folder",
        ),
        ({"grid": [Block(judges=["oracle"])]}, "'oracle' among its judges"),
        ({"grid": [Block(sweep={"objective.gamma": [1]})]}, "objective.gamma, which DPO does not"),
        ({"grid": [Block(sweep={"rate": [1]})]}, "rate, which AlignConfig does not"),
    ],
)
def test_a_recipe_that_was_changed_is_not_mixed_with_the_old_one(
    changes: dict[str, Any], said: str, finished: tuple[Results, Workspace]
) -> None:
    _, workspace = finished
    before = times(workspace.out)
    with pytest.raises(SegprefError, match=said):
        run_study(replace(workspace, recipe=replace(workspace.recipe, **changes)))
    assert times(workspace.out) == before


@pytest.mark.slow
def test_names_may_be_added(
    recipe: Recipe, heart_reader: Reader, store: Cache, tmp_path: Path
) -> None:
    one = replace(recipe, methods={}, seeds=[0])
    workspace = Workspace(one, heart_reader, tmp_path, store, SlateProposals(4, [UniformOffset()]))
    first = run_study(workspace)
    assert [list(one.entries) for one in study_tables(first)] == [[BASE, SELECT_BEST]]
    families = [family["family"] for family in first.audits["weak", "weak", 0]["families"]]
    assert families == ["anchor", "uniform-offset"]
    before = times(tmp_path)
    more = replace(one, methods=recipe.methods, judges={**recipe.judges, "oracle": Oracle()})
    grid = [Block("oracle", judges=["oracle"], methods=["RN-DPO"])]
    found = run_study(replace(workspace, recipe=replace(more, grid=grid)))
    assert [list(one.entries) for one in study_tables(found)] == [[BASE, SELECT_BEST, "RN-DPO"]]
    assert before.items() <= times(tmp_path).items()


@pytest.mark.slow
def test_a_calibrated_method_learns_what_the_audit_measured(
    recipe: Recipe, finished: tuple[Results, Workspace], tmp_path: Path
) -> None:
    _, workspace = finished
    shutil.copytree(workspace.out, tmp_path / "out")
    workspace = replace(workspace, out=tmp_path / "out")
    method = replace(recipe.align, objective=CalibratedDPO(beta=1.5), learning_rate=1e-3)
    one = replace(recipe, methods={**recipe.methods, "Calibrated": method}, seeds=[0])
    run = Task(0, "run", "weak", "weak", "Calibrated")
    audited = Task(0, "audit", "weak", "weak")
    assert audited in run.needs(one)
    assert audited not in replace(run, method="RN-DPO").needs(one)
    found = run_study(replace(workspace, recipe=one))
    assert found.of("Calibrated", "weak", "weak")
    mined = json.loads((audited.folder(workspace.out) / "audit.json").read_text())["mined"]
    settings = yaml.safe_load((run.folder(workspace.out) / "config.yaml").read_text())
    rates = settings["align"]["objective"]["flip_rates"]
    assert rates == [part["flip_rate"] for part in mined]
    assert rates
    path = audited.folder(workspace.out) / "audit.json"
    path.write_text(json.dumps({"judge": {}}))
    again = replace(one, methods={"Again": method})
    with pytest.raises(SegprefError, match=r"audit.json holds no flip rates"):
        run_task(replace(workspace, recipe=again), replace(run, method="Again"))


def test_a_sweep_is_a_run_for_every_combination(recipe: Recipe) -> None:
    sweep = {"objective.beta": [0.5, 1.5], "align.candidates": [8, 16], "learning_rate": [1e-4]}
    grid = [Block("K", methods=["RN-DPO"], sweep=sweep, seeds=[0]), Block(methods=["RN-DPO"])]
    tasks = [task for task in plan(replace(recipe, grid=grid)) if task.kind == "run"]
    assert [task.name.rpartition("/")[2] for task in tasks] == [
        "rn-dpo,objective.beta=0.5,learning_rate=0.0001",  # what the recipe has anyway is no change
        "rn-dpo,objective.beta=0.5,align.candidates=16,learning_rate=0.0001",
        "rn-dpo,learning_rate=0.0001",
        "rn-dpo,align.candidates=16,learning_rate=0.0001",
        "rn-dpo",
        "rn-dpo",
    ]
    config = tasks[1].config(recipe)
    assert config.objective == DPO(beta=0.5)
    assert (config.learning_rate, config.candidates, config.epochs) == (1e-4, 16, 2)


def test_needs_come_first(recipe: Recipe) -> None:
    judges = {**recipe.judges, "oracle": Oracle()}
    full = replace(recipe, judges=judges)
    order = plan(full)
    assert len(order) == len(set(order)) == 2 * (1 + 2 + 2 + 4)
    for place, task in enumerate(order):
        assert all(need in order[:place] for need in task.needs(full))


@pytest.mark.slow
def test_what_fails_takes_only_what_needs_it(
    recipe: Recipe, heart_reader: Reader, store: Cache, tmp_path: Path
) -> None:
    broken = replace(recipe, judges={"bad": Broken(), **recipe.judges}, seeds=[0])
    results = run_study(Workspace(broken, heart_reader, tmp_path, store))
    whys = results.failed
    assert "ValueError: out of order" in whys["seed-0/judges/bad"]
    assert "needs seed-0/judges/bad, which failed" in whys["seed-0/runs/weak/bad/rn-dpo"]
    assert all("/bad" in name for name in whys)
    assert len(whys) == 4
    assert "RN-DPO" in study_tables(results)[-1].entries
    assert "out of order" in (tmp_path / "seed-0/judges/bad/error.txt").read_text()
    page = write_study(Workspace(broken, heart_reader, tmp_path, store), results).read_text()
    assert "out of order" in page


@pytest.mark.slow
@pytest.mark.parametrize("where", [pytest.param("processes", marks=pytest.mark.long), "ray"])
def test_other_executors_find_the_same(
    where: str, finished: tuple[Results, Workspace], tmp_path: Path
) -> None:
    workspace = finished[1]
    elsewhere = replace(workspace, out=tmp_path, cache=Cache(tmp_path / "cache"))
    (tmp_path / "workspace.pkl").write_bytes(pickle.dumps(elsewhere))
    (tmp_path / "study.py").write_text(STUDY)
    command = [
        sys.executable,
        str(tmp_path / "study.py"),
        str(tmp_path / "workspace.pkl"),
        where,
        "0",
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    found = run_study(elsewhere, seeds=[0])
    assert text_of(found) == text_of(run_study(workspace, seeds=[0]))
    if where == "processes":  # Ray keeps what its workers print
        assert "stage 2" in (tmp_path / "seed-0/runs/weak/weak/rn-dpo/log.txt").read_text()


@pytest.mark.slow
def test_two_studies_do_not_share_a_folder(
    finished: tuple[Results, Workspace], tmp_path: Path
) -> None:
    _, workspace = finished
    with (
        Held(workspace.out / ".lock"),
        pytest.raises(SegprefError, match="another process is running"),
    ):
        run_study(workspace)


class Held:
    """A lock that another process holds."""

    def __init__(self, path: Path) -> None:
        code = (
            "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
            "print(1, flush=True); sys.stdin.read()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


STUDY = """
import pickle, sys
from segpref.studies.engine import Processes, RayCluster
from segpref.studies import run_study

if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        workspace = pickle.load(file)
    executor = Processes(2) if sys.argv[2] == "processes" else RayCluster("local")
    run_study(workspace, [int(seed) for seed in sys.argv[3:]] or None, executor)
"""


def files_in(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())


@pytest.mark.long
@pytest.mark.parametrize("where", ["processes", "ray"])
def test_a_study_that_is_killed_five_times_ends_with_the_same_table(
    where: str, finished: tuple[Results, Workspace], tmp_path: Path
) -> None:
    results, workspace = finished
    killed = replace(workspace, out=tmp_path / "out", cache=Cache(tmp_path / "cache"))
    (tmp_path / "workspace.pkl").write_bytes(pickle.dumps(killed))
    (tmp_path / "study.py").write_text(STUDY)
    command = [sys.executable, str(tmp_path / "study.py"), str(tmp_path / "workspace.pkl"), where]
    for least in (2, 10, 25, 40, 60):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until(
            lambda least=least, process=process: (
                files_in(killed.out) >= least or process.poll() is not None
            )
        )
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert collect(killed).missing
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    again = collect(killed)
    assert not again.missing
    assert text_of(again) == text_of(results)
    for seed in (0, 1):
        run = Task(seed, "run", "weak", "weak", "RN-DPO")
        ours, theirs = (run.folder(one.out) / "last.safetensors" for one in (killed, workspace))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_seeds_test_on_folds_and_bases_have_networks_and_losses_of_their_own(
    recipe: Recipe, heart_reader: Reader, store: Cache, tmp_path: Path, tiny_unet: Any
) -> None:
    other = replace(recipe.network, arguments={**recipe.network.arguments, "channels": [4, 8]})
    stage = replace(recipe.bases["weak"], labelled=None, epochs=1, loss=DiceLoss(softmax=True))
    align = AlignConfig(epochs=1, candidates=4, images="labelled")
    workspace = Workspace(
        replace(
            recipe,
            split={"validation": 2},
            folds=2,
            measures=["dice", "assd"],
            bases={"weak": replace(stage, network=other)},
            judges={"oracle": Oracle()},
            align=align,
            methods={
                "Supervised": replace(align, method="supervised"),
                "MAPO": replace(
                    align, reduction="image", supervised=0.5, loss=DiceLoss(softmax=True)
                ),
            },
            seeds=[0, 1, 2],
        ),
        heart_reader,
        tmp_path / "out",
        store,
    )
    results = run_study(workspace)
    assert not results.failed, results.failed
    (one,) = study_tables(results)
    tested = [{row["patient"] for row in run.test} for run in one.entries["MAPO"]]
    assert sorted(map(sorted, tested[:2])) == sorted(
        map(sorted, (set(workspace.split(s).test) for s in range(2)))
    )
    assert set.union(*tested) == {source.patient for source in heart_reader.sources()}
    assert tested[2] == tested[0]
    card = read_card(workspace.base_folder(0, "weak"))
    assert card.network.arguments["channels"] == [4, 8]
    assert set(card.labelled) == set(workspace.split(0).train)
    assert {claim.measure for claim in one.claims} == {"dice", "assd"}
    assert "ASSD" in one.columns
    write_study(workspace, results, pictures=1)
