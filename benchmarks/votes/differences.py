"""Differences of models, paired over test patients with seeds averaged inside each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segpref.report import compared, gains_by_patient

__all__ = ["Scores", "by_patient", "differences", "means", "plain"]

Scores = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
"""Rows of test scores by the name of a model, for each seed."""


def means(scores: Scores, measure: str) -> dict[str, list[float]]:
    """Mean over all rows, by model and seed."""
    return {
        name: [float(np.nanmean([float(row[measure]) for row in seed])) for seed in seeds]
        for name, seeds in scores.items()
    }


def by_patient(scores: Scores, measure: str) -> dict[str, list[dict[str, float]]]:
    """Mean of each patient, by model and seed: what further seeds can be averaged with."""
    found: dict[str, list[dict[str, float]]] = {}
    for name, seeds in scores.items():
        for rows in seeds:
            of: dict[str, list[float]] = {}
            for row in rows:
                of.setdefault(str(row["patient"]), []).append(float(row[measure]))
            means_of = {patient: round(float(np.nanmean(of[patient])), 5) for patient in sorted(of)}
            found.setdefault(name, []).append(means_of)
    return found


def differences(
    scores: Scores, claims: Sequence[tuple[str, str]], measure: str
) -> dict[str, dict[str, Any]]:
    """What the first model of each claim has more than the second."""
    found = {}
    for ours, theirs in claims:
        gains = [
            gains_by_patient(a, b, measure)
            for a, b in zip(scores[ours], scores[theirs], strict=True)
        ]
        patients = sorted(set().union(*gains))
        values = [np.mean([one[n] for one in gains if n in one]) for n in patients]
        per_seed = [float(np.mean(list(one.values()))) for one in gains]
        found[f"{ours} minus {theirs}"] = {
            **compared(np.array(values)).as_dict(),
            "seeds": per_seed,
            "seeds_better": sum(one > 0 for one in per_seed),
        }
    return found


def plain(value: Any) -> Any:
    """The same for JSON, which has no NaN."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
