"""Short trainings of every kind give what is on record: to the bit on machines that recorded it."""

from __future__ import annotations

from pathlib import Path

import pytest
import records
import runs
from tests.machine_records import on_record

pytestmark = pytest.mark.slow

RECORD, SAME = on_record(runs.RECORD)
PARTED = {
    "fit-2d", "fit-judge", "align-region", "align-image", "align-refresh", "align-calibrated",
    "align-pseudo-label", "align-control", "align-multi-label", "study",
}  # fmt: skip
"""Trained for so long, or from such a base, that other rounding makes another training of it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baseline")


def test_all_runs_are_on_record() -> None:
    assert set(RECORD) == set(runs.RUNS)


@pytest.mark.parametrize("name", runs.RUNS)
def test_a_run_gives_what_is_on_record(name: str, place: Path) -> None:
    found = records.result(runs.RUNS[name](place))
    records.check(found, RECORD[name], SAME, name in PARTED)
