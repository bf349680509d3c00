"""Run the experiment of docs/results/votes/protocol.md; what is done is not done again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.votes.differences import by_patient, differences, means, plain
from benchmarks.votes.truth import Truth
from benchmarks.votes.units import Experiment
from segpref.data import read_csv

METHODS = ("votes", "control", "judge", "random")
CLAIMS = (
    ("votes", "base"), ("votes", "control"), ("votes", "judge"), ("votes", "random"),
    ("random", "base"), ("control", "base"), ("judge", "base"),
)  # fmt: skip


def run(experiment: Experiment, base: str) -> None:
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


def figures(experiments: list[Experiment], base: str) -> dict[str, object]:
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
        found[measure] = means(rows, measure)
        found[f"{measure}_differences"] = differences(rows, CLAIMS, measure)
        found[f"{measure}_by_patient"] = by_patient(rows, measure)
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
            content = json.dumps(plain(figures(experiments[:number], base)), indent=1)
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / f"{base}.json").write_text(content + "\n")


if __name__ == "__main__":
    main()
