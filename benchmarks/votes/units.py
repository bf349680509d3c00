"""The units of the experiment, each a command whose output says that it is done."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.votes.raters import FLAWLESS, RATERS, Habits, answer, best_of
from benchmarks.votes.truth import Truth, below_own, key_of, mask_scores, spread_of, true_flips
from benchmarks.votes.voting import Choose, Voter, served, vote
from segpref.collect import StudyFolder, VoteStore
from segpref.data import open_dataset, split_patients

__all__ = ["VOTES", "Experiment", "Method", "Who"]

Who = Literal["raters", "random", "judge", "truth"]
Method = Literal["votes", "control", "calibrated", "judge", "random", "truth"]
"""Votes, their control and votes with ``--method calibrated`` are of the same votes."""

VOTES = 600
SPLIT = {"train": 45, "judge": 10, "validation": 10, "test": 15}
PREPARATION = {"dims": 2, "crop": [144, 144], "size": [96, 96], "normalise": "min-max"}
NETWORK = {
    "module": "monai.networks.nets.UNet",
    "arguments": {
        "spatial_dims": 2, "in_channels": None, "out_channels": None, "channels": [16, 32, 64, 128],
        "strides": [2, 2, 2], "num_res_units": 2, "dropout": 0.1,
    },
}  # fmt: skip
UNIMATCH = {"class_path": "segpref.training.semisupervised.UniMatch"}
DPO = {"class_path": "segpref.objectives.DPO", "init_args": {"beta": 1.5}}


@dataclass(frozen=True)
class Experiment:
    """One seed of the experiment.

    Args:
        data: folder of ACDC.
        work: where models, studies and runs are.
        seed: of everything.
        votes: so many are stored, practice not counted.
        epochs: of an alignment.
        images_per_epoch: of an alignment.
        batch_size: of an alignment.
    """

    data: Path
    work: Path
    seed: int
    votes: int = VOTES
    epochs: int = 15
    images_per_epoch: int = 200
    batch_size: int = 8

    @property
    def split(self) -> Path:
        """The split of the recipe, drawn when it is first used."""
        path = self.work / "split.json"
        if not path.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            split_patients(open_dataset(self.data), SPLIT).save(path)
        return path

    def model(self, name: str) -> Path:
        """Run folder of a model."""
        return self.work / f"{name}-{self.seed}"

    def fit_weak(self) -> None:
        """The weak base."""
        self._fit("weak", labelled=3, epochs=40, augment="flips-rotations", network=NETWORK)

    def fit_unimatch(self) -> None:
        """The UniMatch base, from the weak one."""
        self._fit("unimatch", labelled=3, epochs=15, start=str(self.model("weak")), method=UNIMATCH)

    def fit_judge(self) -> None:
        """The weak judge."""
        self._fit(
            "judge", part="judge", labelled=8, unit="cases", epochs=40, augment="flips-rotations",
            network=NETWORK,
        )  # fmt: skip

    def init(self, base: str) -> None:
        """The study that is voted on, and one of random pairs."""
        study = self.study(base)
        for folder, others in ((study, {}), (self.study(base, "random"), {"random": 1.0})):
            if not (folder / "study.json").exists():
                self._run(
                    "collect init", f"init-{folder.name}", model=str(self.model(base)),
                    out=str(folder), judge=str(self.model("judge")), images=200,
                    pairs_per_image=4, **others,
                )  # fmt: skip

    def _copy(self, base: str, who: Who) -> None:
        """The same questions for somebody else."""
        copy = self.study(base, who)
        if not copy.exists():
            partial = copy.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            votes = shutil.ignore_patterns("votes.sqlite*", ".lock", "report.*")
            shutil.copytree(self.study(base), partial, ignore=votes)
            partial.rename(copy)

    def study(self, base: str, who: Who = "raters") -> Path:
        """Folder of a study."""
        return self.work / f"study-{base}-{who}-{self.seed}"

    def vote(self, base: str, who: Who) -> None:
        """Votes, until there are enough of them; then the report."""
        folder = self.study(base, who)
        if (folder / "report.json").exists():
            return
        if who in ("judge", "truth"):
            self._copy(base, who)
        study = StudyFolder(folder)
        habits = FLAWLESS if who == "truth" else RATERS
        choose = self._judge(study) if who == "judge" else self._raters(study, habits)
        with served(folder) as address, VoteStore(folder / "votes.sqlite") as store:
            known = {one.pseudonym for one in store.raters()}
            stored = sum(row.counts and row.pair.use != "practice" for row in store.votes())
            voters = [
                Voter(address, store.new_link(n) if n in known else store.add_rater(n), chosen)
                for n, chosen in choose.items()
            ]
            vote(voters, self.votes, stored)
        self._segpref("collect", "report", str(folder))

    def true_flips(self, base: str, truth: Truth) -> dict[str, list[int]]:
        """How often each rater chose the worse mask, and of how many decided votes."""
        folder = self.study(base)
        with VoteStore(folder / "votes.sqlite") as store:
            return true_flips(StudyFolder(folder), truth, store.votes())

    def below_own(self, base: str, truth: Truth) -> dict[str, float]:
        """How chosen masks compare with the model's own."""
        folder = self.study(base)
        with VoteStore(folder / "votes.sqlite") as store:
            return below_own(StudyFolder(folder), truth, store.votes())

    def _raters(self, study: StudyFolder, raters: Mapping[str, Habits]) -> dict[str, Choose]:
        truth = Truth(self.data)
        spread = spread_of(study, truth)
        names = list(study.note.label_space.names)
        return {
            name: self._rater(habits, truth, spread, names, number)
            for number, (name, habits) in enumerate(raters.items())
        }

    def _rater(
        self, habits: Habits, truth: Truth, spread: float, names: list[str], number: int
    ) -> Choose:
        rng = np.random.default_rng([self.seed, number])

        def choose(image: np.ndarray, masks: np.ndarray, task: Any) -> str:
            value = None if task["structure"] is None else names.index(task["structure"])
            qualities = [truth.quality(image, one, value) for one in masks]
            if task["mode"] == "best-of-four":
                return best_of(habits, qualities, spread, rng)
            return answer(habits, qualities[0], qualities[1], spread, rng)

        return choose

    def _judge(self, study: StudyFolder) -> dict[str, Choose]:
        scores = mask_scores(study)

        def choose(image: np.ndarray, masks: np.ndarray, task: Any) -> str:
            left, right = (scores.get((key_of(image), key_of(one))) for one in masks)
            if left is None or right is None:
                return "cant-tell"
            return "tie" if left == right else "left" if left > right else "right"

        return {"judge": choose}

    def align(self, base: str, method: Method) -> None:
        """A base tuned by votes, by these in random order, or by other answers or pairs."""
        who: Who = method if method in ("judge", "random", "truth") else "raters"
        objective = (
            {"method": "calibrated"}
            if method == "calibrated"
            else {"reduction": "region", "objective": DPO, "control": method == "control"}
        )
        self._run(
            "align", f"{base}-{method}", model=str(self.model(base)),
            votes=str(self.study(base, who)), learning_rate=1e-4, epochs=self.epochs,
            images_per_epoch=self.images_per_epoch, batch_size=self.batch_size,
            out=str(self.model(f"{base}-{method}")), resume=True, **objective,
        )  # fmt: skip

    def scores(self, name: str) -> Path:
        """Test scores of a model, as a CSV file."""
        path = self.work / f"test-{name}-{self.seed}.csv"
        if not path.exists():
            self._segpref(
                "evaluate", "--data", str(self.data), "--model", str(self.model(name)), "--split",
                str(self.split), "--grid", "network", "--out", str(path),
            )  # fmt: skip
        return path

    def _fit(self, name: str, **options: Any) -> None:
        self._run(
            "fit", name, out=str(self.model(name)), preparation=PREPARATION, images_per_epoch=200,
            resume=True, **options,
        )  # fmt: skip

    def _run(self, command: str, name: str, **options: Any) -> None:
        """A command with options from a file, which JSON is, too."""
        known = {"data": str(self.data), "split": str(self.split), "seed": self.seed, **options}
        file = self.work / f"{name}-{self.seed}.yaml"
        file.write_text(json.dumps(known, indent=1))
        self._segpref(*command.split(), "--config", str(file))

    def _segpref(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "segpref.cli.main", *arguments], check=True)
