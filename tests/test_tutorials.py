"""What the tutorials show works as it stands there, on phantoms.

That their commands exist and take their options is asked of every document in test_readme.py.
"""

from __future__ import annotations

import csv
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import segpref
from relabelled_hearts import foreign, rewritten
from segpref.cli.main import main
from segpref.data.phantoms import write_phantoms
from segpref.types import Candidate

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"


def blocks(page: str, language: str) -> list[str]:
    text = (TUTORIALS / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def own(mine: Path) -> Any:
    return importlib.import_module("mine")


def test_the_judge_prefers_masks_of_the_usual_size(own: Any) -> None:
    masks = np.zeros((3, 1, 4, 4), np.uint8)
    masks[0, 0, :2] = masks[1, 0, 1:3] = 1
    masks[2] = 1
    case = segpref.Case(id="a", patient="a", volume="a", image=np.zeros((1, 4, 4), np.float32))
    judge = own.NearMedian()
    assert isinstance(judge, segpref.Judge)
    scores = judge.score(case, segpref.Slate(masks, (Candidate("anchor"),) * 3))
    assert scores[:, 0].tolist() == [0, 0, -8]


@pytest.mark.parametrize(
    ("scores", "pairs"),
    [
        ([0.1, 0.4, np.nan, 0.3, 0.2], [[1, 0], [3, 4]]),
        ([0.1, 0.2, 0.3], [[2, 0]]),
        ([0.5, 0.5, 0.5, 0.5], []),
        ([np.nan, np.nan], []),
    ],
)
def test_the_miner_pairs_the_best_with_the_worst(
    own: Any, scores: list[float], pairs: list[list[int]]
) -> None:
    miner = own.BestVsWorst(2)
    assert isinstance(miner, segpref.Miner)
    found = miner(np.array(scores), np.random.default_rng(0))
    assert found.tolist() == pairs
    assert found.shape[1] == 2


def test_the_objective_is_lowest_at_its_target(own: Any) -> None:
    policy = torch.tensor([0.5, 2.0], requires_grad=True)
    margins = segpref.Margins(policy, torch.zeros(2), torch.ones(2))
    losses = own.Squared(1.0)(margins)
    losses.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [-1, 2]


@pytest.mark.usefixtures("mine")
def test_the_new_loss_and_its_judge() -> None:
    new: Any = importlib.import_module("newloss")
    policy = torch.tensor([0.0, 1.0, 3.0], requires_grad=True)
    losses = new.Clipped(enough=2.0)(segpref.Margins(policy, torch.zeros(3), torch.ones(3)))
    losses.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([-0.5, -1 / (1 + np.e), 0])
    masks = np.zeros((3, 1, 6, 6), np.uint8)
    masks[0, 0, 1:3, 1:3] = masks[1, 0, 1, 1:5] = 1
    case = segpref.Case(id="a", patient="a", volume="a", image=np.zeros((1, 6, 6), np.float32))
    scores = new.Round().score(case, segpref.Slate(masks, (Candidate("anchor"),) * 3))
    assert scores[0, 0] > scores[1, 0]
    assert np.isnan(scores[2, 0])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGPREF_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("mine")
def test_classes_of_ones_own_from_python_and_the_command_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "your-own-classes.md"
    _, audit, train = blocks(page, "python")
    for source in (audit, train):
        exec(compile(source, page, "exec"), {})
    told = capsys.readouterr().out
    assert "pairs the wrong way round: 0." in told
    assert "what its favourites gain: " in told
    orders = {}
    for run in ("own", "control"):
        kept = yaml.safe_load(Path(f"runs/{run}/config.yaml").read_text())
        assert kept["judge"]["class_path"] == "mine.NearMedian"
        assert kept["miner"] == {"class_path": "mine.BestVsWorst", "init_args": {"count": 2}}
        assert kept["objective"] == {"class_path": "mine.Squared", "init_args": {"target": 0.5}}
        orders[run] = (place / f"runs/{run}/last.safetensors").read_bytes()
    assert orders["own"] != orders["control"]

    (line,) = blocks(page, "text")
    short = ["--epochs", "1", "--images_per_epoch", "8", "--candidates", "4"]
    assert main([*shlex.split(line)[1:], *short]) == 0
    kept = yaml.safe_load(Path("runs/line/config.yaml").read_text())
    assert kept["miner"] == {"class_path": "mine.BestVsWorst", "init_args": {"count": 3}}


@pytest.mark.slow
def test_labels_of_others_are_mapped(
    place: Path,
    heart_folder: Path,
    heart_base: Path,
    heart_judge: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = "../guide/other-labels.md"
    rewritten(heart_folder, place / "THEIRS", foreign)
    Path("runs").mkdir()
    for name, run in (("base", heart_base), ("judge", heart_judge)):
        Path("runs", name).symlink_to(run)
    (source,) = blocks(page, "python")
    exec(compile(source, page, "exec"), {})
    told = capsys.readouterr().out
    assert "scored: RV, LV\njudged on: RV, LV\n" in told

    (config,) = blocks(page, "yaml")
    Path("labels.yaml").write_text(config)
    (lines,) = blocks(page, "text")
    line = shlex.split(lines.splitlines()[0])[1:]
    assert main([*line, "--out", "line.csv"]) == 0
    assert main([*line[: line.index("--labels")], "--config", "labels.yaml", "--out", "a.csv"]) == 0
    assert Path("a.csv").read_bytes() == Path("line.csv").read_bytes()


@pytest.mark.slow
def test_the_study_ends_with_the_files_that_it_names(place: Path) -> None:
    page = "study.md"
    (recipe,) = blocks(page, "yaml")
    Path("mine.yaml").write_text(recipe)
    write_phantoms("DATA", "cardiac", (32, 32), 22, seed=0, slices_per_patient=2)
    (lines,) = blocks(page, "text")
    pattern = ["--data_options", '{"patient_pattern": "(phantom\\\\d+)"}']
    listed, run = (shlex.split(line)[1:] for line in lines.splitlines())
    assert main([*listed, *pattern]) == 0
    assert not Path("runs/mine/tables.md").exists()
    run[run.index("--workers") + 1] = "0"  # in this process
    assert main([*run, *pattern, "--seeds", "[0]"]) == 0
    named = re.findall(r"^\| (`.*?) \|", (TUTORIALS / page).read_text(), re.MULTILINE)
    names = [name for row in named for name in re.findall(r"`([\w./-]+?)(?:/\.\.\.|/)?`", row)]
    assert {"tables.tex", "figures", "seed-0"} <= set(names)
    for name in names:
        assert (Path("runs/mine") / name).exists(), name
    with Path("runs/mine/tables.csv").open() as file:
        told = {value for row in csv.reader(file) for value in row}
    assert {"DPO", "RN-DPO", "Control"} <= told
