"""Stock nnU-Net v2 by its own commands, in three folders of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpref.types import SegprefError

__all__ = ["Stock"]

HERE = Path(__file__).parent
TRAINER, PLANS = "ShortTrainer", "nnUNetPlans"
# nnU-Net imports timm to look for any trainer but its first.
STAND_INS = [] if importlib.util.find_spec("timm") else [str(HERE / "stand_ins")]


@dataclass(frozen=True)
class Stock:
    """Its folders and commands, and a trainer with few iterations (``trainers/short_trainer.py``).

    Args:
        root: holds ``raw``, ``preprocessed`` and ``results``.
    """

    root: Path

    @property
    def variables(self) -> dict[str, str]:
        """What nnU-Net reads from the environment."""
        folders = ("raw", "preprocessed", "results")
        return {
            **{f"nnUNet_{name}": str(self.root / name) for name in folders},
            "nnUNet_extTrainer": str(HERE / "trainers"),
            "nnUNet_n_proc_DA": "0",
            "nnUNet_def_n_proc": "1",
            "OMP_NUM_THREADS": "1",
            # It predicts with a thread per core all the same: waiting, they leave the core to others.
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def enter(self) -> None:
        """Let what runs in this process find the folders, too."""
        os.environ.update(self.variables)
        sys.path.extend(STAND_INS)

    def run(self, command: str, *options: object, **changed: object) -> None:
        """One of its commands, or of ours, with some variables changed.

        Raises:
            SegprefError: it failed; with the end of what it wrote.
        """
        known = [*STAND_INS, os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [Path(sys.executable).with_name(command), *map(str, options)],
            env={
                **os.environ,
                **self.variables,
                "PYTHONPATH": os.pathsep.join(filter(None, known)),
                **{name: str(value) for name, value in changed.items()},
            },
            cwd=self.root,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            end = done.stdout[-3000:] + done.stderr[-3000:]
            raise SegprefError(f"{command} {' '.join(map(str, options))} failed: {end}")

    def plan(
        self,
        dataset: str,
        configurations: Sequence[str],
        change: Callable[[dict[str, Any]], None],
        splits: Sequence[dict[str, list[str]]],
    ) -> None:
        """Preprocess a dataset, change each configuration's plans, and say who is in which fold."""
        self.run(
            "nnUNetv2_plan_and_preprocess",
            *("-d", _number(dataset), "-c", *configurations, "-np", *[1] * len(configurations)),
            *("-npfp", 1),
            nnUNet_n_proc_DA=1,  # planning refuses 0
        )
        prepared = self.root / "preprocessed" / dataset
        plans = json.loads((prepared / f"{PLANS}.json").read_text())
        for settings in plans["configurations"].values():
            if "architecture" in settings:
                change(settings)
        (prepared / f"{PLANS}.json").write_text(json.dumps(plans))
        (prepared / "splits_final.json").write_text(json.dumps(splits))

    def train(self, dataset: str, configuration: str, fold: int, **changed: object) -> None:
        """A fold; the variables of ``ShortTrainer`` say how long, and from what seed."""
        options = (_number(dataset), configuration, fold, "-tr", TRAINER, "-device", "cpu")
        self.run("nnUNetv2_train", *options, **changed)

    def model(self, dataset: str, configuration: str) -> Path:
        """The folder of the trained folds."""
        return self.root / "results" / dataset / f"{TRAINER}__{PLANS}__{configuration}"

    def predict(
        self, model: Path, folds: Sequence[str], images: Path, out: Path, *options: str
    ) -> None:
        """Masks by ``nnUNetv2_predict`` for a folder of a model; those that are there are kept."""
        self.run(
            "nnUNetv2_predict_from_modelfolder",
            *("-i", images, "-o", out, "-m", model, "-f", *folds, "--continue_prediction"),
            *("-device", "cpu", "-npp", 1, "-nps", 1, "--disable_progress_bar", *options),
        )

    def ensemble(self, masks: Sequence[Path], out: Path) -> None:
        """Masks of the mean probabilities of several folders, by ``nnUNetv2_ensemble``, made anew."""
        self.run("nnUNetv2_ensemble", "-i", *masks, "-o", out, "-np", 1)


def _number(dataset: str) -> int:
    return int(dataset.removeprefix("Dataset").partition("_")[0])
