"""Figures of ``benchmarks.quality``: how well each score orders masks, and what intervals are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from segpref.inference import Calibration

__all__ = ["COMBINED", "SCORES", "aurc", "report", "spearman", "with_combined"]

RESAMPLES = 500
SCORES = {
    "judge's score": "score",
    "predicted Dice": "predicted",
    "order of the report": "order",
    "committee's score": "committee_score",
    "order with the committee": "committee_order",
    "max-softmax": "confidence",
    "dropout": "dropout",
    "ensemble": "ensemble",
}
COMBINED = {
    "judge and max-softmax": ("score", "confidence"),
    "judge and dropout": ("score", "dropout"),
    "committee and dropout": ("committee_score", "dropout"),
    "committee and ensemble": ("committee_score", "ensemble"),
}
"""Means of the Dice that isotonic regression on the calibration images predicts from each score."""
RANKS = "ranks of judge and max-softmax"
"""Sum of the ranks among the test's masks, which needs no calibration."""


def aurc(confidence: np.ndarray, risk: np.ndarray) -> float:
    """Area under the risk-coverage curve; masks of equal confidence share their mean risk."""
    _, places = np.unique(-confidence, return_inverse=True)
    shared = (np.bincount(places, weights=risk) / np.bincount(places))[places]
    ordered = shared[np.argsort(-confidence, kind="stable")]
    return float(np.mean(np.cumsum(ordered) / np.arange(1, len(ordered) + 1)))


def spearman(confidences: np.ndarray, risk: np.ndarray) -> np.ndarray:
    """Rank correlation of each column with Dice; 0 where all are equal."""
    ranks = rankdata(np.column_stack([confidences, -risk]), axis=0)
    ranks -= ranks.mean(axis=0)
    lengths = np.sqrt((ranks**2).sum(axis=0))
    products = ranks[:, :-1].T @ ranks[:, -1]
    return np.divide(
        products, lengths[:-1] * lengths[-1], out=np.zeros(len(products)), where=products != 0
    )


def with_combined(masks: pd.DataFrame) -> pd.DataFrame:
    """The masks of the test, with the scores of :data:`COMBINED` and :data:`RANKS`."""
    parts = []
    for _, one in masks.groupby(["seed", "structure"]):
        known = one[one["part"] == "calibration"]
        test = one[one["part"] == "test"].copy()
        patients = pd.factorize(known["patient"])[0]
        for name, columns in COMBINED.items():
            each = []
            for column in columns:
                scores, dice = (tuple(known[key].astype(float)) for key in (column, "dice"))
                calibration = Calibration(scores, dice, tuple(patients.tolist()))
                each.append(calibration.predicted(test[column].to_numpy(float)))
            test[name] = np.mean(each, axis=0)
        test[RANKS] = rankdata(test["score"]) + rankdata(test["confidence"])
        parts.append(test)
    return pd.concat(parts)


def report(masks: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Figures of all scores over all seeds and of each, and what intervals and flags are worth."""
    masks = with_combined(masks)
    rows, shifts = [], []
    whose = {str(seed): part for seed, part in masks.groupby("seed")}
    if len(whose) > 1:
        whose = {"all": masks, **whose}
    for seed, part in whose.items():
        for name, some in (("all", part), ("unshifted", part[part["shift"] == "none"])):
            rows += _figures({"seed": seed, "images": name}, some)
        shifts += [
            {"seed": seed, "shift": shift, **_worth(one)} for shift, one in part.groupby("shift")
        ]
    return {"figures": pd.DataFrame(rows), "shifts": pd.DataFrame(shifts)}


def _worth(masks: pd.DataFrame) -> dict[str, object]:
    flagged = masks["flagged"].astype(bool)
    found: dict[str, object] = {
        "masks": len(masks),
        "mean Dice": masks["dice"].mean(),
        "flagged": flagged.mean(),
        "Dice of flagged": masks["dice"][flagged].mean(),
        "Dice of others": masks["dice"][~flagged].mean(),
    }
    for name, start in (("judge", ""), ("committee", "committee_")):
        low, high = masks[f"{start}low"], masks[f"{start}high"]
        found[f"mean predicted, {name}"] = masks[f"{start}predicted"].mean()
        found[f"in the 90 % interval, {name}"] = (
            (low <= masks["dice"]) & (masks["dice"] <= high)
        ).mean()
        found[f"width, {name}"] = (high - low).mean()
    return found


def _figures(which: Mapping[str, object], masks: pd.DataFrame) -> list[dict[str, object]]:
    """Means over seeds and structures; intervals from resampled patients, within each seed."""
    rng = np.random.default_rng(0)
    names = [*SCORES, *COMBINED, RANKS]
    columns = [*SCORES.values(), *COMBINED, RANKS, "dice"]
    groups, patients = [], {}
    for (seed, _), part in masks.groupby(["seed", "structure"]):
        places = part.groupby("patient").indices
        patients[seed] = sorted(places)
        groups.append((seed, part[columns].to_numpy(float), places))

    def means(chosen: Mapping[object, Sequence[str]] | None) -> np.ndarray:
        found = []
        for seed, table, places in groups:
            rows = table
            if chosen is not None:
                rows = table[np.concatenate([places[one] for one in chosen[seed]])]
            risk = 1 - rows[:, -1]
            scores = np.column_stack([rows[:, :-1], -risk])
            areas = [aurc(one, risk) for one in scores.T]
            found.append(np.column_stack([spearman(scores, risk), areas]))
        return np.mean(found, axis=0)

    value = means(None)
    drawn = np.stack(
        [
            means({seed: rng.choice(some, len(some)) for seed, some in patients.items()})
            for _ in range(RESAMPLES)
        ]
    )
    usual = names.index("max-softmax")
    rows: list[dict[str, object]] = []
    for place, score in enumerate([*names, "perfect order"]):
        row: dict[str, object] = {**which, "score": score}
        for number, measure in enumerate(("spearman", "aurc")):
            own = drawn[:, place, number]
            away = own - drawn[:, usual, number]
            row[measure] = value[place, number]
            row[f"{measure}_low"], row[f"{measure}_high"] = np.quantile(own, (0.025, 0.975))
            row[f"{measure}_minus_softmax"] = value[place, number] - value[usual, number]
            ends = np.quantile(away, (0.025, 0.975))
            row[f"{measure}_minus_softmax_low"], row[f"{measure}_minus_softmax_high"] = ends
        rows.append(row)
    return rows
