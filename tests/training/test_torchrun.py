"""A launch of two processes trains as one does: the same pairs, the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from waiting import FAILED_S

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("launched_runs.py")
MIXED = ("mean teacher", "fixmatch", "unimatch", "copy-paste")
ALIGNED = ("every step", "rounds", "anchored", "ahead", "pseudo-labels")
MOVED = 0.01
"""Relative change of the weights that a training makes at least."""


def launched(place: Path, data: Path, processes: int) -> Path:
    out = place / f"in {processes}"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # Each launch has a cache of its own: one that finds all predictions there would prove nothing.
    arguments = [str(SCRIPT), str(out), str(data), str(place / f"cache of {processes}")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), *arguments],
        env=environment, capture_output=True, text=True, timeout=FAILED_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (out / "told.txt").write_text(result.stderr)
    return out


@pytest.fixture(scope="module")
def launches(tmp_path_factory: pytest.TempPathFactory, heart_folder: Path) -> tuple[Path, Path]:
    """The folders of the same trainings in one process and in two."""
    place = tmp_path_factory.mktemp("launches")
    return launched(place, heart_folder, 1), launched(place, heart_folder, 2)


@pytest.mark.parametrize("name", ["fit", "judge", *MIXED, *ALIGNED])
def test_final_weights_are_those_of_one_process(name: str, launches: tuple[Path, Path]) -> None:
    one, two = (load_file(out / name / "last.safetensors") for out in launches)
    start = load_file(launches[0] / "fit" / "best.safetensors")
    size = sum(float(value.square().sum()) for value in one.values()) ** 0.5
    apart = sum(float((two[key] - value).square().sum()) for key, value in one.items()) ** 0.5
    moved = sum(float((start[key] - value).square().sum()) for key, value in one.items()) ** 0.5
    assert all(value.dtype.itemsize == 8 for value in one.values())
    assert moved / size > MOVED  # else equality would say nothing
    assert apart / size < 1e-6


@pytest.mark.parametrize("name", ALIGNED[:-1])
def test_every_step_has_the_pairs_of_one_process(name: str, launches: tuple[Path, Path]) -> None:
    one, two = launches
    alone = json.loads((one / f"{name} 0.json").read_text())
    parts = [json.loads((two / f"{name} {rank}.json").read_text()) for rank in (0, 1)]
    assert len(alone) == len(parts[0]) == len(parts[1]) == 6
    assert any(part for part in parts[1])
    for step, first, second in zip(alone, *parts, strict=True):
        assert sorted(step) == sorted(first + second)


@pytest.mark.parametrize("name", ["fit", *MIXED, *ALIGNED])
def test_figures_are_those_of_one_process(name: str, launches: tuple[Path, Path]) -> None:
    one, two = ((out / name / "metrics.csv").read_text().splitlines() for out in launches)
    assert one[0] == two[0]
    for mine, theirs in zip(one[1:], two[1:], strict=True):
        figures = [[float(v or "nan") for v in row.split(",")] for row in (mine, theirs)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-6, abs=1e-9, nan_ok=True)


def test_what_is_not_the_same_is_said(launches: tuple[Path, Path]) -> None:
    """A regressor normalises over the batch, which processes without GPUs do each for itself."""
    one, two = ((out / "told.txt").read_text() for out in launches)
    assert "batch normalisation" not in one
    assert two.count("batch normalisation") == 1
    first = [(out / "regressor" / "metrics.csv").read_text().splitlines()[1] for out in launches]
    assert first[0] == first[1]


def test_nothing_is_looked_for_that_is_not_there(launches: tuple[Path, Path]) -> None:
    assert "find_unused_parameters" not in (launches[1] / "told.txt").read_text()


def test_every_process_leaves_the_group_before_it_ends(launches: tuple[Path, Path]) -> None:
    assert all((launches[1] / f"left {rank}").exists() for rank in (0, 1))
