"""Run the experiment of docs/results/votes/protocol.md; what is done is not done again."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from benchmarks.votes.truth import Truth
from benchmarks.votes.units import Base, Experiment
from segpref.data import read_csv
from segpref.report import compared, gains_by_patient

METHODS = ("votes", "control", "judge", "random")
CLAIMS = (
    ("votes", "base"), ("votes", "control"), ("votes", "judge"), ("votes", "random"),
    ("random", "base"), ("control", "base"), ("judge", "base"),
)  # fmt: skip


def run(experiment: Experiment, base: Base) -> None:
    """All units of a base with one seed."""
    experiment.fit_weak()
    if base == "unimatch":
        experiment.fit_unimatch()
    experiment.fit_judge()
    experiment.init(base)
    for who in ("raters", "judge", "random"):
        experiment.vote(base, who)
    for method in METHODS:
        experiment.align(base, method)


def figures(experiments: list[Experiment], base: Base) -> dict[str, object]:
    """Means by seed, and paired differences over patients with seeds averaged inside."""
    names = {"base": base, **{method: f"{base}-{method}" for method in METHODS}}
    rows = {
        name: [read_csv(one.scores(model)) for one in experiments] for name, model in names.items()
    }
    found: dict[str, object] = {
        "base": base,
        "seeds": [one.seed for one in experiments],
        "reports": [
            json.loads((one.study(base) / "report.json").read_text()) for one in experiments
        ],
    }
    truth = Truth(experiments[0].data)
    found["true_flips"] = [one.true_flips(base, truth) for one in experiments]
    for measure in ("iou", "dice"):
        found[measure] = {
            name: [float(np.nanmean([float(row[measure]) for row in seed])) for seed in seeds]
            for name, seeds in rows.items()
        }
        claims = {}
        for ours, theirs in CLAIMS:
            gains = [
                gains_by_patient(a, b, measure)
                for a, b in zip(rows[ours], rows[theirs], strict=True)
            ]
            patients = sorted(set().union(*gains))
            values = [np.mean([one[n] for one in gains if n in one]) for n in patients]
            per_seed = [float(np.mean(list(one.values()))) for one in gains]
            claims[f"{ours} minus {theirs}"] = {
                **compared(np.array(values)).as_dict(),
                "seeds": per_seed,
                "seeds_better": sum(one > 0 for one in per_seed),
            }
        found[f"{measure}_differences"] = claims
    return found


def main() -> None:
    """Run what is asked for and write the figures of each base when its seeds are done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.votes", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of ACDC")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and studies")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--bases", nargs="+", choices=("weak", "unimatch"), default=["weak", "unimatch"]
    )
    given = parser.parse_args()
    experiments = [Experiment(given.data, given.work, seed) for seed in given.seeds]
    for base in given.bases:
        for number, one in enumerate(experiments, start=1):
            run(one, base)
            content = json.dumps(_plain(figures(experiments[:number], base)), indent=1)
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / f"{base}.json").write_text(content + "\n")


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    main()
