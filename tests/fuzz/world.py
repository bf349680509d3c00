"""A dataset, models, runs and masks that commands have made, for commands to find changed."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

import own_process
from segpref.data import read_csv
from small_network import network_option

__all__ = ["PLACES", "Made", "ended", "made", "make"]

PLACES = ("DATA", "SCANS", "BASE", "TUNED", "CUT", "MASKS", "PACKED", "OUT", "HERE")
HANGS_S = 120
"""Seconds of CPU time, not of waiting, within which a command on these images ends on any machine."""

SMALL = ["--network", network_option(), "--preparation.size", "[16, 16]", "--batch_size", "4"]
ALIGN = "align --data DATA --model BASE --judge MASKS --candidates 4 --epochs 2 --batch_size 4"

Made = Mapping[str, np.ndarray]


def make(world: Path) -> None:
    """All that commands make before anything is changed."""
    pictures(world / "data")
    scans(world / "scans")
    steps = (
        ["fit", "--data", "DATA", "--out", "BASE", "--epochs", "2", "--labelled", "3", *SMALL],
        ["predict", "--model", "BASE", "--input", "DATA/images", "--output", "MASKS"],
        ["pack", "--data", "DATA", "--out", "PACKED"],
        [*ALIGN.split(), "--out", "TUNED"],
    )
    for words in steps:
        done = ended(world, words)
        assert done.returncode == 0, done.stderr
    done = ended(world, [*ALIGN.split(), "--out", "CUT"], killed=True)
    assert done.returncode == 9, done.stderr


def pictures(folder: Path) -> None:
    """Ten patients with a bright square in noise; masks of 0 and 255."""
    draw = np.random.default_rng(3)
    for number in range(10):
        mask = np.zeros((16, 18), np.uint8)
        mask[3 : 8 + number % 3, 4:11] = 255
        image = (mask // 2 + draw.integers(0, 60, mask.shape)).astype(np.uint8)
        for where, array in (("images", image), ("masks", mask)):
            (folder / where).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / where / f"p{number}.png")


def scans(folder: Path) -> None:
    """The same as volumes of three slices, with a spacing."""
    draw = np.random.default_rng(4)
    for number in range(10):
        mask = np.zeros((16, 18, 3), np.uint8)
        mask[3 : 8 + number % 3, 4:11] = 1
        image = (mask * 120 + draw.integers(0, 60, mask.shape)).astype(np.int16)
        for where, array in (("images", image), ("labels", mask)):
            (folder / where).mkdir(parents=True, exist_ok=True)
            affine = np.diag([-1.5, -1.5, 8.0, 1.0])
            nib.save(nib.Nifti1Image(array, affine), folder / where / f"p{number}.nii.gz")


def ended(world: Path, words: list[str], *, killed: bool = False) -> own_process.Ended:
    """A command in a process of its own, as a shell would start it in an empty folder.

    Args:
        world: where all is that the words in capitals stand for.
        words: the command; ``DATA`` and so on are places of the world.
        killed: whether it is killed just before it would write down that it is finished.
    """
    environment = {"SEGPREF_CACHE": str(world / "cache")}
    return own_process.ended(_command, world, words, killed, environment=environment)


def _command(world: Path, words: list[str], killed: bool) -> int:
    from segpref.cli.main import main
    from segpref.training import RunFolder

    def kill(*_: object) -> None:
        os._exit(9)

    resource.setrlimit(resource.RLIMIT_CPU, (HANGS_S, HANGS_S))
    (world / "here").mkdir(exist_ok=True)
    os.chdir(world / "here")
    if killed:
        RunFolder.write_summary = kill  # type: ignore[method-assign]
    for place in PLACES:
        words = [one.replace(place, str(world / place.lower())) for one in words]
    return main(words)


def made(out: Path) -> Made:
    """What a command wrote: masks, weights and figures."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".png":
            found[name] = np.asarray(Image.open(path))
        elif path.name.endswith(".nii.gz"):
            volume = nib.load(path)
            assert isinstance(volume, nib.Nifti1Image)
            found[name] = np.asarray(volume.dataobj)
            found[f"{name}: affine"] = volume.affine
        elif path.name == "best.safetensors":
            found |= {f"{name}: {key}": value for key, value in load_file(path).items()}
        elif path.suffix == ".csv":
            rows = read_csv(path)
            found[name] = np.array([list(map(str, row.values())) for row in rows])
        elif path.name == "figures.json":
            found[name] = np.array(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert found, f"{out} holds nothing to compare"
    return found
