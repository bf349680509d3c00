"""Measures a step of stage 2 and a supervised step with whatever segpref is on the path, as JSON.

``python -m benchmarks.earlier_step KIND FOLDER`` is run by :mod:`benchmarks.earlier` with the code of
today and with that of an earlier commit, so it takes only what both have, by the names of modules that
both have. Base and judge are trained by a loop of its own and kept in the folder: both versions start
from the same weights.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["KINDS", "Kind", "main"]

STEPS, UPDATES = 5, 120


@dataclass(frozen=True)
class Kind:
    """What a step is about: phantoms of a size, perhaps in patches, and K candidates of each."""

    title: str
    size: tuple[int, ...]
    candidates: int = 32
    batch: int = 8
    phantoms: str = "cardiac"
    patch: tuple[int, ...] | None = None
    standing: bool = False


KINDS = {
    "256": Kind("256 x 256, K = 32", (256, 256)),
    "96": Kind("96 x 96, K = 32", (96, 96)),
    "3d": Kind(
        "patches of 48 x 48 x 16, K = 16", (64, 64, 32), candidates=16, batch=2, patch=(48, 48, 16)
    ),
    "structures": Kind("96 x 96, five structures, K = 32", (96, 96), phantoms="chest"),
    "standing": Kind("96 x 96, K = 32, slates of a round", (96, 96), standing=True),
}


def _of(module: str, *names: str) -> Any:
    """Names of a module that both versions have; benchmarks else import what a package shows."""
    found = importlib.import_module(f"segpref.{module}")
    return tuple(getattr(found, name) for name in names)


def _default_precision() -> dict[str, str]:
    """What a run takes for passes that only propose; earlier versions have no such setting."""
    if importlib.util.find_spec("segpref.runtime") is None:
        return {}
    chosen = getattr(importlib.import_module("segpref.runtime"), "proposal_precision", None)
    return {"precision": chosen("auto", "no")} if chosen else {}


def main() -> None:
    """Print CPU and wall seconds of the steps of either kind, which take turns."""
    kind, folder = KINDS[sys.argv[1]], Path(sys.argv[2])
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        preference, supervised = _steps(kind, folder / sys.argv[1], Path(work))
        taken: dict[str, list[tuple[float, float]]] = {"step": [], "supervised": []}
        for number in range(STEPS + 1):
            for name, call in (("step", preference), ("supervised", supervised)):
                cpu, wall = time.process_time(), time.perf_counter()
                call(number)
                taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    source = importlib.import_module("segpref").__file__
    print(json.dumps({"source": source} | {name: times[1:] for name, times in taken.items()}))


def _steps(
    kind: Kind, kept: Path, work: Path
) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """One step of stage 2 and one supervised step, by their number."""
    Segmenter, ModelJudge = _of("policies", "Segmenter")[0], _of("judges", "ModelJudge")[0]
    PreferenceStep, StepSlates = _of("training.step", "PreferenceStep", "StepSlates")
    PreferenceRounds = _of("training.rounds", "PreferenceRounds")[0]
    PreferenceSignal, batch_stream = (
        _of("training", "PreferenceSignal")[0],
        _of("training.loop", "batch_stream")[0],
    )
    SupervisedLoss = _of("objectives.supervised", "SupervisedLoss")[0]
    DPO, SlateProposals = _of("objectives", "DPO")[0], _of("proposals", "SlateProposals")[0]
    PredictionStore = _of("data.predictions", "PredictionStore")[0]
    PatchDraw = _of("data.patches", "PatchDraw")[0]
    pool, labelled, preparation, cache = _data(kind, kept, work)
    space = pool.label_space
    base, judge = (_trained(kind, kept, labelled, space, seed) for seed in (0, 1))
    policy, frozen, learner = (
        Segmenter(_network(kind, space, base), space),
        Segmenter(_network(kind, space, base), space),
        _network(kind, space, base).train(),
    )
    scored_by = ModelJudge(Segmenter(_network(kind, space, judge), space), cache)
    scored_by.prepare(pool)
    store = PredictionStore(frozen, "places" if kind.patch else "logits", cache)
    store.prepare(pool)
    # Earlier versions predict the whole pool here; today an image is predicted when it is asked for.
    for one in (scored_by, store):
        getattr(one, "predict", list)([pool[place] for place in range(len(pool))])
    patches = reference = None
    if kind.patch:
        draw = PatchDraw(preparation, store.__getitem__)

        def patches(cases: Any, indices: Any, epoch: int, number: int) -> Any:
            return draw(cases, indices, number)

        def reference(cases: Any, images: Any) -> Any:
            return frozen.logits(images).float()

    logits = reference or store.batch
    proposals, lower = SlateProposals(kind.candidates), _default_precision()
    if kind.standing:
        slates = PreferenceRounds(
            policy, logits, pool, scored_by, proposals, work, every=100, seed=0, **lower
        )
    else:
        slates = StepSlates(policy, logits, scored_by, proposals, 0, **lower)
    signal = PreferenceSignal(space, objective=DPO(1.5))
    step = PreferenceStep(policy, pool, slates, signal, 0, patches=patches)
    batches = batch_stream(len(pool), None, kind.batch, 0)(0)
    optimizer = torch.optim.Adam(policy.network.parameters(), 1e-4)
    other = torch.optim.AdamW(learner.parameters(), 1e-3, weight_decay=1e-4)
    loss = SupervisedLoss(space)

    def preference(number: int) -> None:
        result = step(batches[number % len(batches)], 0, number)
        (result.loss / result.terms).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def supervised(number: int) -> None:
        indices = batches[number % len(batches)]
        cases = [pool[i] for i in indices]
        if patches is not None:
            cases = patches(cases, indices, 0, number)
        images, labels = (
            torch.from_numpy(np.stack([np.asarray(getattr(case, name)) for case in cases]))
            for name in ("image", "label")
        )
        loss(learner(images), labels).backward()
        other.step()
        other.zero_grad(set_to_none=True)

    return preference, supervised


def _data(kind: Kind, kept: Path, work: Path) -> tuple[Any, Any, Any, Any]:
    """The pool, the labelled cases, their preparation and a cache."""
    Cache, Folders, Preparation, prepare = _of("data", "Cache", "Folders", "Preparation", "prepare")
    write_phantoms, label_space, pattern = _of(
        "data.phantoms", "write_phantoms", "label_space", "PATIENT_PATTERN"
    )
    data = kept / "data"
    if not data.is_dir():
        write_phantoms(data, kind.phantoms, kind.size, 16, 0, slices_per_patient=2)
    names = label_space(kind.phantoms).names if kind.phantoms == "cardiac" else ()
    sized = {"patch": kind.patch} if kind.patch else {"size": kind.size}
    preparation = Preparation(dims=len(kind.size), normalise="min-max", **sized)
    cache = Cache(work / "cache")
    reader = Folders(data, names=names, patient_pattern=pattern)
    cases = prepare(reader, preparation, cache)
    patients = list(cases.patients)
    return cases.of_patients(patients[4:]), cases.of_patients(patients[:4]), preparation, cache


def _network(kind: Kind, space: Any, weights: Any = None) -> nn.Module:
    from monai.networks.nets import UNet

    network = UNet(
        len(kind.size),
        1,
        space.channels,
        (16, 32, 64, 128),
        (2, 2, 2),
        num_res_units=2,
        dropout=0.1,
    ).eval()
    if weights is not None:
        network.load_state_dict(weights)
    return network


def _trained(kind: Kind, kept: Path, labelled: Any, space: Any, seed: int) -> Any:
    """Weights of a network that knows a few patients; those of an earlier run where there are any."""
    file = kept / f"{seed}.pt"
    if not file.exists():
        SupervisedLoss = _of("objectives.supervised", "SupervisedLoss")[0]
        torch.manual_seed(seed)
        network, loss = _network(kind, space).train(), SupervisedLoss(space)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        rng = np.random.default_rng(seed)
        for _ in range(UPDATES):
            cases = [labelled[int(i)] for i in rng.integers(len(labelled), size=4)]
            images, labels = (
                torch.from_numpy(np.stack([np.asarray(getattr(case, name)) for case in cases]))
                for name in ("image", "label")
            )
            loss(network(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        torch.save(network.state_dict(), file)
    return torch.load(file, weights_only=True)


if __name__ == "__main__":
    main()
