"""MAPO: rounds of preference sets by dropout, held to the labels (Eq. 3 to 7)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from segpref.data import Cache, Dataset
from segpref.judges import ModelJudge, OracleJudge
from segpref.objectives import DPO
from segpref.policies import load_model
from segpref.preferences import Extremes
from segpref.proposals import DropoutRates, InputNoise, Thresholds, full_slates
from segpref.training import AnchoredSignal, PreferenceSignal, RunFolder, align
from segpref.types import Case, SegprefError, Slate

RATES = full_slates(DropoutRates((0.0, 0.2, 0.4, 0.6)))


def mapo(
    folder: Path, base: Path, hearts: Dataset, store: Cache, resume: bool = False, **options: Any
) -> RunFolder:
    target = RunFolder(folder)
    target.open({"test": 1}, resume=resume)
    space = hearts.label_space
    signal = AnchoredSignal(space, PreferenceSignal(space, Extremes(1e-3), DPO(0.1), "image"))
    settings: dict[str, Any] = {
        "proposals": RATES, "epochs": 4, "refresh": 2, "batch_size": 4, "learning_rate": 1e-3,
        "seed": 3, "cache": store, "judge": OracleJudge(space, "dice"), "signal": signal,
        "pool": hearts.of_patients(hearts.patients[0:2]), **options,
    }  # fmt: skip
    validation = hearts.of_patients(hearts.patients[8:])
    align(base, validation=validation, folder=target, **settings)
    return target


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def test_rounds_on_the_cases_of_the_base(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache
) -> None:
    run = mapo(tmp_path / "run", heart_base, hearts, store)
    rows = run.read_metrics()[1:]
    shares = [row["images_with_pair"] for row in rows]
    # The set stands for two epochs, in which every image is seen once.
    assert shares[0] == shares[1] > 0
    assert shares[2] == shares[3] > 0
    assert all(row["supervised_loss"] > 0 for row in rows)
    # Validation's loss, against Dice and cross-entropy of the weights that were kept, worked out here.
    policy, _ = load_model(run.last)
    worked = []
    for case in hearts.of_patients(hearts.patients[8:]):
        chances = policy.logits(torch.from_numpy(np.array(case.image))[None])[0].softmax(0)
        label = torch.from_numpy(np.array(case.label[0])).long()
        truth = torch.nn.functional.one_hot(label, len(chances)).movedim(-1, 0)
        overlap, sizes = (chances * truth).sum((1, 2)), (chances + truth).sum((1, 2))
        dice = 1 - (2 * overlap + 1e-5) / (sizes + 1e-5)
        entropy = -(truth * chances.log()).sum(0).mean()
        worked.append(float(dice[1:].mean() + entropy))
    assert rows[-1]["val_loss"] == pytest.approx(np.mean(worked), abs=1e-5)
    assert {path.name for path in (run.path / "rounds").glob("round-*")} == {
        "round-001.json", "round-001.masks.npy",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["base", "round"])
def test_a_run_that_was_killed_in_a_round_ends_the_same(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache, reference: str
) -> None:
    whole = mapo(tmp_path / "whole", heart_base, hearts, store, reference=reference)

    space = hearts.label_space
    inner = PreferenceSignal(space, Extremes(1e-3), DPO(0.1), "image")
    calls = 0

    def failing(batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return inner(batch)

    with pytest.raises(KeyboardInterrupt):
        mapo(
            tmp_path / "run", heart_base, hearts, store, reference=reference,
            signal=AnchoredSignal(space, failing), checkpoint_seconds=0.0,
        )  # fmt: skip
    assert whole.read_metrics()[1]["images_with_pair"] > 0
    again = mapo(tmp_path / "run", heart_base, hearts, store, True, reference=reference)
    first, second = weights(whole.last), weights(again.last)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_round_that_taught_nothing_is_not_gone_before_the_position_is_saved(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache
) -> None:
    # Too slow for a better checkpoint after the first epoch, which would save the position, too.
    options: dict[str, Any] = {"learning_rate": 1e-12, "checkpoint_seconds": 1e9}
    whole = mapo(tmp_path / "whole", heart_base, hearts, store, **options)
    assert len({row["val_iou"] for row in whole.read_metrics()}) == 1
    space = hearts.label_space
    inner = PreferenceSignal(space, Extremes(1e-3), DPO(0.1), "image")

    def failing(batch: Any) -> Any:
        if (tmp_path / "run" / "rounds" / "round-001.json").exists():
            raise KeyboardInterrupt
        return inner(batch)

    signal = AnchoredSignal(space, failing)
    with pytest.raises(KeyboardInterrupt):
        mapo(tmp_path / "run", heart_base, hearts, store, signal=signal, **options)
    again = mapo(tmp_path / "run", heart_base, hearts, store, True, **options)
    assert again.metrics.read_bytes() == whole.metrics.read_bytes()


@pytest.mark.parametrize("family", [Thresholds((0.2, 0.8)), InputNoise((0.1, 0.2))])
def test_the_strategies_of_table_4(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache, family: Any
) -> None:
    space = hearts.label_space
    signal = AnchoredSignal(space, PreferenceSignal(space, Extremes(1e-3), DPO(0.1), "image"))
    run = mapo(
        tmp_path, heart_base, hearts, store, proposals=full_slates(family), signal=signal, epochs=2
    )
    assert run.read_metrics()[1]["images_with_pair"] > 0


def test_without_labels_a_judge_ranks_and_the_region_reduces(
    tmp_path: Path, heart_base: Path, heart_judge: Path, hearts: Dataset, store: Cache
) -> None:
    pool = hearts.of_patients(hearts.patients[4:6]).without_labels()
    judge = ModelJudge(load_model(heart_judge)[0], store)
    signal = PreferenceSignal(hearts.label_space, Extremes(0.05), DPO(1.0), "region")
    options = {"pool": pool, "judge": judge, "epochs": 2, "optimizer": "adamw"}
    run = mapo(tmp_path / "run", heart_base, hearts, store, signal=signal, **options)
    assert run.read_metrics()[1]["images_with_pair"] > 0
    with pytest.raises(SegprefError, match="needs labels, and the pool has none"):
        mapo(tmp_path / "other", heart_base, hearts, store, **options)


def test_a_pool_may_be_labelled_in_part(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache
) -> None:
    pool = hearts.of_patients(hearts.patients[4:6])
    first, *others = [volume for volume, _ in pool.by_volume()]
    mixed = Dataset([replace(first, labels=None), *others], pool.label_space)
    assert 0 < len(mixed.labelled()) < len(mixed)
    space = hearts.label_space
    signal = AnchoredSignal(space, PreferenceSignal(space, Extremes(1e-3), DPO(0.1), "image"))

    class Size:
        needs_label = False

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            return (slate.masks > 0).mean(axis=tuple(range(2, slate.masks.ndim)))

    run = mapo(
        tmp_path, heart_base, hearts, store, pool=mixed, judge=Size(), signal=signal, batch_size=1,
        epochs=2,
    )  # fmt: skip
    rows = run.read_metrics()[1:]
    assert all(row["images_with_pair"] > 0 and row["supervised_loss"] > 0 for row in rows)


def test_a_reference_per_round_needs_rounds(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache
) -> None:
    with pytest.raises(SegprefError, match="give refresh"):
        mapo(tmp_path, heart_base, hearts, store, refresh=None, reference="round")
