"""RN-DPO on a real nnU-Net, trained and predicted with by stock nnU-Net alone.

    python -m benchmarks.nnunet.hippocampus --data Task04_Hippocampus --out runs/nnunet

Per seed other cases of the dataset are drawn: few train the base (fold 0), more a judge, for twice as
long (fold 1), some validate, and the rest are images to align on, without labels, and cases to test on.
``segpref align`` tunes the folder of the base. Stock nnU-Net predicts the test images with the folder
before and after, with mirrored views, as it does by itself, and without; ``segpref predict`` must write
the very masks of the former.

In 3D the base's mirrored views are candidates, and the masks of a 2D model that was trained on the same
cases. That model, and nnU-Net's own ensemble of it and the base, are in the table, too.

Whatever is finished in the folder is kept, so a run that was stopped goes on with the same command; a
training that was stopped begins anew. Needs the environment of ``make test-nnunet``. The table is in
``results.md``, every case in ``*.csv``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import auto_cli

from benchmarks.nnunet.stock import Stock
from benchmarks.nnunet.tables import Row, scores, table, write_rows
from segpref.data import (
    Reader,
    Source,
    draw_patients,
    open_dataset,
    split_patients,
    write_atomically,
)
from segpref.progress import console

__all__ = ["Scale", "main"]

ENSEMBLE, ENSEMBLE_OF = "base and 2D, ensemble", ("base", "2D")


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
        epochs: of the base's training, in 2D and in 3D; the judge's is twice as long.
        iterations: in an epoch of training.
        align: options of ``segpref align``, in 2D and in 3D.
        methods: more of them, in 2D and in 3D, by the name of what is made with them.
    """

    labelled: int = 10
    judge: int = 40
    validation: int = 10
    test: int = 41
    features: tuple[float, float] = (0.5, 0.25)
    batch: tuple[int, int] = (16, 2)
    epochs: tuple[int, int] = (20, 30)
    iterations: int = 50
    align: tuple[str, str] = (
        "--candidates 16 --families paper --epochs 15 --images_per_epoch 480 --batch_size 16 "
        "--proposal_precision no",
        "--candidates 12 --families [segpref.proposals.MirroredViews] "
        "--miner segpref.preferences.TopVsBase "
        "--epochs 20 --images_per_epoch 60 --batch_size 4 --learning_rate 5e-5 --proposal_precision no",
    )
    methods: tuple[Mapping[str, str], Mapping[str, str]] = field(
        default_factory=lambda: (
            {"RN-DPO": "", "RN-DPO, averaged": "--average 0.98"},
            {
                "RN-DPO, averaged": "--average 0.97",
                "random preferences": "--average 0.97 --control true",
            },
        )
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
            file = out / f"{configuration}-{seed}.csv"
            if not file.exists():
                console.print(f"{configuration}, seed {seed}")
                dataset = _dataset(stock, reader, seed, scale)
                write_rows(file, _scored(stock, reader, dataset, configuration, seed, scale))
            found = table(out)
            write_atomically(out / "results.md", found.encode())
    console.print(found, markup=False, soft_wrap=True)


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
        network, in_3d = settings["architecture"]["arch_kwargs"], len(settings["patch_size"]) - 2
        planned = network["features_per_stage"]
        network["features_per_stage"] = [max(4, round(scale.features[in_3d] * n)) for n in planned]
        settings["batch_size"] = scale.batch[in_3d]

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
) -> list[Row]:
    """One row per model, view, test case and structure."""
    in_3d, where = configuration != "2d", f"{configuration}-{seed}"
    base = _train(stock, dataset, configuration, 0, seed, scale)
    judge = _train(stock, dataset, configuration, 1, seed, scale)
    pool, test = stock.root / "pool" / dataset, stock.root / "test" / dataset
    models, others = {"base": base.parent}, []
    if in_3d:
        models["2D"] = _train(stock, dataset, "2d", 0, seed, scale).parent
        made = stock.root / "masks" / "2D" / where / "pool"
        stock.predict(models["2D"], ("0",), pool, made)
        others = ["--others", json.dumps([str(made)])]
    for name, options in scale.methods[in_3d].items():
        run = stock.root / "align" / name / where
        models[name] = run / "tuned" / base.parent.name
        if not models[name].exists():
            stock.run(
                "segpref",
                *(
                    "align",
                    "--keep_tuned",
                    "--trust",
                    "--model",
                    base,
                    "--judge",
                    judge,
                    "--beta",
                    1.5,
                ),
                *("--data", stock.root / "raw" / dataset, "--pool", pool, *others),
                *("--split", stock.root / f"{dataset}.json", "--out", run, "--resume"),
                *("--cache", stock.root / "cache", "--seed", seed),
                *scale.align[in_3d].split(),
                *options.split(),
            )
    rows: list[Row] = []
    for views in ("mirrored", "upright"):
        at = {name: stock.root / "masks" / name / where / views for name in (*models, ENSEMBLE)}
        for name, model in models.items():
            alone = ["--disable_tta"] if views == "upright" else []
            likely = ["--save_probabilities"] if in_3d and name in ENSEMBLE_OF else []
            stock.predict(model, ("0",), test, at[name], *alone, *likely)
        if in_3d:
            stock.ensemble([at[name] for name in ENSEMBLE_OF], at[ENSEMBLE])
        for name in (*models, *([ENSEMBLE] if in_3d else [])):
            same = None
            if name in scale.methods[in_3d] and views == "mirrored":
                same = at[name].parent / "ours"
                shutil.rmtree(same, ignore_errors=True)
                stock.run(
                    *("segpref", "predict", "--trust", "--model", models[name], "--input", test),
                    *("--output", same),
                )
            for row in scores(reader, at[name], same):
                rows.append({"model": name, "views": views, **row})
    return rows


def _train(
    stock: Stock, dataset: str, configuration: str, fold: int, seed: int, scale: Scale
) -> Path:
    """A fold; of the judge (fold 1) for twice as long."""
    trained = stock.model(dataset, configuration) / f"fold_{fold}"
    if not (trained / "checkpoint_final.pth").exists():
        short = {
            "SHORT_EPOCHS": scale.epochs[configuration != "2d"] * (1 + fold),
            "SHORT_ITERATIONS": scale.iterations,
            "SHORT_SEED": seed,
        }
        stock.train(dataset, configuration, fold, **short)
    return trained


def _ids(reader: Reader, patients: Sequence[str]) -> list[str]:
    sources: Sequence[Source] = reader.sources()
    return [source.id for source in sources if source.patient in patients]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
