# ruff: noqa: E501
"""Changes of what real commands read, each in a process of its own: what it says, and what it writes."""

from __future__ import annotations

import functools
import gzip
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from mutations import same, sentence
from PIL import Image
from world import Made, ended, made, make

Change = Callable[[Path], object]

PREDICT = "predict --model BASE --input DATA/images --output OUT"
SCAN = "predict --model BASE --input SCANS/images --output OUT --reorient false"
EVALUATE = "evaluate --model BASE --data DATA --out OUT/figures.csv"
AUDIT = "audit --model BASE --data DATA --judge MASKS --candidates 4 --out OUT/figures.json"
RESUME = "align --data DATA --model BASE --judge MASKS --candidates 4 --epochs 2 --batch_size 4 --out CUT --resume"
PACKED = "evaluate --model BASE --data PACKED --out OUT/figures.csv"
VOTED = "align --data DATA --model BASE --votes TUNED --out OUT"


@dataclass(frozen=True)
class Line:
    """A command on a changed world, and what must come of it.

    Args:
        command: its words.
        change: of the world, before it.
        says: what its refusal says; None where it must do what it does without the change.
        plain: the command without the change, where it is another one.
    """

    command: str
    change: Change = lambda world: None
    says: str | None = None
    plain: str | None = None


def bytes_of(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda world: (world / name).write_bytes(change((world / name).read_bytes()))


def put(name: str, data: bytes | str) -> Change:
    def write(world: Path) -> None:
        path = world / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return write


def cut(name: str, share: float = 0.5) -> Change:
    return bytes_of(name, lambda data: data[: int(len(data) * share)])


def gone(name: str) -> Change:
    return lambda world: (world / name).unlink()


def pixels(name: str, change: Callable[[np.ndarray], np.ndarray], **how: Any) -> Change:
    def write(world: Path) -> None:
        array = np.asarray(Image.open(world / name))
        Image.fromarray(change(array)).save(world / name, **how)

    return write


def voxels(name: str, change: Callable[[np.ndarray], np.ndarray], affine: Any = None) -> Change:
    def write(world: Path) -> None:
        old = nib.load(world / name)
        assert isinstance(old, nib.Nifti1Image)
        array = change(np.asarray(old.dataobj))
        nib.save(nib.Nifti1Image(array, old.affine if affine is None else affine), world / name)

    return write


def header(name: str, **fields: Any) -> Change:
    """Fields of a header as nibabel would not write them."""

    def write(data: bytes) -> bytes:
        raw = gzip.decompress(data)
        head = nib.Nifti1Header(raw[:348], check=False)
        for field, value in fields.items():
            head[field] = value
        return gzip.compress(head.binaryblock + raw[348:])

    return bytes_of(name, write)


def edited(name: str, change: Callable[[Any], Any]) -> Change:
    return bytes_of(name, lambda data: json.dumps(change(json.loads(data))).encode())


def both(*changes: Change) -> Change:
    return lambda world: [one(world) for one in changes]


def moved(name: str, to: str) -> Change:
    return lambda world: shutil.move(world / name, world / to)


def copied(name: str, to: str) -> Change:
    return lambda world: shutil.copytree(world / name, world / to)


def linked(name: str, to: str) -> Change:
    """Behind a link from somewhere else."""

    def link(world: Path) -> None:
        shutil.move(world / name, world / to)
        (world / name).symlink_to(world / to)

    return link


ONE, LABEL, VOLUME = "data/images/p3.png", "data/masks/p3.png", "scans/images/p3.nii.gz"
SPLIT = "base/split.json"
BOM = b"\xef\xbb\xbf"

LINES = {
    # Images and labels.
    "image cut": Line(PREDICT, cut(ONE), "p3.png"),
    "image is text": Line(PREDICT, put(ONE, "no image"), "p3.png"),
    "image empty": Line(PREDICT, put(ONE, ""), "p3.png"),
    "image in three equal colours": Line(PREDICT, pixels(ONE, lambda a: np.stack([a] * 3, -1))),
    "images gone": Line(PREDICT, lambda world: shutil.rmtree(world / "data/images"), "images"),
    "image as TIFF": Line(PREDICT, lambda world: (world / ONE).write_bytes((world / ONE).read_bytes())),
    "image compressed otherwise": Line(PREDICT, pixels(ONE, np.array, compress_level=0)),
    "image behind a link": Line(PREDICT, linked(ONE, "elsewhere.png")),
    "images behind a link": Line(PREDICT, linked("data/images", "elsewhere")),
    "a hidden copy": Line(PREDICT, copied("data/images", "data/images/.ipynb_checkpoints")),
    "volume cut": Line(SCAN, cut(VOLUME), "p3.nii.gz"),
    "volume not compressed to its end": Line(SCAN, bytes_of(VOLUME, lambda data: data[:-6]), "p3.nii.gz"),
    "volume with NaN": Line(SCAN, voxels(VOLUME, lambda a: np.where(a > 50, np.nan, a.astype(np.float32))), "p3.nii.gz.*NaN|NaN.*p3.nii.gz"),
    "volume without voxels": Line(SCAN, voxels(VOLUME, lambda a: a[:0]), "p3.nii.gz"),
    "volume with one bit turned": Line(SCAN, bytes_of(VOLUME, lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]), "p3.nii.gz"),
    "volume without a size": Line(SCAN, header(VOLUME, sform_code=1, srow_x=(0, 0, 0, 0)), "p3.nii.gz"),
    "volume as float": Line(SCAN, voxels(VOLUME, lambda a: a.astype(np.float64))),
    "volume compressed otherwise": Line(SCAN, bytes_of(VOLUME, lambda data: gzip.compress(gzip.decompress(data), 1))),
    "label cut": Line(EVALUATE, cut(LABEL), "p3.png"),
    "label of another size": Line(EVALUATE, pixels(LABEL, lambda a: a[:9]), "p3.png"),
    "label with a value too many": Line(EVALUATE, pixels(LABEL, lambda a: np.where(a > 0, a, 7).astype(np.uint8)), "p3.png holds values"),
    "label in three equal channels": Line(EVALUATE, pixels(LABEL, lambda a: np.stack([a] * 3, -1))),
    "labels of nobody": Line(EVALUATE, lambda world: shutil.rmtree(world / "data/masks"), "label"),
    "no such split": Line(f"{EVALUATE} --split HERE/none.json", says="none.json"),
    # Options.
    "batch of none": Line(f"{PREDICT} --batch_size 0", says="batch_size"),
    "windows that only overlap": Line(f"{PREDICT} --overlap 1", says="overlap"),
    "patch of words": Line(f"{PREDICT} --patch [a,b]", says="patch"),
    "box of a model without prompts": Line(f"{PREDICT} --box [1,2,3,4]", says="box|prompt"),
    "no such part": Line(f"{EVALUATE} --part tests", says="tests"),
    "a part without cases": Line(f"{EVALUATE} --part judge", edited(SPLIT, lambda one: {**one, "judge": []}), "judge"),
    "one candidate": Line(f"{AUDIT} --candidates 1", says="candidates"),
    "the judge is the model": Line(AUDIT.replace("MASKS", "BASE"), says="its own judge"),
    "the judge is a copy of the model": Line(AUDIT.replace("MASKS", "HERE/copy"), copied("base", "here/copy"), "its own judge"),
    "masks are there already": Line(PREDICT, copied("masks", "out")),
    "some masks are there already": Line(PREDICT, both(copied("masks", "out"), gone("out/p4.png"))),
    "masks into the images": Line("predict --model BASE --input DATA/images --output DATA/images", says="images"),
    "configuration with a mark": Line(f"{PREDICT} --config HERE/c.yaml", put("here/c.yaml", BOM + b"batch_size: 3\n"), plain=f"{PREDICT} --batch_size 3"),
    "configuration as UTF-16": Line(f"{PREDICT} --config HERE/c.yaml", put("here/c.yaml", "batch_size: 3\n".encode("utf-16")), "c.yaml"),
    "configuration with another's option": Line(f"{PREDICT} --config HERE/c.yaml", put("here/c.yaml", "epochs: 3\n"), "epochs"),
    # Models.
    "weights cut": Line(PREDICT, cut("base/best.safetensors"), "best.safetensors"),
    "weights as a pickle": Line(PREDICT, put("base/best.safetensors", b"\x80\x02}q\x00."), "best.safetensors"),
    "weights gone": Line(PREDICT, gone("base/best.safetensors"), "base"),
    "a model file by itself": Line(PREDICT.replace("BASE", "HERE/m.safetensors"), lambda world: put("here/m.safetensors", (world / "base/best.safetensors").read_bytes())(world), plain=PREDICT),
    "a model behind a link": Line(PREDICT, linked("base", "elsewhere")),
    # Run folders.
    "split cut": Line(EVALUATE, cut(SPLIT), "split.json"),
    "split with somebody unknown": Line(EVALUATE, edited(SPLIT, lambda one: {**one, "test": [*one["test"], "p99"]}), "p99"),
    "a patient in two parts": Line(EVALUATE, edited(SPLIT, lambda one: {**one, "test": one["train"][:1]}), "split.json"),
    "split with a mark": Line(EVALUATE, bytes_of(SPLIT, lambda data: BOM + data)),
    "going on": Line(RESUME),
    "position cut": Line(RESUME, cut("cut/state.safetensors"), "state.safetensors"),
    "figures cut": Line(RESUME, cut("cut/metrics.csv")),
    "settings cut": Line(RESUME, cut("cut/run.json"), "run.json"),
    "going on with other options": Line(f"{RESUME} --learning_rate 0.01", says="learning_rate"),
    "going on with another base": Line(RESUME.replace("--model BASE", "--model TUNED"), says="model|base"),
    "going on on other images": Line(RESUME, pixels(ONE, lambda a: a // 2), "other images"),
    "going on with other masks": Line(RESUME, pixels("masks/p3.png", lambda a: 255 - a), "another judge"),
    "finished without its weights": Line(RESUME.replace("CUT", "TUNED"), gone("tuned/best.safetensors"), "best.safetensors"),
    "votes of a run": Line(VOTED, says="tuned"),
    "a study of a recipe in circles": Line("study --recipe HERE/r.yaml --data DATA --out OUT", put("here/r.yaml", "a: &a\n  b: *a\n"), "r.yaml"),
    "a study with a bad setting": Line("study --recipe phantoms --data DATA --out OUT", says="patients"),
    "packed into the images": Line("pack --data DATA --out DATA/images", says="image folder of the dataset"),
    "a study in the dataset": Line("study --recipe phantoms --data DATA --out DATA", says="is the folder of the dataset"),
    "votes into a run": Line("collect init --model BASE --data DATA --out TUNED", says="tuned"),
    "a report on no study": Line("collect report DATA", says="no study|holds no"),
    # Masks as a judge.
    "a mask cut": Line(AUDIT, cut("masks/p1.png"), "p1.png"),
    "masks gone": Line(AUDIT, both(gone("masks/p1.png"), gone("masks/p8.png")), "p1"),
    "a mask of another size": Line(AUDIT, pixels("masks/p1.png", lambda a: a[:5]), "p1.png"),
    "masks behind a link": Line(AUDIT, linked("masks", "elsewhere")),
    # Packed data.
    "packed": Line(PACKED, plain=EVALUATE),
    "packed image cut": Line(PACKED, cut("packed/volumes/p4.npz"), "p4.npz"),
    "packed index gone": Line(PACKED, lambda world: min((world / "packed").glob("*.json")).unlink(), "packed"),
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands made; runs remember where it was, so each test finds it in that place."""
    folder = tmp_path_factory.mktemp("fuzz")
    make(folder / "world")
    return Path(shutil.move(folder / "world", folder / "kept"))


def fresh(kept: Path) -> Path:
    world = kept.parent / "world"
    shutil.rmtree(world, ignore_errors=True)
    shutil.rmtree(kept.parent / "elsewhere", ignore_errors=True)
    return Path(shutil.copytree(kept, world))


@pytest.fixture(scope="module")
def without_change(kept: Path) -> Callable[[str], Made]:
    """What a command writes where nothing was changed."""
    return functools.cache(lambda command: outcome(command, fresh(kept)))


def outcome(command: str, world: Path) -> Made:
    done = ended(world, command.split())
    assert done.returncode == 0, done.stderr
    return made(world / ("cut" if "--resume" in command else "out"))


@pytest.mark.parametrize("name", LINES)
def test_commands_on_what_was_changed(
    name: str, kept: Path, without_change: Callable[[str], Made]
) -> None:
    line = LINES[name]
    right = None if line.says is not None else without_change(line.plain or line.command)
    world = fresh(kept)
    line.change(world)
    if right is not None:
        same(outcome(line.command, world), right)
        return
    done = ended(world, line.command.split())
    assert done.returncode in (1, 2), (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    (said,) = [one for one in done.stderr.splitlines() if one.startswith("segpref")]
    sentence(said)
    assert re.search(str(line.says), said), said
