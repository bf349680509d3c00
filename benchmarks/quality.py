"""Does the quality report find bad masks? Against confidence, dropout and ensembles.

    SEGPREF_DATA=DATA python -m benchmarks.quality --data hippocampus --out docs/results/quality

For every seed, patients are drawn anew, and four small networks are trained: the model, another of
the same patients as an ensemble with it (``second``), and two on as many others: the judge and one
more, which make a committee. Patients of ``dev`` choose all checkpoints, those of ``calibration``
calibrate the report, those of ``test`` test it. ``segpref.predict`` with a report sees each test
volume as it is and four times shifted: with noise, a bias field, gamma 2.5 and gamma 0.4. For each
structure the masks are ordered by each score; measured are Spearman's rank correlation with the true
Dice and the area under the risk-coverage curve (AURC: mean of ``1 - Dice`` over the most trusted
masks, averaged over how many these are; masks of equal score share their mean risk), as by Zenk et
al. (Medical Image Analysis 101, 2025). Both are means over structures and seeds, with 95 % intervals
bootstrapped over the test patients of each seed.

``max-softmax`` is the report's ``model_confidence``: the mean of the largest probability over the
voxels that are given to the structure (0 where none is); ``dropout`` and ``ensemble`` are pairwise Dice
of eight reruns, or of the two networks. ``masks-SEED.csv`` of a seed is written when it is done, and a
seed that has one is skipped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch

import segpref
from benchmarks.quality_figures import report
from segpref.data import Cache, Dataset, Preparation, Split, images_for, open_dataset, prepare
from segpref.inference import QualityConfig, pairwise_disagreement
from segpref.metrics import dice, overlap_counts
from segpref.policies import ModelCard, NetworkSpec, load_model
from segpref.training import RunFolder, fit

__all__ = ["main"]


@dataclass(frozen=True)
class Setting:
    """What is measured on a dataset: its folder, patients of each part, form, network, training."""

    folder: str
    sizes: Mapping[str, int]
    form: Preparation
    channels: tuple[int, ...]
    training: Mapping[str, Any]

    def network(self, classes: int) -> NetworkSpec:
        """A U-Net with dropout."""
        return NetworkSpec(
            "monai.networks.nets.UNet",
            {
                "spatial_dims": self.form.dims, "in_channels": 1, "out_channels": classes,
                "channels": list(self.channels), "strides": [2] * (len(self.channels) - 1),
                "num_res_units": 1, "dropout": 0.1,
            },
        )  # fmt: skip


SETTINGS = {
    "acdc": Setting(
        "acdc",
        {"base": 18, "judge": 18, "dev": 4, "calibration": 20, "test": 19},
        Preparation(dims=2, crop=(144, 144), size=(96, 96), normalise="min-max"),
        (16, 32, 64, 128),
        {"epochs": 10, "images_per_epoch": 480, "learning_rate": 3e-3},
    ),
    "hippocampus": Setting(
        "Task04_Hippocampus",
        {"base": 40, "judge": 40, "dev": 8, "calibration": 40, "test": 50},
        Preparation(dims=3, size=(32, 48, 32), normalise="z-score"),
        (16, 32, 64),
        {"epochs": 10, "images_per_epoch": 120, "batch_size": 2, "learning_rate": 4e-3},
    ),
}
RUNS = {"base": "base", "second": "base", "judge": "judge", "other": "judge"}
"""Of whose patients each network is trained."""

Shift = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, predict, and write ``masks-SEED.csv``, ``figures.csv`` and ``shifts.csv``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=SETTINGS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("SEGPREF_DATA", ".")))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out = given.out / given.data
    out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        kept = out / f"masks-{seed}.csv"
        if not kept.exists():
            with TemporaryDirectory() as work:
                masks = _of_seed(SETTINGS[given.data], given.root, seed, Path(work))
            masks.round(4).to_csv(kept, index=False)
    every = [pd.read_csv(path) for path in sorted(out.glob("masks-*.csv"))]
    for name, figures in report(pd.concat(every)).items():
        figures.round(3).to_csv(out / f"{name}.csv", index=False)
        print(name, figures.round(3).to_string(index=False), sep="\n", flush=True)


def _of_seed(setting: Setting, root: Path, seed: int, work: Path) -> pd.DataFrame:
    reader, cache = open_dataset(root / setting.folder), Cache(work / "cache")
    dataset = prepare(reader, setting.form, cache)
    patients = np.random.default_rng(seed).permutation(dataset.patients).tolist()
    parts: dict[str, list[str]] = {}
    for name, size in setting.sizes.items():
        parts[name], patients = patients[:size], patients[size:]
    train = (*parts["base"], *parts["judge"], *parts["dev"])
    split = Split(train, (), tuple(parts["calibration"]), tuple(parts["test"]))
    split.save(work / "split.json")
    runs = {}
    for number, (name, part) in enumerate(RUNS.items()):
        own = 10 * seed + number
        runs[name] = _trained(setting, work / name, dataset, parts[part], parts["dev"], own)
    rng = np.random.default_rng(seed)
    (work / "images").mkdir()
    truth = {}
    for part in ("calibration", "test"):
        for source in (one for one in reader.sources() if one.patient in parts[part]):
            case = reader.read(source)
            for shift, change in SHIFTS.items():
                if part == "calibration" and shift != "none":
                    continue
                name = f"{source.id}-{shift}"
                pixels = change(np.asarray(case.image[0], float), rng).astype(np.float32)
                image = nib.Nifti1Image(pixels, nib.load(source.images[0]).affine)
                nib.save(image, work / "images" / f"{name}.nii.gz")
                truth[name] = (part, source.patient, shift, np.asarray(case.label))
    judges = {"": [runs["judge"]], "committee_": [runs["judge"], runs["other"]]}
    found: dict[tuple[str, str], dict[str, object]] = {}
    for prefix, judge in judges.items():
        segpref.predict(
            runs["base"], work / "images", work / "masks",
            judge=judge[0] if len(judge) == 1 else [str(one) for one in judge],
            validation=reader, split=work / "split.json", report=work / f"{prefix}report",
            cache=work / "cache", quality=QualityConfig(pictures=0, reruns=2 if prefix else 8),
        )  # fmt: skip
        for row in pd.read_csv(work / f"{prefix}report" / "quality.csv").to_dict("records"):
            values = {
                f"{prefix}score": row["judge_score"],
                f"{prefix}predicted": row["predicted_dice"],
                f"{prefix}low": row["dice_low"],
                f"{prefix}high": row["dice_high"],
                f"{prefix}order": row["rank"],
            }
            if not prefix:
                values["dropout"] = -row["model_disagreement"]
                values["confidence"] = row["model_confidence"]
                values["flagged"] = row["look"] == "yes"
            found.setdefault((str(row["image"]), str(row["structure"])), {}).update(values)
    space = dataset.label_space
    ensembles = _ensembles(setting, work, runs, cache, dataset)
    rows = []
    for name, (part, patient, shift, label) in truth.items():
        mask = np.asarray(nib.load(work / "masks" / f"{name}.nii.gz").dataobj).astype(np.uint8)
        scores = dice(overlap_counts(mask[None, None], label, space))[0]
        for number, structure in enumerate(space.structures):
            row = {"seed": seed, "part": part, "patient": patient, "shift": shift}
            row |= {"structure": structure, "dice": scores[number], **found[name, structure]}
            rows.append(row | {"ensemble": ensembles[name][number]})
    return pd.DataFrame(rows)


def _trained(
    setting: Setting,
    folder: Path,
    dataset: Dataset,
    own: Sequence[str],
    dev: Sequence[str],
    seed: int,
) -> Path:
    space = dataset.label_space
    labelled = tuple(sorted({*own, *dev}))
    network = setting.network(space.channels)
    card = ModelCard(network, space, setting.form, ("MRI",), labelled=labelled)
    run = RunFolder(folder)
    run.open({"seed": seed}, resume=False)
    labels, chooses = dataset.of_patients(own), dataset.of_patients(dev)
    fit(labels, chooses, card, run, seed=seed, **setting.training)
    return folder


def _ensembles(
    setting: Setting, work: Path, runs: Mapping[str, Path], cache: Cache, dataset: Dataset
) -> dict[str, np.ndarray]:
    """Agreement of two networks, by image."""
    space = dataset.label_space
    models = [load_model(runs[name])[0] for name in ("base", "second")]
    pool = prepare(images_for(work / "images", ("MRI",)), setting.form, cache, space)
    found = {}
    for volume, items in pool.by_volume():
        images = torch.from_numpy(np.asarray(volume.images[items]))
        with torch.no_grad():
            masks = [space.decode(model.logits(images)).numpy() for model in models]
        found[volume.source.id] = -pairwise_disagreement(masks, space)
    return found


def _noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return pixels + rng.normal(0, 0.12 * np.ptp(pixels), pixels.shape)


def _bias(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A field that changes by a factor of about five over the image, in a random direction."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in pixels.shape[:2]), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * grid[0] + np.sin(angle) * grid[1]
    return pixels * np.exp(0.8 * along)[..., None]


def _gamma(power: float) -> Shift:
    def changed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        low, span = pixels.min(), max(float(np.ptp(pixels)), 1e-6)
        return low + span * ((pixels - low) / span) ** power

    return changed


SHIFTS: Mapping[str, Shift] = {
    "none": lambda pixels, rng: pixels,
    "noise": _noise,
    "bias": _bias,
    "gamma2.5": _gamma(2.5),
    "gamma0.4": _gamma(0.4),
}

if __name__ == "__main__":
    main()
