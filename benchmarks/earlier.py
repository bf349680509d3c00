"""Runs a measuring script of today with the code of today and with that of an earlier commit, in turn.

The sources of commit ``d1dee8f`` are exported once to ``.bench/``. Its constraints name the same
versions of the packages that both need, so the same interpreter runs both, with ``PYTHONPATH`` set to
one source tree or the other.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.earlier_step import KINDS

__all__ = ["print_predictions", "print_steps"]

COMMIT = "d1dee8f"
ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".bench"
ROUNDS = 3


def print_steps(*kinds: str) -> None:
    """A step of stage 2 over a supervised step, today and at the earlier commit; all where none."""
    _print_head("step / supervised step")
    for name in kinds or KINDS:
        found = in_turn("earlier_step", ROUNDS, name, str(KEPT / "data"))
        sides = [[np.array(one["step"]) for one in side] for side in found]
        plain = [[np.array(one["supervised"]) for one in side] for side in found]
        _print_rows(KINDS[name].title, sides, plain)


def print_predictions() -> None:
    """CPU and wall seconds of predictions of 100 pictures, today and at the earlier commit."""
    _print_head("predict, model opened too")
    found = in_turn("earlier_predict", ROUNDS)
    _print_rows("100 pictures", [[np.array(one["predict"]) for one in side] for side in found])


def _print_head(what: str) -> None:
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{what}: 1 thread, processes of either version in turn, load average {load}")
    print(f"{'':40}{'':5}{'today':>19}{COMMIT:>19}")


def _print_rows(title: str, sides: list[list[Any]], plain: list[list[Any]] | None = None) -> None:
    """Medians over all rounds, and the medians of ratios within processes where there are two kinds."""
    for column, unit in enumerate(("CPU", "wall")):
        cells = []
        for side in (0, 1):
            taken = np.concatenate(sides[side])[:, column]
            cell = f"{np.median(taken):.3f} s"
            if plain is not None:
                ratios = taken / np.concatenate(plain[side])[:, column]
                cell += f" = {np.median(ratios):.2f}"
            cells.append(f"{cell:>19}")
        print(f"{title if column == 0 else '':40}{unit:5}{''.join(cells)}", flush=True)


def exported() -> Path:
    """The source tree of the earlier commit, exported where it is not there yet."""
    there = KEPT / COMMIT / "src"
    if there.is_dir():
        return there
    KEPT.mkdir(exist_ok=True)
    done = subprocess.run(["git", "archive", COMMIT, "src"], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise SystemExit(
            f"commit {COMMIT} can't be exported ({done.stderr.decode().strip()}): run this in a clone "
            "with its whole history"
        )
    with tempfile.TemporaryDirectory(dir=KEPT) as work:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(Path(work) / COMMIT, filter="data")
        (Path(work) / COMMIT).rename(KEPT / COMMIT)  # whole, or not there
    return there


def measured(script: str, source: Path, *words: str) -> Any:
    """What a script of ``benchmarks/`` prints as JSON in its last line, run with these sources.

    Args:
        script: name of the module.
        source: folder that holds the package.
        words: its arguments.
    """
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"benchmarks.{script}", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} with {source}:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if not Path(found["source"]).is_relative_to(source):
        raise SystemExit(f"{found['source']} was measured in place of {source}")
    return found


def in_turn(script: str, rounds: int, *words: str) -> tuple[list[Any], list[Any]]:
    """What today's code and the earlier one give, in processes that take turns."""
    sources = (ROOT / "src", exported())
    results: tuple[list[Any], list[Any]] = ([], [])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            results[side].append(measured(script, sources[side], *words))
    return results
