"""An hour of a person: votes through the page, or contoured slices among the labels.

``python -m benchmarks.votes.hour --data ACDC --study RUNS --work WORK --out FILE``: the bases are
those of a study's folder (``docs/results/long/recipe.yaml``), where those that learned from contoured
slices are, too. Protocol and results: ``docs/results/hour``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

from benchmarks.votes.differences import by_patient, differences, means, plain
from benchmarks.votes.truth import Truth
from benchmarks.votes.units import Experiment, Method
from segpref.data import read_csv
from segpref.studies import Task

Mode = Literal["pair", "best-of-four"]

SECONDS = {"pair": 5, "best-of-four": 10}
"""Assumed for one answer about a slice; no published figure for masks was found."""


@dataclass(frozen=True)
class Hour(Experiment):
    """One seed of one way to spend some minutes.

    Args:
        study_folder: of the study whose bases are voted on.
        mode: what the page asks.
        seconds: that an answer takes.
    """

    study_folder: Path = field(kw_only=True)
    mode: Mode = field(kw_only=True)
    seconds: int = field(kw_only=True)

    @property
    def split(self) -> Path:
        """The study's."""
        return self.study_folder / "split.json"

    def model(self, name: str) -> Path:
        """A base of the study, or a run of this experiment."""
        base = Task(self.seed, "base", name).folder(self.study_folder)
        return base if base.exists() else super().model(name)

    def init(self, base: str) -> None:
        """The study that is voted on: no judge chooses its questions, for a person has none yet."""
        folder = self.study(base)
        if not (folder / "study.json").exists():
            self._run(
                "collect init", f"init-{folder.name}", model=str(self.model(base)), out=str(folder),
                images=400, pairs_per_image=4, mode=self.mode,
            )  # fmt: skip


def run(hour: Hour, base: str, methods: Sequence[Method]) -> None:
    """Votes, then models that learned from them."""
    hour.work.mkdir(parents=True, exist_ok=True)
    hour.init(base)
    for method in methods:
        hour.vote(base, "truth" if method == "truth" else "raters")
        hour.align(base, method)


def figures(
    hours: Sequence[Hour], base: str, methods: Sequence[Method], contoured: Sequence[str]
) -> dict[str, object]:
    """Means by seed and differences, of a base, of votes and of bases with contoured slices."""
    voted = [f"{base}-{method}" for method in methods]
    models = [base, *voted, *contoured]
    rows = {name: [read_csv(one.scores(name)) for one in hours] for name in models}
    claims = [
        *((name, base) for name in models[1:]),
        *combinations(voted, 2),
        *((name, voted[0]) for name in contoured),
    ]
    first = hours[0]
    truth = Truth(first.data)
    return {
        "base": base,
        "mode": first.mode,
        "minutes": first.votes * first.seconds / 60,
        "seeds": [one.seed for one in hours],
        "votes": [json.loads((one.study(base) / "report.json").read_text()) for one in hours],
        "true_flips": [one.true_flips(base, truth) if one.mode == "pair" else {} for one in hours],
        "below_own": [one.below_own(base, truth) for one in hours],
        "iou": means(rows, "iou"),
        "iou_differences": differences(rows, claims, "iou"),
        "iou_by_patient": by_patient(rows, "iou"),
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
    parser.add_argument("--base", default="weak", help="name of a base of the study")
    parser.add_argument("--mode", choices=get_args(Mode), default="pair")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--seconds", type=int, help="that an answer takes")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--images_per_epoch", type=int, default=200)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--methods", choices=get_args(Method), nargs="+", default=["votes", "control"]
    )
    parser.add_argument("--contoured", nargs="*", default=[], help="bases of the study beside it")
    given = parser.parse_args()
    seconds = given.seconds or SECONDS[given.mode]
    hours = [
        Hour(
            given.data, given.work / f"{given.mode}-{given.minutes}", seed,
            given.minutes * 60 // seconds, given.epochs, given.images_per_epoch, given.batch_size,
            study_folder=given.study, mode=given.mode, seconds=seconds,
        )
        for seed in given.seeds
    ]  # fmt: skip
    for number, one in enumerate(hours, start=1):
        run(one, given.base, given.methods)
        content = json.dumps(
            plain(figures(hours[:number], given.base, given.methods, given.contoured)), indent=1
        )
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(content + "\n")


if __name__ == "__main__":
    main()
