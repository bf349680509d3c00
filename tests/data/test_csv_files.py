"""CSV that a spreadsheet runs nothing of, and that is read back as it was."""

from __future__ import annotations

import ast
import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpref.data import csv_lines, csv_text, read_csv, write_csv
from segpref.report import TableRow, as_csv
from segpref.training import RunFolder

ROOT = Path(__file__).parents[2]
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", "-x",
            "+", "-", "＝1", "＋1", "－x", "＠x", "-1_000", "-0x1F", "- 1"]  # fmt: skip
NUMBERS = [-1, -0.5, 1e-300, -1e300, math.inf, -math.inf, "-1", "+0.5", "-1.25e-3", "-5%", "-inf"]


def cells(text: str) -> list[str]:
    return [cell for line in csv.reader(io.StringIO(text, newline="")) for cell in line]


@pytest.mark.parametrize("text", [*FORMULAS, *(f"'{one}" for one in FORMULAS)], ids=ascii)
def test_a_formula_is_text(tmp_path: Path, text: str) -> None:
    written = csv_text([{"name": text, text: 1}])
    assert cells(written) == ["name", f"'{text}", f"'{text}", "1"]
    write_csv(tmp_path / "x.csv", [{"name": text, text: 1}])
    assert read_csv(tmp_path / "x.csv") == [{"name": text, text: "1"}]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_stays_one(number: float | str) -> None:
    assert cells(csv_lines([[number]])) == [str(number)]


@pytest.mark.parametrize("text", ["LV", "'quoted'", "a=b", "1-2", "a\nb", 'a"b', "a,b", " =1", "Ł"])
def test_other_text_stays(text: str) -> None:
    assert cells(csv_lines([[text]])) == [text]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), unique=True
    )
)
def test_whatever_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    written = csv_lines([["'", *texts]])
    assert not [
        cell for cell in cells(written) if cell[:1] in tuple("=+-@\t\r\n") and not _number(cell)
    ]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    write_csv(path, [{"'": "'", **{text: text for text in texts}}])
    assert read_csv(path) == [{"'": "'", **{text: text for text in texts}}]


def _number(cell: str) -> bool:
    try:
        float(cell.removesuffix("%"))
    except ValueError:
        return False
    return True


def test_bytes_that_are_no_character_can_be_written(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", [{"name": "a\udcff"}])
    assert read_csv(tmp_path / "x.csv") == [{"name": "a\\udcff"}]


def test_a_row_of_another_length_is_no_csv(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1\n")
    with pytest.raises(ValueError, match="shorter"):
        read_csv(tmp_path / "x.csv")


def test_a_run_writes_and_reads_such_names(tmp_path: Path) -> None:
    rows = [{"epoch": 0.0, "volume_ratio_-a": -1.5}, {"epoch": 1.0, "=1+1": 2.0}]
    folder = RunFolder(tmp_path)
    folder.write_metrics(rows)
    assert "'=1+1" in folder.metrics.read_text()
    assert folder.read_metrics() == rows


def test_tables_of_a_study_are_such() -> None:
    text = as_csv([("=title", [TableRow("@method", 1, {"-figure": (-0.5, 0.25)})])])
    assert cells(text)[6:] == ["'=title", "'@method", "1", "'-figure", "-0.50000", "0.25000"]


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_nothing_else_writes_csv(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        ]
        if path.name != "csv_files.py":
            assert not {"csv.writer", "csv.DictWriter", "DictWriter"} & set(calls), path
