from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import segpref.training.tasks.semisupervised as module
from segpref.data import Dataset, Preparation
from segpref.inference import mean_iou, score_model
from segpref.policies import ModelCard, NetworkSpec, load_model, read_card
from segpref.training import RunFolder, fit
from segpref.training.semisupervised import (
    CopyPaste,
    FixMatch,
    MeanTeacher,
    Method,
    UniMatch,
)
from segpref.types import IGNORE, SegprefError

METHODS: dict[str, Method] = {
    "mean-teacher": MeanTeacher(weight=1.0, decay=0.8, ramp_up=0.5),
    "fixmatch": FixMatch(threshold=0.6),
    "unimatch": UniMatch(threshold=0.6, decay=0.7),
    "copy-paste": CopyPaste(decay=0.8, pretraining=0.3),
}


def card_for(hearts: Dataset, spec: NetworkSpec, **options: Any) -> ModelCard:
    return ModelCard(spec, hearts.label_space, Preparation(dims=2, size=(32, 32)), **options)


def run(
    folder: Path, hearts: Dataset, method: Method, spec: NetworkSpec, **options: Any
) -> tuple[RunFolder, dict[str, Any]]:
    """Patients 0 and 1 have labels, 2 to 7 none, and 8 to 11 validate."""
    target = RunFolder(folder)
    target.open({"test": 1}, resume=options.pop("resume", False))
    patients = hearts.patients
    settings = {
        "epochs": 2, "images_per_epoch": 12, "batch_size": 4, "learning_rate": 1e-2, "seed": 3,
        **options,
    }  # fmt: skip
    labelled = settings.pop("labelled", hearts.of_patients(patients[:2]))
    unlabelled = settings.pop("unlabelled", hearts.of_patients(patients[2:8]))
    validation = settings.pop("validation", hearts.of_patients(patients[8:]))
    card = settings.pop("card", card_for(hearts, spec))
    summary = fit(
        labelled, validation, card, target, method=method, unlabelled=unlabelled, **settings
    )
    return target, summary


@pytest.fixture
def spec(tiny_unet: Callable[..., NetworkSpec]) -> NetworkSpec:
    return tiny_unet(4, (4, 8, 16))


def scrambled(dataset: Dataset) -> Dataset:
    """The same images with labels that are noise."""
    rng = np.random.default_rng(0)
    volumes = [
        replace(
            volume,
            labels=None if volume.labels is None
            else rng.integers(0, 4, volume.labels.shape).astype(np.uint8),
        )
        for volume in dataset.volumes
    ]  # fmt: skip
    return Dataset(volumes, dataset.label_space, dataset._items)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_labels_of_the_unlabelled_images_are_never_touched(
    name: str, hearts: Dataset, spec: NetworkSpec, tmp_path: Path
) -> None:
    pool = hearts.of_patients(hearts.patients[2:8])
    results = []
    for number, unlabelled in enumerate([pool, scrambled(pool), pool.without_labels()]):
        torch.manual_seed(number)
        folder, _ = run(tmp_path / str(number), hearts, METHODS[name], spec, unlabelled=unlabelled)
        results.append((folder.last.read_bytes(), folder.metrics.read_bytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_was_killed_continues_to_the_same_bits(
    name: str, hearts: Dataset, spec: NetworkSpec, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    options: dict[str, Any] = {"checkpoint_seconds": 0.0, "resume": True}
    whole, summary = run(tmp_path / "whole", hearts, METHODS[name], spec, **options)
    original, calls = module.augmented_batch, [0]

    def stops(*arguments: Any) -> Any:
        calls[0] += 1
        # Two batches a step: in the middle of the second, and when the second epoch has begun.
        if calls[0] in (4, 10):
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "augmented_batch", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "part", hearts, METHODS[name], spec, **options)
    part, again = run(tmp_path / "part", hearts, METHODS[name], spec, **options)
    assert calls[0] < 10 + 12
    for file in ("best", "last", "state", "metrics"):
        assert getattr(part, file).read_bytes() == getattr(whole, file).read_bytes(), file
    assert again == summary
    # A finished run is not trained again.
    assert run(tmp_path / "part", hearts, METHODS[name], spec, **options)[1] == summary
    assert part.last.read_bytes() == whole.last.read_bytes()


@pytest.mark.slow
def test_the_model_is_the_teacher(hearts: Dataset, spec: NetworkSpec, tmp_path: Path) -> None:
    method = MeanTeacher(decay=0.9)
    folder, summary = run(tmp_path / "run", hearts, method, spec)
    state, last = load_file(folder.state), load_file(folder.last)
    for name, value in last.items():
        assert torch.equal(value, state[f"network.average.module.{name}"])
    students = [torch.equal(v, state[f"network.network.{name}"]) for name, v in last.items()]
    assert not any(students)
    assert state["network.average.n_averaged"] == 6
    validation = hearts.of_patients(hearts.patients[8:])
    reached = mean_iou(score_model(load_model(folder.last)[0], validation))
    assert reached == pytest.approx(summary["val_iou_last"], abs=1e-9)


def test_without_decay_the_model_is_the_student(
    hearts: Dataset, spec: NetworkSpec, tmp_path: Path
) -> None:
    folder, _ = run(tmp_path / "run", hearts, FixMatch(threshold=0.5), spec, epochs=1)
    state = load_file(folder.state)
    for name, value in load_file(folder.last).items():
        assert torch.equal(value, state[f"network.network.{name}"])


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss(
    name: str, hearts: Dataset, spec: NetworkSpec, tmp_path: Path
) -> None:
    # Few images and a tiny network: confidence would only confirm what it has not learned yet.
    method = METHODS[name]
    if isinstance(method, FixMatch | UniMatch):
        method = replace(method, threshold=0.95, ramp_up=1.0)
    folder, summary = run(
        tmp_path / "run", hearts, method, spec,
        epochs=8, images_per_epoch=32, learning_rate=2e-2, augment="none",
    )  # fmt: skip
    history = folder.read_metrics()
    assert history[-1]["train_loss"] < 0.75 * history[1]["train_loss"]
    assert summary["val_iou"] > 0.1 > 2 * history[0]["val_iou"]
    assert history[summary["best_epoch"]]["val_iou"] == summary["val_iou"]
    assert summary["kind"] == "semisupervised"
    assert summary["method"] == type(METHODS[name]).__name__
    assert (summary["labelled_cases"], summary["unlabelled_cases"]) == (8, 24)


@pytest.mark.slow
def test_unlabelled_images_change_the_outcome(
    hearts: Dataset, spec: NetworkSpec, tmp_path: Path
) -> None:
    weights = []
    for name, method in {"without": FixMatch(weight=0.0), "with": FixMatch(threshold=0.3)}.items():
        folder, _ = run(tmp_path / name, hearts, method, spec)
        weights.append(load_file(folder.last))
    assert any(not torch.equal(weights[0][name], value) for name, value in weights[1].items())


@pytest.mark.slow
def test_mixed_precision(hearts: Dataset, spec: NetworkSpec, tmp_path: Path) -> None:
    for name, method in METHODS.items():
        folder, _ = run(tmp_path / name, hearts, method, spec, epochs=1, precision="bf16")
        assert all(np.isfinite(value) for value in folder.read_metrics()[1].values())
        assert all(value.dtype == torch.float32 for value in load_file(folder.last).values())


@pytest.mark.slow
def test_structures_that_overlap(
    chests: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    patients = chests.patients
    spec = tiny_unet(chests.label_space.channels, (4, 8))
    for name, method in METHODS.items():
        _, summary = run(
            tmp_path / name, chests, method, spec, labelled=chests.of_patients(patients[:8]),
            unlabelled=chests.of_patients(patients[8:24]),
            validation=chests.of_patients(patients[24:]), augment="photometric",
        )  # fmt: skip
        assert np.isfinite(summary["val_iou"])


@pytest.mark.slow
def test_labels_that_nobody_knows(hearts: Dataset, spec: NetworkSpec, tmp_path: Path) -> None:
    def known(dataset: Dataset, count: int) -> Dataset:
        nothing = [replace(v, labels=np.full_like(v.labels, IGNORE)) for v in dataset.volumes]
        volumes = [*dataset.volumes[:count], *nothing[count:]]
        return Dataset(volumes, dataset.label_space, dataset._items)

    labelled = hearts.of_patients(hearts.patients[:2])
    for name, method in METHODS.items():
        folder, _ = run(
            tmp_path / name, hearts, method, spec, labelled=known(labelled, 1), epochs=1
        )
        assert math.isfinite(folder.read_metrics()[1]["train_loss"])
        assert all(torch.isfinite(value).all() for value in load_file(folder.last).values())
    with pytest.raises(SegprefError, match="none of the 8 training labels shows"):
        run(tmp_path / "none", hearts, None, spec, labelled=known(labelled, 0), epochs=1)


# Starting from a base ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(
    tmp_path_factory: pytest.TempPathFactory, hearts: Dataset,
    tiny_unet: Callable[..., NetworkSpec],
) -> Path:  # fmt: skip
    folder = RunFolder(tmp_path_factory.mktemp("base") / "run")
    folder.open({}, resume=False)
    patients = hearts.patients
    card = card_for(hearts, tiny_unet(4, (4, 8, 16)), labelled=patients[:2])
    fit(
        hearts.of_patients(patients[:2]), hearts.of_patients(patients[8:]), card, folder,
        epochs=2, learning_rate=2e-2, augment="none",
    )  # fmt: skip
    return folder.path


def test_a_run_goes_on_from_a_base(
    base: Path, hearts: Dataset, spec: NetworkSpec, tmp_path: Path
) -> None:
    _, summary = run(tmp_path / "run", hearts, MeanTeacher(), spec, start=base, epochs=1)
    validation = hearts.of_patients(hearts.patients[8:])
    assert summary["val_iou_base"] == mean_iou(score_model(load_model(base)[0], validation))


def test_the_card_remembers_whose_labels_the_base_has_seen(
    base: Path, hearts: Dataset, spec: NetworkSpec, tmp_path: Path
) -> None:
    patients = hearts.patients
    options = {"start": base, "epochs": 1, "labelled": hearts.of_patients(patients[1:3])}
    card = card_for(hearts, spec, labelled=patients[1:3])
    folder, _ = run(
        tmp_path / "run", hearts, MeanTeacher(), spec, card=card,
        unlabelled=hearts.of_patients(patients[3:8]), **options,
    )  # fmt: skip
    assert read_card(folder.best).labelled == patients[:3]
    with pytest.raises(SegprefError, match="labelled cases"):
        run(
            tmp_path / "leak", hearts, MeanTeacher(), spec, card=card,
            unlabelled=hearts.of_patients([patients[0], *patients[3:8]]), **options,
        )  # fmt: skip


def test_a_start_of_another_kind_is_refused(
    base: Path, hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    with pytest.raises(SegprefError, match="another network"):
        run(tmp_path / "a", hearts, MeanTeacher(), tiny_unet(4, (4, 8)), start=base)
    spec = tiny_unet(4, (4, 8, 16))
    other = ModelCard(spec, hearts.label_space, Preparation(dims=2, size=(48, 48)))
    with pytest.raises(SegprefError, match="another preparation"):
        run(tmp_path / "b", hearts, MeanTeacher(), spec, start=base, card=other)


# Mistakes ------------------------------------------------------------------------------------


def test_sets_must_not_be_empty_or_share_patients(
    hearts: Dataset, spec: NetworkSpec, tmp_path: Path
) -> None:
    patients, nobody = hearts.patients, hearts.take([])
    for options, said in (
        ({"labelled": hearts.without_labels()}, "has a label"),
        ({"unlabelled": nobody}, "no unlabelled image"),
        ({"validation": nobody}, "no validation image"),
        ({"unlabelled": hearts.of_patients(patients[1:4])}, "in two|leaks"),
        ({"unlabelled": hearts.of_patients(patients[6:9])}, "leaks"),
        ({"validation": hearts.of_patients(patients[1:2])}, "leaks"),
    ):
        with pytest.raises(SegprefError, match=said):
            run(tmp_path / "run", hearts, FixMatch(), spec, resume=True, **options)
