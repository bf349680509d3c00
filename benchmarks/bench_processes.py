"""Time per epoch of an alignment in two processes against one, each with one thread.

Whole programs are timed, with few and with many epochs: their difference leaves start and end out. Both
launches train on the same made pictures and end with the same figures.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms
from segpref.progress import console

__all__ = ["main"]

SIZE, IMAGES, FEW, MANY, ROUNDS = 128, 80, 1, 4, 3
GOAL = 0.65
NETWORK = {
    "module": "monai.networks.nets.UNet",
    "arguments": {
        "spatial_dims": 2,
        "in_channels": None,
        "out_channels": None,
        "channels": [16, 32, 64, 128],
        "strides": [2, 2, 2],
        "num_res_units": 2,
        "dropout": 0.1,
    },
}


def main() -> None:
    """Print seconds per epoch of both, and the median of their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _made(place)
        rows = [{n: _epoch(place, n, turn) for n in (1, 2)} for turn in range(ROUNDS)]
    for row in rows:
        console.print(
            f"one process {row[1]:.1f} s, two {row[2]:.1f} s, ratio {row[2] / row[1]:.2f}"
        )
    ratio = statistics.median(row[2] / row[1] for row in rows)
    console.print(f"time per epoch in two processes: {ratio:.2f} of one's (goal {GOAL:g})")


def _made(place: Path) -> None:
    write_phantoms(place / "data", "cardiac", (SIZE, SIZE), 16, 0)
    _run(
        [
            "fit",
            "--out",
            str(place / "base"),
            "--labelled",
            "3",
            "--network",
            json.dumps(NETWORK),
            *_common(place),
        ],
        1,
    )


def _common(place: Path, epochs: int = 1) -> list[str]:
    return [
        *["--data", str(place / "data"), "--cache", str(place / "cache")],
        *["--data_options", json.dumps({"patient_pattern": PATIENT_PATTERN})],
        *["--epochs", str(epochs), "--images_per_epoch", str(IMAGES)],
    ]


def _epoch(place: Path, processes: int, turn: int) -> float:
    seconds, rows = {}, {}
    for epochs in (FEW, MANY):
        out = place / f"run-{processes}-{epochs}-{turn}"
        begin = time.perf_counter()
        _run(
            [
                *["align", "--model", str(place / "base"), "--judge", "oracle", "--out", str(out)],
                *_common(place, epochs),
            ],
            processes,
        )
        seconds[epochs] = time.perf_counter() - begin
        with (out / "metrics.csv").open() as file:
            rows[epochs] = len(list(csv.DictReader(file)))
    if rows != {epochs: epochs + 1 for epochs in (FEW, MANY)}:
        raise SystemExit(f"the runs have other epochs than were asked for: {rows}")
    return (seconds[MANY] - seconds[FEW]) / (MANY - FEW)


def _run(options: list[str], processes: int) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    launch = torchrun if processes > 1 else []
    subprocess.run(
        [sys.executable, *launch, "-m", "segpref.cli.main", *options],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


if __name__ == "__main__":
    main()
