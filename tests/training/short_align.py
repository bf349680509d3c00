"""Stage 2 in two short epochs on the heart slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.data import Cache, Dataset
from segpref.proposals import SlateProposals
from segpref.training import PreferenceSignal, RunFolder, align

POOL = slice(4, 8)
VALIDATION = slice(8, 12)


def run(
    folder: Path, base: Path, hearts: Dataset, judge: Any, cache: Cache, **options: Any
) -> RunFolder:
    """Two short epochs; options go to ``align``."""
    target = RunFolder(folder)
    target.open({"test": 1}, resume=options.pop("resume", False))
    patients = hearts.patients
    settings = {
        "proposals": SlateProposals(8), "epochs": 2, "batch_size": 4, "images_per_epoch": 8,
        "learning_rate": 1e-3, "seed": 3, "cache": cache, **options,
    }  # fmt: skip
    pool = settings.pop("pool", hearts.of_patients(patients[POOL]))
    validation = settings.pop("validation", hearts.of_patients(patients[VALIDATION]))
    signal = settings.pop("signal", PreferenceSignal(hearts.label_space))
    align(base, pool, validation, judge, signal, target, **settings)
    return target
