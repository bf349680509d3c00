"""An alignment on 100,000 images against one on 1,000: open files, memory, and time per image.

Every figure is of a process of its own that prepares small images made on the spot, opens them again
from the cache, and aligns a small network with a model-based judge for one epoch of 1,000 images. *Own*
memory is what the process has allocated at its highest, beyond what it had before the pool was opened.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

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
FEW, MANY, EPOCH, SIDE, K = 1_000, 100_000, 1_000, 32, 8
AT_MOST_OPEN, AT_MOST_GROWTH, AT_MOST_KIB = 256, 1.1, 4.0
MIB = 2**20


def main(many: int = MANY) -> None:
    """Measure and compare."""
    rows = {count: _measured(count) for count in (FEW, many)}
    for count, row in rows.items():
        console.print(
            f"{count} images: {row['open']:.0f} files open, {row['memory']:.0f} MiB of own memory, "
            f"{1e3 * row['prepare']:.2f} ms an image to prepare, {1e3 * row['again']:.2f} ms again, "
            f"{1e3 * row['align']:.2f} ms an image of the epoch"
        )
    few, more = rows[FEW], rows[many]
    growth = {name: more[name] / few[name] for name in ("prepare", "again", "align")}
    said = ", ".join(f"{name} {value:.2f}" for name, value in growth.items())
    kib = 1024 * (more["memory"] - few["memory"]) / (many - FEW)
    console.print(
        f"{many} against {FEW}, time per image: {said} times (at most {AT_MOST_GROWTH:g}); memory "
        f"{more['memory'] / few['memory']:.2f} times, {kib:.1f} KiB an image (at most {AT_MOST_KIB:g})"
    )
    if more["open"] > AT_MOST_OPEN or kib > AT_MOST_KIB or max(growth.values()) > AT_MOST_GROWTH:
        raise SystemExit("a large pool takes more than it should")


def _measured(count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.bench_pool_size", "process", str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
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
    """The most memory and files that the process had at once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.memory = self.open = 0

    def run(self) -> None:
        """Look again and again."""
        while True:
            text = Path("/proc/self/status").read_text()
            own = next(line for line in text.splitlines() if line.startswith("RssAnon"))
            self.memory = max(self.memory, int(own.split()[1]) * 1024)
            self.open = max(self.open, sum(1 for _ in Path("/proc/self/fd").iterdir()))
            time.sleep(0.05)


def _process(count: int) -> None:
    """Prepare and align in this process, and print what it took."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    preparation = Preparation(dims=2, size=(SIDE, SIDE))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache = Cache(root / "cache")
        pool_at, held = _pool(root / "pool", count, False), _pool(root / "validation", 8, True)
        validation = prepare(Folders(held, names=SPACE.names), preparation, cache)
        watch = _Watch()
        watch.start()
        seconds = {}
        for name in ("prepare", "again"):
            start = time.perf_counter()
            pool = prepare(Folders(pool_at, names=SPACE.names), preparation, cache)
            seconds[name] = (time.perf_counter() - start) / count
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
        run = RunFolder(root / "run")
        run.open({}, resume=False)
        start = time.perf_counter()
        align(
            root / "base.safetensors",
            pool,
            validation,
            ModelJudge(whole_images([model], preparation), cache),
            PreferenceSignal(SPACE),
            run,
            proposals=SlateProposals(K),
            epochs=1,
            images_per_epoch=min(EPOCH, count),
            batch_size=8,
            cache=cache,
        )
        seconds["align"] = (time.perf_counter() - start) / min(EPOCH, count)
        found = {"open": watch.open, "memory": watch.memory / MIB, **seconds}
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["process"]:
        _process(int(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))
