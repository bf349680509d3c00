"""Scores of groups of patients."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import segpref
from segpref.cli.main import main
from segpref.report import bootstrap_interval, by_subgroup, read_groups
from segpref.types import SegprefError

ROWS = [
    {"volume": "a1", "patient": "a", "structure": "LV", "dice": 0.5},
    {"volume": "a1", "patient": "a", "structure": "RV", "dice": 0.7},
    {"volume": "b1", "patient": "b", "structure": "LV", "dice": 0.9},
    {"volume": "b1", "patient": "b", "structure": "RV", "dice": float("nan")},
    {"volume": "c1", "patient": "c", "structure": "LV", "dice": 0.1},
    {"volume": "d1", "patient": "d", "structure": "LV", "dice": float("nan")},
]


def table(place: Path, text: str) -> Path:
    place.write_text(text)
    return place


def test_the_mean_of_each_group_and_its_interval(tmp_path: Path) -> None:
    # No line break at the end, a byte order mark, and somebody whom nobody scored.
    text = "\ufeffid,patient,sex,scanner\n1,a,f,A\n2,a,f,A\n3,b, f ,\n4,z,m,B\n5,d,m,B"
    found = by_subgroup(ROWS, read_groups(table(tmp_path / "t.csv", text)))
    shown = [(one.column, one.group, one.patients, round(one.mean, 6)) for one in found]
    assert shown == [
        ("sex", "f", 2, 0.75), ("sex", "not stated", 1, 0.1),
        ("scanner", "A", 1, 0.6), ("scanner", "not stated", 2, 0.5),
    ]  # fmt: skip
    assert (found[0].low, found[0].high) == bootstrap_interval(np.array([0.6, 0.9]))
    assert np.isnan([found[1].low, found[1].high]).all()
    chosen = read_groups(tmp_path / "t.csv", ["scanner"])
    assert chosen.columns == ("scanner",)


def test_numbers_are_cut_at_their_quartiles(tmp_path: Path) -> None:
    lines = "\n".join(f"p{age},{age},{age % 3}" for age in range(20, 61))
    groups = read_groups(table(tmp_path / "t.csv", f"patient,age,site\n{lines}\n"))
    ages = {age: groups.group(f"p{age}", "age") for age in range(20, 61)}
    assert [ages[age] for age in (20, 30, 31, 40, 41, 60)] == [
        "20 to 30", "20 to 30", "30 to 40", "30 to 40", "40 to 50", "50 to 60",
    ]  # fmt: skip
    assert {groups.group(f"p{age}", "site") for age in ages} == {"0", "1", "2"}
    rows = [{"patient": f"p{age}", "dice": age / 100} for age in ages]
    order = [one.group for one in by_subgroup(rows, groups) if one.column == "age"]
    assert order == ["20 to 30", "30 to 40", "40 to 50", "50 to 60"]


@pytest.mark.parametrize(
    ("text", "by", "said"),
    [
        ("id,sex\na,f\n", None, r"no column patient \(its columns: id, sex\)"),
        ("patient,sex\na,f\n", ["age"], "no column age"),
        ("patient,sex\na,f\n", ["patient"], "no column patient"),
        ("patient\na\n", None, "nothing but patients"),
        ("patient,sex\n,f\n", None, "row 1 names no patient"),
        ("patient,sex\na,f\na,m\n", None, "says of a that sex is 'f' and 'm'"),
        ("patient,sex\na,f\na,\n", None, "is 'f' and 'not stated'"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, by: list[str] | None, said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        read_groups(table(tmp_path / "t.csv", text), by)


@pytest.mark.slow
def test_groups_from_the_command_line(
    heart_base: Path, heart_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = '{"names": ["background", "RV", "MYO", "LV"], "patient_pattern": "(phantom[0-9]+)"}'
    lines = "\n".join(f"phantom{number:03d},{'mf'[number % 2]}" for number in range(12))
    groups = table(tmp_path / "patients.csv", f"patient,sex\n{lines}\n")
    given = ["evaluate", "--model", str(heart_base), "--data", str(heart_folder),
             "--data_options", pattern, "--cache", str(tmp_path / "cache"),
             "--out", str(tmp_path / "scores.csv")]  # fmt: skip
    assert main([*given, "--groups", str(groups)]) == 0
    assert "Mean Dice of each group" in capsys.readouterr().out
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["patient"]: row["group_sex"] for row in rows} == {
        patient: "mf"[int(patient[-1]) % 2] for patient in {row["patient"] for row in rows}
    }
    others = table(tmp_path / "others.csv", "patient,sex\nsomebody,f\n")
    assert main([*given, "--groups", str(others)]) == 1
    assert "says nothing of any patient who is scored" in capsys.readouterr().err
    # What is wrong with the table is said before anything is opened.
    with pytest.raises(SegprefError, match="give the table as groups"):
        segpref.evaluate(tmp_path / "gone", heart_folder, by=["sex"])
    with pytest.raises(SegprefError, match="no column age"):
        segpref.evaluate(tmp_path / "gone", heart_folder, groups=groups, by=["age"])


@pytest.mark.slow
def test_a_run_has_the_groups_of_its_validation_patients(
    heart_base: Path, heart_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = '{"names": ["background", "RV", "MYO", "LV"], "patient_pattern": "(phantom[0-9]+)"}'
    lines = "\n".join(
        f"phantom{number:03d},{20 + number},{'mf'[number % 2]}" for number in range(12)
    )
    groups = table(tmp_path / "patients.csv", f"patient,age,sex\n{lines}\n")
    run = tmp_path / "run"
    given = ["align", "--model", str(heart_base), "--data", str(heart_folder), "--judge", "oracle",
             "--data_options", pattern, "--cache", str(tmp_path / "cache"), "--out", str(run),
             "--epochs", "1", "--images_per_epoch", "4", "--candidates", "6"]  # fmt: skip
    others = table(tmp_path / "others.csv", "patient,sex\nsomebody,f\n")
    assert main([*given, "--groups", str(others)]) == 1
    assert "says nothing of any patient who is scored" in capsys.readouterr().err
    assert main([*given, "--by", "[sex]"]) == 1
    assert "give the table as groups" in capsys.readouterr().err
    assert not run.exists()
    assert main([*given, "--groups", str(groups), "--by", "[sex]"]) == 0
    kept = read_groups(run / "groups.csv")
    with (run / "validation.csv").open() as file:
        scores = list(csv.DictReader(file))
    patients = {one["patient"] for one in scores}
    assert kept.of == {one: {"sex": "mf"[int(one[-3:]) % 2]} for one in patients}
    means = {one.group: f"{one.mean:.3f}" for one in by_subgroup(scores, kept, "dice_tuned")}
    card, page = (run / "model-card.md").read_text(), (run / "report.html").read_text()
    for group, mean in means.items():
        (line,) = (one for one in card.splitlines() if one.startswith(f"| sex | {group} |"))
        assert line.split(" | ")[3].startswith(mean)
    assert "Groups of patients" in page
    # Another table, or none, changes no result: the run goes on, and is reported on anew.
    assert main([*given, "--groups", str(groups), "--resume"]) == 0
    assert "| age |" in (run / "model-card.md").read_text()
    assert main([*given, "--resume"]) == 0
