"""Commands on data whose structures, and a recipe whose methods, have names that mean something."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from segpref.cli.main import main
from segpref.data.phantoms import write_phantoms
from segpref.studies import recipe_file
from small_network import network_option

NAMES = ("background", "[/red]", "=1+1", "a|b$x$\\\x1b[2J\u202e")
METHODS = {"-1+1 [/bold]": "DPO", "@a|b\\": "RN-DPO"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("[bold] names")
    write_phantoms(folder / "data", "cardiac", (32, 32), 12, seed=0, slices_per_patient=1)
    short = ["--epochs", "1", "--images_per_epoch", "8", "--preparation.size", "[32, 32]"]
    assert (
        run("fit", folder, "--out", str(folder / "run"), "--network", network_option(), *short) == 0
    )
    return folder


def run(command: str, place: Path, *options: str) -> int:
    reading = json.dumps({"patient_pattern": r"(phantom\d+)", "names": NAMES})
    given = ["--data", str(place / "data"), "--data_options", reading]
    return main([command, *given, "--cache", str(place / "cache"), *options])


def check_printed(capsys: pytest.CaptureFixture[str]) -> str:
    printed = "".join(capsys.readouterr())
    assert not set(printed) & set("\x1b\u202e")
    return printed


def check_cells(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        lines = list(csv.reader(stream))
    for cell in (cell for line in lines for cell in line):
        assert cell[:1] not in tuple("=@\t\r") or not cell
        assert cell[:1] not in tuple("+-") or float(cell) is not None
    return lines


def test_scores_are_shown_and_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "scores.csv"
    assert run("evaluate", place, "--model", str(place / "run"), "--out", str(out)) == 0
    printed = check_printed(capsys)
    assert "[/red]" in printed
    assert "=1+1" in printed
    assert {line[2] for line in check_cells(out)[1:]} == {"[/red]", "'=1+1", NAMES[3]}


def test_an_audit_is_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(place / "run"), "--judge", "oracle", "--candidates", "4"]
    assert run("audit", place, *model, "--out", str(place / "audit.json")) == 0
    check_printed(capsys)


def test_a_study_is_shown_and_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = yaml.safe_load(recipe_file("phantoms").read_text())
    short = {"epochs": 1, "images_per_epoch": 8}
    recipe["preparation"]["size"] = [32, 32]
    recipe["split"] = {"judge": 2, "validation": 2, "test": 2}
    recipe["network"]["arguments"] |= {"channels": [4, 8], "strides": [2]}
    recipe["bases"]["weak"] |= {**short, "labelled": 2}
    recipe["judges"]["weak"]["init_args"]["train_on"] |= {**short, "labelled": 2}
    recipe["align"] |= {**short, "candidates": 4}
    recipe["methods"] = {name: recipe["methods"][usual] for name, usual in METHODS.items()}
    recipe |= {"seeds": [0], "proposed": "@a|b\\", "name": "[red] 1", "description": "[/red]\x1b"}
    file, out = place / "recipe.yaml", place / "study"
    file.write_text(yaml.safe_dump(recipe))
    assert run("study", place, "--recipe", str(file), "--out", str(out), "--workers", "0") == 0
    printed = check_printed(capsys)
    assert "-1+1 [/bold]" in printed
    for name in ("tables.csv", "runs.csv", "scores.csv", "curves.csv"):
        check_cells(out / name)
    for name in ("report.html", "tables.md", "tables.tex"):
        assert not set((out / name).read_text()) & set("\x1b\u202e")
    assert (out / "figures" / "outlines.png").exists()
