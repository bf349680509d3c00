"""Short trainings of every kind give what is on record: to the bit on the machine of the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import records
import runs

pytestmark = pytest.mark.slow

RECORD = json.loads(runs.RECORD.read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baseline")


def test_all_runs_are_on_record() -> None:
    assert set(RECORD["runs"]) == set(runs.RUNS)


@pytest.mark.parametrize("name", runs.RUNS)
def test_a_run_gives_what_is_on_record(name: str, place: Path) -> None:
    found = records.result(runs.RUNS[name](place))
    records.check(found, RECORD["runs"][name], records.machine() == RECORD["machine"])
