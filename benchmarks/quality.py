"""Does the quality report find bad masks? Against confidence, dropout and ensembles, on ACDC.

    SEGPREF_DATA=DATA python -m benchmarks.quality --out docs/results/quality

For every seed, patients are drawn anew: small 2D networks are trained on 8 (the model, and one more
of another seed as an ensemble) and on 8 others (the judge), with 4 that choose all checkpoints; 25
calibrate the report and 20 test it. ``segpref.predict`` with a report sees each test volume as
it is and four times shifted: with noise, a bias field, gamma 2.5 and gamma 0.4. For each structure the
masks are ordered by each score; measured are Spearman's rank correlation with the true Dice and the
area under the risk-coverage curve (AURC: mean of ``1 - Dice`` over the most trusted masks, averaged
over how many these are; masks of equal score share their mean risk), as by Zenk et al. (Medical Image
Analysis 101, 2025). Both are means over structures and seeds, with 95 % intervals bootstrapped over
test patients.

``max-softmax`` is the mean of the largest probability over the voxels that are given to the structure
(0 where none is), ``dropout`` and ``ensemble`` are pairwise Dice of eight reruns, or of the two
networks.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

import segpref
from segpref.data import Cache, Dataset, Preparation, Split, images_for, open_dataset, prepare
from segpref.inference import pairwise_disagreement
from segpref.metrics import dice, overlap_counts
from segpref.policies import ModelCard, NetworkSpec, load_model
from segpref.training import RunFolder, fit

__all__ = ["aurc", "main", "spearman"]

SIZES = {"base": 8, "judge": 8, "dev": 4, "calibration": 25, "test": 20}
FORM = Preparation(dims=2, crop=(144, 144), size=(48, 48), normalise="min-max")
NETWORK = NetworkSpec(
    "monai.networks.nets.UNet",
    {
        "spatial_dims": 2, "in_channels": 1, "out_channels": 4, "channels": [16, 32, 64, 128],
        "strides": [2, 2, 2], "num_res_units": 2, "dropout": 0.1,
    },
)  # fmt: skip
TRAINING = {"epochs": 25, "images_per_epoch": 200, "learning_rate": 2e-3}
RESAMPLES = 1000
SCORES = {
    "judge's score": "score",
    "predicted Dice": "predicted",
    "order of the report": "order",
    "flagged ones first": "flagged_first",
    "max-softmax": "confidence",
    "dropout": "dropout",
    "ensemble": "ensemble",
}

Shift = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, predict, and write ``masks.csv`` and ``figures.csv``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SEGPREF_DATA", ".")) / "acdc"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    tables = []
    for seed in given.seeds:
        with TemporaryDirectory() as work:
            tables.append(_of_seed(given.data, seed, Path(work)))
        masks = pd.concat(tables)
        kept = masks.drop(columns=["image", "why"]).round(3)
        kept.to_csv(given.out / "masks.csv", index=False)
        for name, figures in report(masks).items():
            figures.round(3).to_csv(given.out / f"{name}.csv", index=False)
            print(name, figures.round(3).to_string(index=False), sep="\n", flush=True)


def aurc(confidence: np.ndarray, risk: np.ndarray) -> float:
    """Area under the risk-coverage curve; masks of equal confidence share their mean risk."""
    _, places = np.unique(-confidence, return_inverse=True)
    shared = (np.bincount(places, weights=risk) / np.bincount(places))[places]
    ordered = shared[np.argsort(-confidence, kind="stable")]
    return float(np.mean(np.cumsum(ordered) / np.arange(1, len(ordered) + 1)))


def spearman(confidence: np.ndarray, risk: np.ndarray) -> float:
    """Rank correlation with Dice; 0 where all are equal."""
    found = float(spearmanr(confidence, -risk).statistic)
    return 0.0 if np.isnan(found) else found


def report(masks: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Figures of all scores with intervals over patients, and what intervals and flags are worth."""
    parts = {"all": masks, "unshifted": masks[masks["shift"] == "none"]}
    rows = [row for name, part in parts.items() for row in _figures(name, part)]
    shifts = []
    for shift, some in masks.groupby("shift"):
        held = (some["low"] <= some["dice"]) & (some["dice"] <= some["high"])
        flagged = some["flagged"].astype(bool)
        shifts.append(
            {
                "shift": shift,
                "masks": len(some),
                "mean Dice": some["dice"].mean(),
                "mean predicted": some["predicted"].mean(),
                "in the 90 % interval": held.mean(),
                "width": (some["high"] - some["low"]).mean(),
                "flagged": flagged.mean(),
                "Dice of flagged": some["dice"][flagged].mean(),
                "Dice of others": some["dice"][~flagged].mean(),
            }
        )
    return {"figures": pd.DataFrame(rows), "shifts": pd.DataFrame(shifts)}


def _figures(name: str, masks: pd.DataFrame) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    columns = [*SCORES.values(), "dice"]
    groups = [part for _, part in masks.groupby(["seed", "structure"])]
    numbers = [
        {
            patient: np.flatnonzero(part["patient"] == patient)
            for patient in part["patient"].unique()
        }
        for part in groups
    ]
    tables = [part[columns].to_numpy(float) for part in groups]
    patients = sorted(masks["patient"].unique())

    def means(chosen: Sequence[str] | None) -> np.ndarray:
        found = []
        for table, places in zip(tables, numbers, strict=True):
            rows = table
            if chosen is not None:
                some = [places[one] for one in chosen if one in places]
                rows = table[np.concatenate(some)]
            risk = 1 - rows[:, -1]
            found.append([(spearman(one, risk), aurc(one, risk)) for one in (*rows.T[:-1], -risk)])
        return np.mean(found, axis=0)

    value = means(None)
    drawn = np.stack([means(rng.choice(patients, len(patients))) for _ in range(RESAMPLES)])
    rows: list[dict[str, object]] = []
    for place, score in enumerate([*SCORES, "perfect order"]):
        row: dict[str, object] = {"images": name, "score": score}
        for number, measure in enumerate(("spearman", "aurc")):
            own = drawn[:, place, number]
            away = own - drawn[:, list(SCORES).index("max-softmax"), number]
            row[measure] = value[place, number]
            row[f"{measure}_low"], row[f"{measure}_high"] = np.quantile(own, (0.025, 0.975))
            ends = np.quantile(away, (0.025, 0.975))
            row[f"{measure}_minus_softmax_low"], row[f"{measure}_minus_softmax_high"] = ends
        rows.append(row)
    return rows


def _of_seed(data: Path, seed: int, work: Path) -> pd.DataFrame:
    reader, cache = open_dataset(data), Cache(work / "cache")
    dataset = prepare(reader, FORM, cache)
    patients = np.random.default_rng(seed).permutation(dataset.patients).tolist()
    parts: dict[str, list[str]] = {}
    for name, size in SIZES.items():
        parts[name], patients = patients[:size], patients[size:]
    train = (*parts["base"], *parts["judge"], *parts["dev"])
    split = Split(train, (), tuple(parts["calibration"]), tuple(parts["test"]))
    split.save(work / "split.json")
    whose = {"base": "base", "judge": "judge", "second": "base"}
    runs = {}
    for number, (name, part) in enumerate(whose.items()):
        runs[name] = _trained(work / name, dataset, parts[part], parts["dev"], 10 * seed + number)
    test = [one for one in reader.sources() if one.patient in parts["test"]]
    rng = np.random.default_rng(seed)
    (work / "images").mkdir()
    truth = {}
    for source in test:
        case = reader.read(source)
        for shift, change in SHIFTS.items():
            name = f"{source.id}-{shift}"
            pixels = change(np.asarray(case.image[0], float), rng).astype(np.float32)
            original = nib.load(source.images[0])
            nib.save(nib.Nifti1Image(pixels, original.affine), work / "images" / f"{name}.nii.gz")
            truth[name] = (source.patient, shift, np.asarray(case.label))
    found: dict[tuple[str, str], dict[str, object]] = {}
    segpref.predict(
        runs["base"], work / "images", work / "masks", judge=runs["judge"], validation=reader,
        split=work / "split.json", report=work / "report", cache=work / "cache",
    )  # fmt: skip
    for row in pd.read_csv(work / "report" / "quality.csv").to_dict("records"):
        found[str(row["image"]), str(row["structure"])] = {
            "score": row["judge_score"],
            "predicted": row["predicted_dice"],
            "low": row["dice_low"],
            "high": row["dice_high"],
            "order": row["rank"],
            "dropout": -row["model_disagreement"],
            "flagged": row["look"] == "yes",
            "flagged_first": row["rank"] - 1e6 * (row["look"] == "yes"),
            "why": row["why"],
        }
    space = dataset.label_space
    confidences, ensembles = _baselines(work, runs, cache, dataset)
    rows = []
    for name, (patient, shift, label) in truth.items():
        mask = np.asarray(nib.load(work / "masks" / f"{name}.nii.gz").dataobj).astype(np.uint8)
        scores = dice(overlap_counts(mask[None, None], label, space))[0]
        for number, structure in enumerate(space.structures):
            row = {"seed": seed, "patient": patient, "image": name, "shift": shift}
            row |= {"structure": structure, "dice": scores[number], **found[name, structure]}
            row |= {"confidence": confidences[name][number], "ensemble": ensembles[name][number]}
            rows.append(row)
    return pd.DataFrame(rows)


def _trained(
    folder: Path, dataset: Dataset, own: Sequence[str], dev: Sequence[str], seed: int
) -> Path:
    card = ModelCard(
        NETWORK, dataset.label_space, FORM, ("MRI",), labelled=tuple(sorted({*own, *dev}))
    )
    run = RunFolder(folder)
    run.open({"seed": seed}, resume=False)
    fit(dataset.of_patients(own), dataset.of_patients(dev), card, run, seed=seed, **TRAINING)
    return folder


def _baselines(
    work: Path, runs: Mapping[str, Path], cache: Cache, dataset: Dataset
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Mean largest probability, and agreement of two networks, by image."""
    space = dataset.label_space
    models = [load_model(runs[name])[0] for name in ("base", "second")]
    pool = prepare(images_for(work / "images", ("MRI",)), FORM, cache, space)
    confidences, agreements = {}, {}
    for volume, items in pool.by_volume():
        images = torch.from_numpy(np.asarray(volume.images[items]))
        with torch.no_grad():
            logits = [model.logits(images) for model in models]
        masks = [space.decode(one).numpy() for one in logits]
        largest = torch.softmax(logits[0], dim=1).amax(dim=1).numpy()
        parts = space.structure_masks(masks[0], field_axis=1)
        confidences[volume.source.id] = np.array(
            [largest[part].mean() if part.any() else 0.0 for part in np.moveaxis(parts, 1, 0)]
        )
        agreements[volume.source.id] = -pairwise_disagreement(masks, space)
    return confidences, agreements


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
