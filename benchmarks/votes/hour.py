"""An hour of a person: votes through the page, or contoured slices among the labels.

``python -m benchmarks.votes.hour --data ACDC --study RUNS --work WORK --out FILE``: the bases are
those of a study's folder (``docs/results/long/recipe.yaml``), where those that learned from contoured
slices are, too. Protocol and results: ``docs/results/hour``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from benchmarks.votes.differences import differences, means, plain
from benchmarks.votes.truth import Truth
from benchmarks.votes.units import Base, Experiment
from segpref.data import read_csv
from segpref.studies import Task

Mode = Literal["pair", "best-of-four"]

SECONDS = {"pair": 5, "best-of-four": 10}
"""Assumed for one answer; no published figure for masks was found."""


@dataclass(frozen=True)
class Hour(Experiment):
    """One seed of one way to spend some minutes.

    Args:
        study: folder of the study whose bases are voted on.
        mode: what the page asks.
    """

    study_folder: Path = field(kw_only=True)
    mode: Mode = field(kw_only=True)

    @property
    def split(self) -> Path:
        """The study's."""
        return self.study_folder / "split.json"

    def model(self, name: str) -> Path:
        """A base of the study, or a run of this experiment."""
        base = Task(self.seed, "base", name).folder(self.study_folder)
        return base if base.exists() else super().model(name)

    def init(self, base: Base) -> None:
        """The study that is voted on: no judge chooses its questions, for a person has none yet."""
        folder = self.study(base)
        if not (folder / "study.json").exists():
            self._run(
                "collect init", f"init-{folder.name}", model=str(self.model(base)), out=str(folder),
                images=400, pairs_per_image=4, mode=self.mode,
            )  # fmt: skip


def run(hour: Hour, base: Base) -> None:
    """Votes, then a model that learned from them, and its control."""
    hour.work.mkdir(parents=True, exist_ok=True)
    hour.init(base)
    hour.vote(base, "raters")
    for method in ("votes", "control"):
        hour.align(base, method)


def figures(hours: list[Hour], base: Base, contoured: list[str]) -> dict[str, object]:
    """Means by seed and differences, of a base, of votes and of bases with contoured slices."""
    voted = [f"{base}-votes", f"{base}-control"]
    models = [base, *voted, *contoured]
    rows = {name: [read_csv(one.scores(name)) for one in hours] for name in models}
    claims = [
        *((name, base) for name in models[1:]),
        (voted[0], voted[1]),
        *((name, voted[0]) for name in contoured),
    ]
    first = hours[0]
    truth = Truth(first.data)
    return {
        "base": base,
        "mode": first.mode,
        "minutes": first.votes * SECONDS[first.mode] / 60,
        "seeds": [one.seed for one in hours],
        "votes": [json.loads((one.study(base) / "report.json").read_text()) for one in hours],
        "true_flips": [one.true_flips(base, truth) if one.mode == "pair" else {} for one in hours],
        "iou": means(rows, "iou"),
        "iou_differences": differences(rows, claims, "iou"),
    }


def main() -> None:
    """Run what is asked for, and write its figures after every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of ACDC")
    parser.add_argument(
        "--study", type=Path, required=True, help="folder of the study of the bases"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for votes and runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--base", choices=get_args(Base), default="weak")
    parser.add_argument("--mode", choices=get_args(Mode), default="pair")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--contoured", nargs="*", default=[], help="bases of the study beside it")
    given = parser.parse_args()
    votes = given.minutes * 60 // SECONDS[given.mode]
    hours = [
        Hour(
            given.data, given.work / f"{given.mode}-{given.minutes}", seed, votes, given.epochs,
            study_folder=given.study, mode=given.mode,
        )
        for seed in given.seeds
    ]  # fmt: skip
    for number, one in enumerate(hours, start=1):
        run(one, given.base)
        content = json.dumps(plain(figures(hours[:number], given.base, given.contoured)), indent=1)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(content + "\n")


if __name__ == "__main__":
    main()
