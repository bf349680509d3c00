"""Short trainings of every kind give what is on record: to the bit on the machine of the record."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs

pytestmark = pytest.mark.slow

RECORD = runs.recorded()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baseline")


def test_all_runs_are_on_record() -> None:
    assert set(RECORD["runs"]) == set(runs.RUNS)


@pytest.mark.parametrize("name", runs.RUNS)
def test_a_run_gives_what_is_on_record(name: str, place: Path) -> None:
    found, expected = runs.result(runs.RUNS[name](place)), RECORD["runs"][name]
    assert len(found["epochs"]) == len(expected["epochs"])
    same = runs.machine() == RECORD["machine"]
    for now, before in zip(found["epochs"], expected["epochs"], strict=True):
        assert now.keys() == before.keys()
        for figure, value in before.items():
            # Elsewhere a last bit may turn a pixel, and with it a candidate or a pair.
            tolerance = {"rel": 0, "abs": 0} if same else {"rel": 0.05, "abs": 0.05}
            assert now[figure] == pytest.approx(value, **tolerance, nan_ok=True), figure
    if same:
        assert found["weights"] == expected["weights"]
