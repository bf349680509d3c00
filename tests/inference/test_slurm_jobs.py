"""The job files of the page about Slurm, run by commands that stand in for those of Slurm."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray_nodes
import slurm_stubs
from test_predict import folder

from segpref.cli.main import main
from waiting import FAILED_S

pytestmark = pytest.mark.slow

JOBS = Path(__file__).parents[2] / "docs" / "guide" / "slurm"
NAMES = ["--data_options.names", '["background", "RV", "MYO", "LV"]']
PATIENT = ["--data_options.patient_pattern", ray_nodes.PATIENT]


def submitted(place: Path, job: str, *line: str) -> str:
    """What the program printed in a job that was handed to sbatch in this folder."""
    commands = [slurm_stubs.put(place / "commands"), Path(sys.executable).parent]
    path = os.pathsep.join([*map(str, commands), os.environ["PATH"]])
    environment = {**os.environ, **ray_nodes.IMPORTS, "PATH": path, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        ["sbatch", str(JOBS / job), *line], cwd=place, env=environment, capture_output=True,
        text=True, timeout=FAILED_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def test_a_training_by_the_processes_of_two_nodes(
    tmp_path: Path, heart_folder: Path, heart_base: Path
) -> None:
    own = '{{"class_path": "ray_nodes.Signing", "init_args": {{"marks": "{}"}}}}'
    given = [
        "align", "--data", str(heart_folder), "--model", str(heart_base), *NAMES, *PATIENT,
        "--epochs", "1", "--images_per_epoch", "4", "--batch_size", "2", "--candidates", "6",
    ]  # fmt: skip
    lines, marks = [], [folder(tmp_path / f"marks {number}") for number in (1, 2)]
    for number, signed in enumerate(marks, start=1):
        out, cache = tmp_path / f"in {number}", tmp_path / f"cache of {number}"
        judge = own.format(signed)
        lines.append([*given, "--judge", judge, "--out", str(out), "--cache", str(cache)])
    assert main(lines[0]) == 0
    submitted(tmp_path, "train.sh", *lines[1])
    assert [len(list(one.iterdir())) for one in marks] == [1, 2]
    rows = []
    for number in (1, 2):
        with (tmp_path / f"in {number}" / "metrics.csv").open() as file:
            lines = list(csv.DictReader(file))
        # The margins of the first step are 0 but for rounding, which depends on the size of a batch.
        rows.append([
            float(value or "nan")
            for line in lines
            for name, value in line.items()
            if name != "preference_accuracy"
        ])  # fmt: skip
    assert rows[0] == pytest.approx(rows[1], rel=1e-3, abs=1e-5, nan_ok=True)


@pytest.mark.long
def test_masks_by_a_ray_cluster_of_two_nodes(
    tmp_path: Path, heart_folder: Path, heart_base: Path
) -> None:
    given = ["predict", "--model", str(heart_base), "--input", str(heart_folder / "images")]
    assert main([*given, "--output", str(tmp_path / "alone")]) == 0
    submitted(tmp_path, "ray.sh", *given, "--output", str(tmp_path / "pool"))
    masks = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("alone", "pool")
    ]
    assert masks[0]
    assert masks[0] == masks[1]
