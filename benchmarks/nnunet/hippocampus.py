"""RN-DPO on a real nnU-Net, trained and predicted with by stock nnU-Net alone.

    python -m benchmarks.nnunet.hippocampus --data Task04_Hippocampus --out runs/nnunet

Per seed other cases of the dataset are drawn: few train the base (fold 0), more a judge of the same
kind for twice as long (fold 1), some validate, and the rest are images to align on, without labels, and
cases to test on. ``segpref align`` tunes the folder of the base, stock nnU-Net predicts the test images
with the folder before and after, and ``segpref predict`` must write the very masks of the latter.

Whatever is finished in the folder is kept, so a run that was stopped goes on with the same command; a
training that was stopped begins anew. Needs the environment of ``make test-nnunet``. The table is in
``results.md``, every case in ``*.csv``.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import nibabel as nib
import numpy as np
from jsonargparse import auto_cli

from benchmarks.nnunet.stock import TRAINER, Stock
from segpref.data import Reader, Source, open_dataset, split_patients
from segpref.data.cache import write_atomically
from segpref.data.splits import draw_patients
from segpref.metrics import dice, overlap_counts
from segpref.progress import console

__all__ = ["Scale", "main"]


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Args:
        labelled: cases that train the base.
        judge: cases that train the judge.
        validation: cases that choose the checkpoint.
        test: cases that are tested on.
        features: share of the channels that nnU-Net plans, in 2D and in 3D.
        batch: patches in a batch of training, in 2D and in 3D.
        epochs: of the base's training; the judge's is twice as long.
        iterations: in an epoch of training.
        align: options of ``segpref align``, in 2D and in 3D.
    """

    labelled: int = 10
    judge: int = 40
    validation: int = 10
    test: int = 41
    features: tuple[float, float] = (0.5, 0.25)
    batch: tuple[int, int] = (16, 2)
    epochs: int = 20
    iterations: int = 50
    align: tuple[str, str] = (
        "--beta 1.5 --candidates 16 --epochs 15 --images_per_epoch 480 --batch_size 16",
        "--beta 1.5 --candidates 16 --epochs 5 --images_per_epoch 60 --batch_size 4",
    )


def main(
    data: Path,
    out: Path,
    seeds: Sequence[int] = (0, 1, 2),
    configurations: Sequence[Literal["2d", "3d_fullres"]] = ("2d", "3d_fullres"),
    scale: Scale = Scale(),
) -> None:
    """Train, align, predict and score; write the table.

    Args:
        data: a dataset of label maps in NIfTI, one channel.
        out: folder for everything.
        seeds: of the draw of the cases, of the training of base and judge, of slates and pairs.
        configurations: 2d or 3d_fullres.
        scale: how much of everything.
    """
    out = out.resolve()
    stock = Stock(out)
    reader = open_dataset(data)
    out.mkdir(parents=True, exist_ok=True)
    for configuration in configurations:
        for seed in seeds:
            scores = out / f"{configuration}-{seed}.csv"
            if not scores.exists():
                console.print(f"{configuration}, seed {seed}")
                dataset = _dataset(stock, reader, seed, scale)
                _write(scores, _scored(stock, reader, dataset, configuration, seed, scale))
            table = _table(out)
            write_atomically(out / "results.md", table.encode())
    console.print(table, markup=False, soft_wrap=True)


def _dataset(stock: Stock, reader: Reader, seed: int, scale: Scale) -> str:
    """Draw the cases and lay them out as nnU-Net wants them, planned and preprocessed."""
    name = f"Dataset{901 + seed}_Drawn"
    raw, ready = stock.root / "raw" / name, stock.root / f"{name}.json"
    if ready.exists():
        return name
    sizes = {"judge": scale.judge, "validation": scale.validation, "test": scale.test}
    split = split_patients(reader, sizes, seed)
    base = draw_patients(split.train, scale.labelled, seed)
    for source in reader.sources():
        if source.patient in {*base, *split.judge, *split.validation}:
            _copy(source.images[0], raw / "imagesTr" / f"{source.id}_0000.nii.gz")
            _copy(source.labels[0], raw / "labelsTr" / f"{source.id}.nii.gz")
        elif source.labels:
            part = "test" if source.patient in split.test else "pool"
            _copy(source.images[0], stock.root / part / name / f"{source.id}_0000.nii.gz")
    labels = {label: value for value, label in enumerate(reader.label_space.names)}
    description = {
        "channel_names": {"0": "MRI"},
        "labels": labels,
        "numTraining": len(list((raw / "labelsTr").iterdir())),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))

    def small(settings: dict[str, Any]) -> None:
        network, third = settings["architecture"]["arch_kwargs"], len(settings["patch_size"]) - 2
        planned = network["features_per_stage"]
        network["features_per_stage"] = [max(4, round(scale.features[third] * n)) for n in planned]
        settings["batch_size"] = scale.batch[third]

    folds = [
        {"train": _ids(reader, people), "val": _ids(reader, split.validation)}
        for people in (base, split.judge)
    ]
    stock.plan(name, ("2d", "3d_fullres"), small, folds)
    known = {"train": base, "judge": split.judge, "validation": split.validation, "test": ()}
    write_atomically(ready, json.dumps({**known, "by_patient": split.by_patient}).encode())
    return name


def _scored(
    stock: Stock,
    reader: Reader,
    dataset: str,
    configuration: Literal["2d", "3d_fullres"],
    seed: int,
    scale: Scale,
) -> list[dict[str, Any]]:
    """One row per model, test case and structure."""
    model = stock.model(dataset, configuration)
    for fold, length in ((0, scale.epochs), (1, 2 * scale.epochs)):
        if not (model / f"fold_{fold}" / "checkpoint_final.pth").exists():
            short = {
                "SHORT_EPOCHS": length,
                "SHORT_ITERATIONS": scale.iterations,
                "SHORT_SEED": seed,
            }
            stock.train(dataset, configuration, fold, **short)
    run = stock.root / "align" / f"{configuration}-{seed}"
    tuned = run / "tuned" / model.name
    if not tuned.exists():
        stock.run(
            "segpref",
            *("align", "--trust", "--model", model / "fold_0", "--judge", model / "fold_1"),
            *("--data", stock.root / "raw" / dataset, "--pool", stock.root / "pool" / dataset),
            *("--split", stock.root / f"{dataset}.json", "--out", run, "--resume"),
            *("--cache", stock.root / "cache", "--seed", seed),
            *scale.align[configuration != "2d"].split(),
        )
    images = stock.root / "test" / dataset
    masks = {name: stock.root / name / f"{configuration}-{seed}" for name in ("base", "tuned")}
    stock.predict(model, ("0",), images, masks["base"])
    stock.predict(tuned, ("0",), images, masks["tuned"])
    ours = stock.root / "ours" / f"{configuration}-{seed}"
    stock.run(
        "segpref", "predict", "--trust", "--model", tuned, "--input", images, "--output", ours
    )
    rows: list[dict[str, Any]] = []
    for source in reader.sources():
        file = f"{source.id}.nii.gz"
        if not (masks["base"] / file).exists():
            continue
        same = bool((_mask(masks["tuned"] / file) == _mask(ours / file)).all())
        for name, folder in masks.items():
            counts = overlap_counts(
                _mask(folder / file)[None], _mask(source.labels[0]), reader.label_space
            )
            for structure, value in zip(
                reader.label_space.structures, dice(counts)[0], strict=True
            ):
                rows.append(
                    {
                        "model": name,
                        "case": source.id,
                        "structure": structure,
                        "dice": float(value),
                        "same": same,
                    }
                )
    return rows


def _table(out: Path) -> str:
    """Mean test Dice of each seed before and after, as Markdown."""
    lines = [
        f"{TRAINER}, mean Dice of structures and test cases, mean ± standard deviation of seeds.",
        "",
        "| configuration | seeds | base | tuned | difference | of each seed | masks as ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for configuration in ("2d", "3d_fullres"):
        before: list[float] = []
        after: list[float] = []
        same: list[bool] = []
        for file in sorted(out.glob(f"{configuration}-*.csv")):
            with file.open(newline="") as stream:
                rows = list(csv.DictReader(stream))
            for values, name in ((before, "base"), (after, "tuned")):
                values.append(mean(float(row["dice"]) for row in rows if row["model"] == name))
            same += [row["same"] == "True" for row in rows if row["model"] == "tuned"]
        if not before:
            continue
        gains = [b - a for a, b in zip(before, after, strict=True)]
        spread = [_spread(values) for values in (before, after, gains)]
        each = ", ".join(f"{gain:+.3f}" for gain in gains)
        equal = "all" if all(same) else f"{sum(same)} of {len(same)}"
        lines.append(
            f"| {configuration} | {len(gains)} | {' | '.join(spread)} | {each} | {equal} |"
        )
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _ids(reader: Reader, patients: Sequence[str]) -> list[str]:
    sources: Sequence[Source] = reader.sources()
    return [source.id for source in sources if source.patient in patients]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _mask(path: Path) -> np.ndarray:
    """As ``[field, *space]``."""
    return np.asarray(nib.load(path).dataobj).astype(np.uint8)[None]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
