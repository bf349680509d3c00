"""Prediction against the loop that a user would write: read, forward in batches of 8, argmax, write.

100 grey pictures of 160 x 160 pixels with a 2D U-Net, and 20 volumes with a 3D one: those of
``SEGPREF_DATA/hippocampus`` (or ``Task04_Hippocampus``), else made ones of that size. Both sides use
the same network and the same crop and scaling, in one process and with one thread of torch, and take
turns in an order that changes. The masks must be equal. Only how images are read, batched and written
is compared: opening the model is not part of either side.

Afterwards the pictures are predicted with today's code and with that of an earlier commit
(:mod:`benchmarks.earlier`). Figures are CPU seconds (of all threads) and wall seconds; the ratio is
the median of the rounds' own.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.earlier import print_predictions
from segpref.data import Preparation
from segpref.inference import predict_folder
from segpref.policies import ModelCard, OpenModel, Segmenter
from segpref.process_setup import configure_process
from segpref.progress import console
from segpref.studies import default_network
from segpref.types import LabelSpace

__all__ = ["main"]

PICTURES, SIDE, VOLUMES, BATCH, ROUNDS = 100, 160, 20, 8, 9
CROP = (48, 64, 48)
GOAL = 1.0
SPACE = LabelSpace("multi-class", ("background", "one", "two"))

Loop = Callable[[nn.Module, Sequence[Path], Path], None]


def main() -> None:
    """Measure both and compare."""
    configure_process(threads=1)
    torch.set_num_threads(1)
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    console.print(f"{os.cpu_count()} cores, 1 thread of torch, load average {load}")
    with tempfile.TemporaryDirectory() as work:
        pictures, volumes = Path(work) / "pictures", Path(work) / "volumes"
        _write_pictures(pictures)
        _write_volumes(volumes)
        _compare(
            f"{PICTURES} pictures of {SIDE} x {SIDE}", pictures, Preparation(), _plain_pictures
        )
        preparation = Preparation(dims=3, crop=CROP)
        _compare(f"{VOLUMES} volumes in crops of {CROP}", volumes, preparation, _plain_volumes)
    print_predictions()


def _compare(what: str, images: Path, preparation: Preparation, plain: Loop) -> None:
    torch.manual_seed(0)
    spec = default_network(preparation.dims).for_data(1, SPACE.channels)
    # The axes of all volumes, so that none is turned.
    codes = None if preparation.dims == 2 else "RAS"
    card = ModelCard(spec, SPACE, preparation, orientation=codes)
    network = spec.build().eval()
    policy = Segmenter(network, SPACE)
    model = OpenModel(Path("model"), card, {"model": lambda: policy}, None)
    files = sorted(images.iterdir())

    def ours(output: Path) -> None:
        predict_folder(model, images, output, batch_size=BATCH)

    def theirs(output: Path) -> None:
        output.mkdir()
        with torch.no_grad():
            plain(network, files, output)

    taken: dict[str, list[tuple[float, float]]] = {"segpref": [], "loop": []}
    sides = [("segpref", ours), ("loop", theirs)]
    for number in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as work:
            for name, call in sides if number % 2 else sides[::-1]:
                taken[name].append(_timed(call, Path(work) / name))
            if number == 0:
                _check_equal(Path(work))
    # In the first round files are read from disk and libraries imported.
    rounds = {name: np.array(times[1:]) for name, times in taken.items()}
    ratios = np.median(rounds["segpref"] / rounds["loop"], axis=0)
    for place, unit in enumerate(("CPU", "wall")):
        own, other = (median(rounds[name][:, place]) for name in ("segpref", "loop"))
        console.print(
            f"{what}: {own:.3f} s {unit}, plain loop {other:.3f} s, ratio {ratios[place]:.2f} "
            f"(goal {GOAL:g})"
        )


def _timed(call: Callable[[Path], None], output: Path) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    call(output)
    return time.process_time() - cpu, time.perf_counter() - wall


def _check_equal(work: Path) -> None:
    for path in sorted((work / "loop").iterdir()):
        other = work / "segpref" / path.name
        arrays = [
            np.asarray(nib.load(one).dataobj if path.suffix == ".gz" else Image.open(one))
            for one in (path, other)
        ]
        differ = float((arrays[0] != arrays[1]).mean())
        # The loop pads nothing and resamples nothing, so only ties may differ.
        if differ > 1e-4:
            raise SystemExit(f"{path.name}: {100 * differ:.3g} % of the pixels differ")


def _plain_pictures(network: nn.Module, files: Sequence[Path], output: Path) -> None:
    for start in range(0, len(files), BATCH):
        chosen = files[start : start + BATCH]
        images = [np.asarray(Image.open(path), np.float32)[None] for path in chosen]
        masks = network(torch.from_numpy(np.stack([_scaled(one) for one in images]))).argmax(1)
        for path, mask in zip(chosen, masks.numpy().astype(np.uint8), strict=True):
            Image.fromarray(mask).save(output / path.name)


def _plain_volumes(network: nn.Module, files: Sequence[Path], output: Path) -> None:
    for start in range(0, len(files), BATCH):
        chosen = files[start : start + BATCH]
        found = [nib.load(path) for path in chosen]
        arrays = [np.asarray(one.dataobj, np.float32) for one in found]
        crops = np.zeros((len(chosen), 1, *CROP), np.float32)
        windows = [_windows(one.shape) for one in arrays]
        for crop, array, (inner, outer) in zip(crops, arrays, windows, strict=True):
            crop[0][outer] = _scaled(array)[inner]
        masks = network(torch.from_numpy(crops)).argmax(1).numpy().astype(np.uint8)
        for path, one, mask, (inner, outer) in zip(chosen, found, masks, windows, strict=True):
            whole = np.zeros(one.shape, np.uint8)
            whole[inner] = mask[outer]
            header = one.header.copy()
            header.set_data_dtype(np.uint8)
            nib.save(nib.Nifti1Image(whole, one.affine, header), output / path.name)


def _windows(shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the central crop lies in a volume, and where that lies in the crop."""
    inner, outer = [], []
    for old, new in zip(shape, CROP, strict=True):
        size, first, place = min(old, new), max(0, (old - new) // 2), max(0, (new - old) // 2)
        inner.append(slice(first, first + size))
        outer.append(slice(place, place + size))
    return tuple(inner), tuple(outer)


def _scaled(array: np.ndarray) -> np.ndarray:
    low, high = array.min(), array.max()
    return (array - low) / (high - low)


def _write_pictures(folder: Path) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        coarse = random.integers(0, 256, (SIDE // 8, SIDE // 8), np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE), 2).save(folder / f"{number:03d}.png")


def _write_volumes(folder: Path) -> None:
    folder.mkdir()
    places = [Path(os.environ.get("SEGPREF_DATA", "")) / name for name in _FOLDERS]
    real = [one for place in places for one in sorted((place / "imagesTr").glob("[!.]*.nii.gz"))]
    if "SEGPREF_DATA" in os.environ and real:
        for path in real[:VOLUMES]:
            (folder / path.name).symlink_to(path)
        return
    console.print("made volumes, for SEGPREF_DATA points to no hippocampus/")
    random = np.random.default_rng(0)
    for number in range(VOLUMES):
        shape = tuple(random.integers((31, 47, 32), (40, 56, 43)))
        voxels = random.integers(0, 256, shape).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"{number:02d}.nii.gz")


_FOLDERS = ("hippocampus", "Task04_Hippocampus")

if __name__ == "__main__":
    main()
