"""``compile``: steps of ``fit`` and ``align`` with and without it, and what compiling takes.

Trainings of the default U-Net (16 to 256 channels, 17 layers of dropout) take turns without and with
``compile``, ``fit`` also of one without dropout; a step is the time from one update to the next. The
first compiled training of a kind finds torch's cache empty, the second one what the first one left
there. What compiling takes is the time until the second update, less that of the training without it.
Phantoms of 96 x 96 pixels, batches of 8, one thread; ``align`` with K = 32, a model-based judge and
slates that are made at every step.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from segpref.data import Cache, Dataset, Folders, Preparation, prepare
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms
from segpref.judges import ModelJudge
from segpref.policies import ModelCard, load_model
from segpref.proposals import SlateProposals
from segpref.studies import default_network
from segpref.training import PreferenceSignal, RunFolder, align, fit

__all__ = ["main"]

SIZE, BATCH, STEPS, TURNS, K = 96, 8, 22, 2, 32
CLOCKS: dict[str, Callable[[], float]] = {
    "CPU": lambda: sum(os.times()[:4]),  # with the compilers that were started
    "wall": time.perf_counter,
}


def main() -> None:
    """Print seconds of a step and of compiling, and after how many steps they are even."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(work / "torch")
        data = write_phantoms(
            work / "data", "cardiac", (SIZE, SIZE), 8, seed=0, slices_per_patient=6
        )
        names = ("background", "RV", "MYO", "LV")
        reader = Folders(data, names=names, patient_pattern=PATIENT_PATTERN)
        cache = Cache(work / "cache")
        cases = prepare(reader, Preparation(dims=2, size=(SIZE, SIZE)), cache)
        base = RunFolder(work / "base")
        _fit(cases, base, False)
        judge = ModelJudge(load_model(base.best)[0], cache)
        _compare("fit", lambda folder, on: _fit(cases, folder, on), work)
        _compare("fit, no dropout", lambda folder, on: _fit(cases, folder, on, 0.0), work)
        _compare("align", lambda folder, on: _align(cases, base, judge, cache, folder, on), work)


def _fit(cases: Dataset, folder: RunFolder, on: bool, dropout: float = 0.1) -> None:
    patients = cases.patients
    network = default_network(2)
    network = replace(network, arguments={**network.arguments, "dropout": dropout})
    card = ModelCard(
        network=network.for_data(1, cases.label_space.channels),
        label_space=cases.label_space,
        preparation=Preparation(dims=2, size=(SIZE, SIZE)),
        labelled=patients[:2],
    )
    folder.open({"compile": on}, resume=False)
    fit(
        cases.of_patients(patients[:2]), cases.of_patients(patients[7:]), card, folder, compile=on,
        epochs=1, images_per_epoch=STEPS * BATCH, batch_size=BATCH, log_with=(),
    )  # fmt: skip


def _align(
    cases: Dataset, base: RunFolder, judge: Any, cache: Cache, folder: RunFolder, on: bool
) -> None:
    patients = cases.patients
    folder.open({"compile": on}, resume=False)
    align(
        base.best, cases.of_patients(patients[2:7]), cases.of_patients(patients[7:]), judge,
        PreferenceSignal(cases.label_space), folder, proposals=SlateProposals(K), cache=cache,
        epochs=1, images_per_epoch=STEPS * BATCH, batch_size=BATCH, compile=on, log_with=(),
    )  # fmt: skip


def _compare(name: str, training: Callable[[RunFolder, bool], Any], work: Path) -> None:
    training(_folder(work, name, "warm-up"), False)  # predictions, imports
    steps: dict[tuple[bool, str], list[float]] = {}
    first: dict[tuple[bool, int, str], float] = {}
    for turn in range(TURNS):
        for on in (False, True):
            times: list[dict[str, float]] = [_now()]
            hook = register_optimizer_step_post_hook(
                lambda *_, times=times: times.append(_now())  # type: ignore[misc]
            )
            training(_folder(work, name, f"{turn}{on}"), on)
            hook.remove()
            for clock in CLOCKS:
                passed = np.diff([one[clock] for one in times])
                first[on, turn, clock] = float(passed[:2].sum())
                steps.setdefault((on, clock), []).extend(passed[2:])
    for clock in CLOCKS:
        plain, fast = (float(np.median(steps[on, clock])) for on in (False, True))
        compiling = [first[True, turn, clock] - first[False, turn, clock] for turn in range(TURNS)]
        even = compiling[0] / (plain - fast) if plain > fast else float("inf")
        print(
            f"{name}, {clock}: a step {plain:.3f} s without, {fast:.3f} s with, {plain / fast:.2f} "
            f"times faster; compiling {compiling[0]:.0f} s, with torch's cache {compiling[1]:.0f} s; "
            f"even after {even:.0f} steps"
        )


def _folder(work: Path, *names: str) -> RunFolder:
    return RunFolder(work / "runs" / " ".join(names))


def _now() -> dict[str, float]:
    return {name: clock() for name, clock in CLOCKS.items()}


if __name__ == "__main__":
    main()
