"""What a command costs before it does anything: its help, and the sentence about a wrong path.

Each is a process of its own, in CPU seconds, against `import torch`. The commands take turns, so that
whatever else the machine does falls on all of them; medians of 7 rounds. Help and refusals take at most
twice the time of `import torch`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from statistics import median

from segpref.progress import console, track

__all__ = ["main"]

ROUNDS = 7
AT_MOST = 2.0
TORCH = "import torch"
SEGPREF = "import sys; from segpref.cli.main import program; sys.exit(program())"
LINES = (
    "--help",
    "fit --help",
    "fit --data nowhere --out x",
    "audit --model nowhere --data nowhere --judge other",
    "align --help",
    "align --model nowhere --data nowhere --judge other --out x",
    "align --votes nowhere --data nowhere --out x",
    "evaluate --model nowhere --data nowhere",
    "predict --model nowhere --input nowhere --output x",
    "collect init --help",
    "collect serve nowhere",
    "collect report nowhere",
)


def main() -> None:
    """Measure and compare."""
    took: dict[str, list[float]] = {line: [] for line in (TORCH, *LINES)}
    with tempfile.TemporaryDirectory() as empty:
        for _ in track(range(ROUNDS + 1), "rounds of all commands", ROUNDS + 1):
            for line, times in took.items():
                times.append(_cpu_seconds(line, empty))
    # The first round reads the files from disk.
    figures = {line: median(times[1:]) for line, times in took.items()}
    base = figures.pop(TORCH)
    console.print(f"{TORCH}: {base:.2f} s of CPU time")
    for line, figure in figures.items():
        ratio = figure / base
        console.print(f"segpref {line}: {figure:.2f} s, {ratio:.2f} times (at most {AT_MOST:g})")
    if max(figures.values()) > AT_MOST * base:
        raise SystemExit("a command takes longer to start than it should")


def _cpu_seconds(line: str, folder: str) -> float:
    code, words = (TORCH, []) if line == TORCH else (SEGPREF, line.split())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wanted = 1 if "nowhere" in words else 0
    if done.returncode != wanted:
        raise SystemExit(f"segpref {line}: exit status {done.returncode}, not {wanted}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
