"""Memory of an alignment: one large volume, and many small ones.

Every figure is of a process of its own that prepares made volumes, aligns a small network with a
model-based judge for a few steps, validates, and writes the report. *Own* memory is what the process
has allocated at its highest; *resident* also counts pages of mapped files, which the system takes back
when it needs them.

- Volumes of 512 x 512 x 300 voxels in patches, one to learn from and one to validate on: less than 8
  GiB resident.
- 1,000 volumes of 64 x 64 x 64 need as much of their own as 10 do, but for what a list of them takes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from segpref.data import Cache, Folders, Preparation, prepare
from segpref.inference import whole_images
from segpref.judges import ModelJudge
from segpref.policies import ModelCard, NetworkSpec, load_model, save_model
from segpref.progress import console
from segpref.proposals import SlateProposals
from segpref.studies import alignment_report
from segpref.training import PreferenceSignal, RunFolder, align
from segpref.types import LabelSpace

__all__ = ["main"]

SPACE = LabelSpace("multi-class", ("background", "rind", "core"))
LARGE, PATCH, SMALL = (512, 512, 300), (128, 128, 64), (64, 64, 64)
FEW, MANY = 10, 1000
STEPS, BATCH, K = 4, 2, 16
AT_MOST_GIB, AT_MOST_GROWTH = 8.0, 1.1
GIB = 2**30


def main() -> None:
    """Measure and compare."""
    _, resident = _measured(LARGE, PATCH, 1)
    console.print(f"512 x 512 x 300: {resident:.2f} GiB resident (less than {AT_MOST_GIB:g})")
    few, many = (_measured(SMALL, None, count) for count in (FEW, MANY))
    growth = many[0] / few[0]
    console.print(
        f"64 x 64 x 64: own memory of {FEW} cases {few[0]:.2f} GiB, of {MANY} {many[0]:.2f}: "
        f"{growth:.2f} times (at most {AT_MOST_GROWTH:g}); resident {few[1]:.2f} and {many[1]:.2f} GiB"
    )
    if resident > AT_MOST_GIB or growth > AT_MOST_GROWTH:
        raise SystemExit("an alignment takes more memory than it should")


def _measured(shape: Sequence[int], patch: Sequence[int] | None, count: int) -> tuple[float, float]:
    task = json.dumps([shape, patch, count])
    command = [sys.executable, "-m", "benchmarks.bench_memory", task]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    own, resident = json.loads(done.stdout)
    return own, resident


def _align(shape: tuple[int, ...], patch: tuple[int, ...] | None, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = None if patch else shape
        preparation = Preparation(dims=3, size=size, patch=patch, normalise="z-score")
        for number in range(count):
            _write(root / "pool", f"p{number:04d}", shape, number)
        for number in range(1 if patch else 2):
            _write(root / "validation", f"v{number}", shape, number)
        cache = Cache(root / "cache")
        pool, validation = (
            prepare(Folders(root / name, names=SPACE.names), preparation, cache)
            for name in ("pool", "validation")
        )
        network = NetworkSpec(
            "monai.networks.nets.UNet",
            {
                "spatial_dims": 3,
                "in_channels": 1,
                "out_channels": 3,
                "channels": [8, 16],
                "strides": [4],
            },
        )
        for name in ("base", "judge"):
            card = ModelCard(network, SPACE, preparation)
            save_model(root / f"{name}.safetensors", network.build(), card)
        model, _ = load_model(root / "judge.safetensors")
        judge = ModelJudge(whole_images([model], preparation), cache)
        base, proposals = root / "base.safetensors", SlateProposals(K)
        run = RunFolder(root / "run")
        run.open({}, resume=False)
        align(
            base,
            pool,
            validation,
            judge,
            PreferenceSignal(SPACE),
            run,
            proposals=proposals,
            epochs=1,
            images_per_epoch=STEPS * BATCH,
            batch_size=BATCH,
            cache=cache,
        )
        alignment_report(run, base, validation, judge, proposals)


def _write(root: Path, name: str, shape: Sequence[int], seed: int) -> None:
    """A ball in noise, a slice at a time."""
    rng = np.random.default_rng(seed)
    image, label = np.empty(shape, np.int16), np.zeros(shape, np.uint8)
    plane = np.linspace(-1, 1, shape[0])[:, None] ** 2 + np.linspace(-1, 1, shape[1])[None] ** 2
    for z, height in enumerate(np.linspace(-1, 1, shape[2])):
        distance = np.sqrt(plane + height**2)
        label[..., z] = (distance < 0.5).astype(np.uint8) + (distance < 0.3)
        image[..., z] = 100 * label[..., z] + rng.integers(-50, 50, distance.shape)
    for kind, array in (("images", image), ("labels", label)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.eye(4)), root / kind / f"{name}.nii")


class _Own(threading.Thread):
    """Watches the memory that the process has allocated."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = 0

    def run(self) -> None:
        """Look again and again."""
        while True:
            text = Path("/proc/self/status").read_text()
            own = next(line for line in text.splitlines() if line.startswith("RssAnon"))
            self.highest = max(self.highest, int(own.split()[1]) * 1024)
            time.sleep(0.02)


def _report(shape: Sequence[int], patch: Sequence[int] | None, count: int) -> None:
    """Align in this process, and print what it took."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    watch = _Own()
    watch.start()
    _align(tuple(shape), None if patch is None else tuple(patch), count)
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([watch.highest / GIB, highest / GIB]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _report(*json.loads(sys.argv[1]))
    else:
        main()
