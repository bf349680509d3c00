"""An alignment on 100,000 images against one on 1,000: open files, memory, and time per image.

Every row is of processes of its own. The first one prepares small images made on the spot, opens them
again from the cache, and aligns a small network with a model-based judge for one epoch of 1,000 images;
two more open them and align, in turns with those of the other rows. Times are medians.
*Peak* is the most memory that a process ever had, with what its libraries take; *own* memory is the
part of it that no file is behind. What is done once for a pool (preparing it, opening it again) is
reported per image of the pool; the alignment, with what it does before its first step, per image of the
epoch.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from segpref.data import Cache, Folders, Preparation, prepare
from segpref.inference import whole_images
from segpref.judges import ModelJudge
from segpref.policies import ModelCard, NetworkSpec, load_model, save_model
from segpref.progress import console
from segpref.proposals import SlateProposals
from segpref.training import PreferenceSignal, RunFolder, align
from segpref.types import LabelSpace

__all__ = ["main"]

SPACE = LabelSpace("multi-class", ("background", "square"))
COUNTS, ROUNDS, EPOCH, SIDE, K = (1_000, 10_000, 100_000), 3, 1_000, 32, 8
AT_MOST_OPEN, AT_MOST_GROWTH = 256, 1.1
MIB = 2**20
ONCE, EACH = ("prepare", "again"), ("align",)


def main(*counts: int) -> None:
    """Measure and compare: the last number of images with the first."""
    counts = counts or COUNTS
    with tempfile.TemporaryDirectory() as folder:
        # In turns: other work on the machine slows all sides down.
        measured = [[_measured(count, folder, turn) for count in counts] for turn in range(ROUNDS)]
    rows = [_merged([turn[place] for turn in measured]) for place in range(len(counts))]
    console.print("All turns:")
    for count, row in zip(counts, rows, strict=True):
        _print(count, row)
    few, more = rows[0], rows[-1]
    names = ("peak", *(f"{name} {clock}" for name in (*ONCE, *EACH) for clock in ("CPU", "wall")))
    growth = {name: more[name] / few[name] for name in names}
    said = ", ".join(f"{name} {value:.2f}" for name, value in growth.items())
    bytes_each = (more["peak"] - few["peak"]) / (counts[-1] - counts[0]) if len(counts) > 1 else 0
    console.print(
        f"{counts[-1]} against {counts[0]} images: {said} times (at most {AT_MOST_GROWTH:g}); "
        f"{bytes_each:.0f} bytes of peak memory an image",
        soft_wrap=True,
    )
    # CPU time, because other work on the machine does not change it much.
    bounded = [growth["peak"], *(growth[f"{name} CPU"] for name in (*ONCE, *EACH))]
    if more["open"] > AT_MOST_OPEN or max(bounded) > AT_MOST_GROWTH:
        raise SystemExit("a large pool takes more than it should")


def _print(count: int, row: dict[str, float]) -> None:
    mib = {name: row[name] / MIB for name in ("peak", "own", "before")}
    console.print(
        f"{count} images: {row['open']:.0f} files open, peak {mib['peak']:.0f} MiB, "
        f"{mib['own']:.0f} MiB of own memory ({mib['before']:.0f} MiB before the pool); per image, "
        "CPU and wall time:",
        ", ".join(
            f"{name} {1e3 * row[f'{name} CPU']:.2f} and {1e3 * row[f'{name} wall']:.2f} ms"
            for name in (*ONCE, *EACH)
            if f"{name} CPU" in row
        ),
        soft_wrap=True,
    )


def _measured(count: int, folder: str, turn: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.bench_pool_size", "process"]
    command += [str(count), f"{folder}/{count}", str(turn)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    _print(count, found)
    return found


def _merged(turns: list[dict[str, float]]) -> dict[str, float]:
    """The highest memory, and the median of times."""
    found = {}
    for name in turns[0]:
        values = [turn[name] for turn in turns if name in turn]
        found[name] = median(values) if name.endswith(("CPU", "wall")) else max(values)
    return found


def _pool(root: Path, count: int, labelled: bool) -> Path:
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for number in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        row, column = rng.integers(4, SIDE - 12, 2)
        mask[row : row + 8, column : column + 8] = 1
        image = (90 * mask + rng.integers(0, 120, mask.shape)).astype(np.uint8)
        Image.fromarray(image).save(
            root / "images" / f"{root.name}{number:06d}.png", compress_level=1
        )
        if labelled:
            Image.fromarray(mask).save(root / "labels" / f"{root.name}{number:06d}.png")
    return root


class _Watch(threading.Thread):
    """The most memory of its own and the most files that the process had at once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.open = 0

    def run(self) -> None:
        """Look again and again."""
        while True:
            self.own = max(self.own, _own())
            self.open = max(self.open, sum(1 for _ in Path("/proc/self/fd").iterdir()))
            time.sleep(0.05)


def _own() -> int:
    """Bytes that the process has now and no file is behind."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(x for x in text.splitlines() if x.startswith("RssAnon")).split()[1])


@contextmanager
def _timed(taken: dict[str, float], name: str, images: int) -> Iterator[None]:
    """Add the time of what is done within, per image."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    taken[f"{name} CPU"] = (time.process_time() - cpu) / images
    taken[f"{name} wall"] = (time.perf_counter() - wall) / images


def _process(count: int, root: Path, turn: int) -> None:
    """Prepare (in the first turn), open again and align in this process, and print what it took."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    preparation = Preparation(dims=2, size=(SIDE, SIDE))
    cache = Cache(root / "cache")
    pool_at, held = root / "pool", root / "validation"
    if turn == 0:
        _pool(pool_at, count, False)
        _pool(held, 8, True)
    validation = prepare(Folders(held, names=SPACE.names), preparation, cache)
    watch = _Watch()
    watch.start()
    before, taken = _own(), dict[str, float]()
    for name in ONCE if turn == 0 else ONCE[1:]:
        with _timed(taken, name, count):
            pool = prepare(Folders(pool_at, names=SPACE.names), preparation, cache)
    network = NetworkSpec(
        "monai.networks.nets.UNet",
        {
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [8, 16],
            "strides": [2],
        },
    )
    card = ModelCard(network, SPACE, preparation)
    for name in ("base", "judge"):
        save_model(root / f"{name}.safetensors", network.build(), card)
    model, _ = load_model(root / "judge.safetensors")
    run = RunFolder(root / f"run{turn}")
    run.open({}, resume=False)
    # Every turn predicts anew.
    predictions = Cache(root / f"predictions{turn}")
    epoch = min(EPOCH, count)
    with _timed(taken, "align", epoch):
        align(
            root / "base.safetensors",
            pool,
            validation,
            ModelJudge(whole_images([model], preparation), predictions),
            PreferenceSignal(SPACE),
            run,
            proposals=SlateProposals(K),
            epochs=1,
            images_per_epoch=epoch,
            batch_size=8,
            cache=predictions,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps({"open": watch.open, "own": watch.own, "before": before, "peak": peak, **taken})
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["process"]:
        _process(int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main(*map(int, sys.argv[1:]))
