"""Trainings for launches of one process and of several (``launched_runs.py``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import UNet
from torch import Tensor

import segpref.training.signals as signals
from segpref.contrib.objectives import BetaDPO, DrDPO
from segpref.data import Cache, Folders, Preparation, prepare
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.judges import ModelJudge
from segpref.objectives import disagreement
from segpref.policies import ModelCard, NetworkSpec, load_model
from segpref.proposals import SlateProposals
from segpref.runtime import end_in_launch, runtime
from segpref.training import (
    AnchoredSignal,
    PreferenceSignal,
    PseudoLabelSignal,
    RunFolder,
    align,
    fit,
    fit_regressor,
)
from segpref.training.semisupervised import CopyPaste, FixMatch, MeanTeacher, UniMatch
from segpref.types import Pairs, Slate

NAMES = ("background", "RV", "MYO", "LV")

NETWORK = NetworkSpec(
    "runs_in_processes.DoubleUNet",
    {
        "spatial_dims": 2, "in_channels": 1, "out_channels": 4, "channels": [4, 8], "strides": [2],
        "num_res_units": 1, "dropout": 0.1,
    },
)  # fmt: skip


class DoubleUNet(UNet):
    """In float64, where the order of a sum does not show."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.double())


class Record:
    """What every step learned from: winner and loser of all pairs, step by step."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []

    def __call__(self, slates: Sequence[Slate], pairs: Pairs, *rest: Any, **named: Any) -> Any:
        found = disagreement(slates, pairs, *rest, **named)
        told = (
            ()
            if runtime().idle
            else zip(
                found.pairs.case,
                found.pairs.field,
                found.pairs.winner,
                found.pairs.loser,
                strict=True,
            )
        )
        self.steps.append(
            [_told(slates[case].masks[:, field], pair) for case, field, *pair in told]
        )
        return found


def _told(masks: np.ndarray, pair: Sequence[int]) -> str:
    return " > ".join(_digest(masks[candidate]) for candidate in pair)


def _digest(mask: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(mask).tobytes(), digest_size=8).hexdigest()


def opened(out: Path, name: str) -> RunFolder:
    folder = RunFolder(out / name)
    folder.open({}, resume=False)
    return folder


def main(out: Path, data: Path, store: Path) -> None:
    torch.set_num_threads(1)
    cache = Cache(store)
    reader = Folders(data, names=NAMES, patient_pattern=PATIENT_PATTERN)
    hearts = prepare(reader, Preparation(dims=2, size=(32, 32)), cache)
    labelled, pool = (
        hearts.of_patients(hearts.patients[:2]),
        hearts.of_patients(hearts.patients[4:6]),
    )
    # Batches of three in two processes are of two images and one, the last one of one and none.
    pool, validation = pool.take(range(7)), hearts.of_patients(hearts.patients[9:])
    card = ModelCard(NETWORK, hearts.label_space, Preparation(2, size=(32, 32)))
    fit(
        labelled.take(range(7)), validation, card, opened(out, "fit"),
        epochs=8, batch_size=3, learning_rate=1e-2,
    )  # fmt: skip
    fit(
        hearts.of_patients(hearts.patients[2:4]), validation, card, opened(out, "judge"),
        epochs=8, batch_size=4, learning_rate=1e-2, seed=1, dropout=0.05,
    )  # fmt: skip
    methods: dict[str, Any] = {
        "mean teacher": MeanTeacher(weight=1.0, decay=0.8, ramp_up=0.5),
        "fixmatch": FixMatch(threshold=0.4, cutmix=1.0),
        "unimatch": UniMatch(threshold=0.4, decay=0.7, cutmix=1.0),
        "copy-paste": CopyPaste(decay=0.8, pretraining=0.5),
    }
    for name, method in methods.items():
        fit(
            labelled.take(range(7)), validation, card, opened(out, name), method=method,
            unlabelled=pool, start=out / "fit", epochs=2, batch_size=3, learning_rate=1e-2,
        )  # fmt: skip
    fit_regressor(
        out / "fit", labelled.take(range(4)), validation.take(range(3)), opened(out, "regressor"),
        proposals=SlateProposals(6), epochs=1, batch_size=3, candidates=3, width=4,
    )  # fmt: skip
    space = hearts.label_space
    runs: dict[str, tuple[Any, dict[str, Any]]] = {
        "every step": (PreferenceSignal(space), {}),
        "rounds": (
            PreferenceSignal(space, objective=BetaDPO(threshold=0.0, keep=0.6)),
            {"refresh": 1, "reference": "round", "workers": 1},
        ),
        "anchored": (AnchoredSignal(space, PreferenceSignal(space, objective=DrDPO())), {}),
        "pseudo-labels": (PseudoLabelSignal(space), {"average": 0.9}),
        "ahead": (PreferenceSignal(space), {"slates_ahead": True, "workers": 1}),
    }
    for name, (signal, options) in runs.items():
        signals.disagreement = record = Record()  # type: ignore[assignment]
        align(
            out / "fit", pool, validation, ModelJudge(load_model(out / "judge")[0], cache), signal,
            opened(out, name), proposals=SlateProposals(12), epochs=2, batch_size=3,
            learning_rate=1e-3, cache=cache, **options,
        )  # fmt: skip
        file = out / f"{name} {runtime().rank}.json"
        file.write_text(json.dumps(record.steps))
    runtime().wait()
    end_in_launch(0)
