"""What the updates of stage 2 change, what they leave alone, and the signals that they follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from short_align import VALIDATION, run
from torch import nn

from segpref.contrib.objectives import UncertaintyPenalizedDPO
from segpref.data import Cache, Dataset, Preparation, largest_error
from segpref.judges import EnsembleJudge, ModelJudge, OracleJudge
from segpref.policies import ModelCard, NetworkSpec, Segmenter, load_model, load_policy, save_model
from segpref.proposals import IntensityTTA, SlateProposals
from segpref.training import (
    PreferenceSignal,
    PseudoLabelSignal,
    RunFolder,
    StrongAugmentation,
    align,
    fit,
)
from segpref.types import Case, Margins, SegprefError, Slate

# What a run does and does not touch ------------------------------------------------------------


def test_the_margin_of_an_untouched_policy_is_zero(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path
) -> None:
    target = run(
        tmp_path / "run", heart_base, hearts, model_judge, store, epochs=1, learning_rate=0.0
    )
    row = target.read_metrics()[1]
    assert abs(row["margin"]) < 1e-6
    assert row["loss"] == pytest.approx(np.log(2), abs=1e-6)
    for name in ("RV", "MYO", "LV"):
        assert row[f"volume_ratio_{name}"] == pytest.approx(1, abs=0.02)
    base = load_file(heart_base / "best.safetensors")
    for name, value in load_file(target.last).items():
        assert torch.equal(value, base[name])


@pytest.mark.parametrize("kept", ["float16", "uint8", "recomputed"])
def test_a_reference_in_fewer_bits_moves_margins_within_the_bound(
    kept: Literal["float16", "uint8", "recomputed"], heart_base: Path, hearts: Dataset,
    model_judge: ModelJudge, store: Cache, tmp_path: Path,
) -> None:  # fmt: skip
    cache = Cache(tmp_path / "cache")
    target = run(
        tmp_path / "run", heart_base, hearts, model_judge, cache,
        epochs=1, learning_rate=0.0, reference_logits=kept,
    )  # fmt: skip
    row = target.read_metrics()[1]
    bound = 0.0
    if kept != "recomputed":
        network, _ = load_model(heart_base)
        logits = network.logits(torch.from_numpy(np.stack([case.image for case in hearts]))).numpy()
        bound = 2 * largest_error(logits, kept)
        assert row["margin"] != 0
    assert abs(row["margin"]) <= bound
    files = (tmp_path / "cache").rglob("logits.npy")
    sizes = {np.load(path, mmap_mode="r").dtype.name for path in files}
    assert sizes == (set() if kept == "recomputed" else {kept})


def test_normalisation_statistics_are_frozen(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], model_judge: ModelJudge,
    store: Cache, tmp_path: Path,
) -> None:  # fmt: skip
    network = tiny_unet(4, norm="batch")
    card = ModelCard(network, hearts.label_space, Preparation(dims=2, size=(32, 32)))
    torch.manual_seed(0)
    save_model(tmp_path / "base.safetensors", network.build(), card)
    target = run(
        tmp_path / "run", tmp_path / "base.safetensors", hearts, model_judge, store, epochs=1
    )
    before, after = load_file(tmp_path / "base.safetensors"), load_file(target.last)
    running = [name for name in before if "running" in name or "num_batches" in name]
    assert running
    for name in before:
        assert torch.equal(before[name], after[name]) == (name in running), name


def test_no_network_pass_is_done_twice(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    patients = hearts.patients
    run(tmp_path / "before", heart_base, hearts, model_judge, store, epochs=1)
    passes: list[tuple[int, bool, int]] = []
    owners: list[nn.Module] = []
    original = load_policy

    def counted(path: Path) -> tuple[Segmenter, ModelCard]:
        model, card = original(path)
        number = len(owners)
        owners.append(model.network)
        model.network.register_forward_hook(
            lambda _, inputs, __: passes.append((number, torch.is_grad_enabled(), len(inputs[0])))
        )
        return model, card

    monkeypatch.setattr("segpref.training.tasks.preference.load_policy", counted)
    one = hearts.of_patients(patients[VALIDATION]).take([0])
    run(
        tmp_path / "run", heart_base, hearts, model_judge, store,
        epochs=1, images_per_epoch=8, batch_size=4, validation=one,
    )  # fmt: skip
    assert len(owners) == 2
    counts = Counter(passes)
    # The reference's logits are in the store, so it is never run.
    assert not [key for key in counts if key[0] == 1]
    # Two steps of four images: one differentiable pass each, and one per view of the image.
    assert counts.pop((0, True, 4)) == 2
    assert counts.pop((0, False, 4)) == 2 * IntensityTTA().views
    # Of single images: the validation before and after, and the search for the last stage and for
    # what runs in it before its first dropout layer, once.
    assert counts.pop((0, False, 1)) == 2 + 5
    assert not counts


def test_a_view_changes_the_image_of_the_update_and_nothing_else(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path
) -> None:
    """At the first step only the view tells the policy from its reference."""

    def first_step(name: str, view: StrongAugmentation | None) -> dict[str, float]:
        folder = run(
            tmp_path / name, heart_base, hearts, model_judge, store,
            epochs=1, images_per_epoch=4, view=view,
        )  # fmt: skip
        return folder.read_metrics()[1]

    plain = first_step("plain", None)
    same = first_step("same", StrongAugmentation(probability=0.0))
    other = first_step("other", StrongAugmentation(probability=1.0))
    assert plain["margin"] == pytest.approx(0, abs=1e-6)
    assert same["margin"] == pytest.approx(0, abs=1e-4)
    assert abs(other["margin"]) > 1e-3
    # Slates and pairs are those of the images themselves.
    for name in ("pairs_per_image", "disagreement", "pair_flip"):
        assert plain[name] == same[name] == other[name]


@pytest.mark.slow
def test_the_average_lags_behind_the_policy(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path
) -> None:
    averaged = run(tmp_path / "mean", heart_base, hearts, model_judge, store, average=0.5)
    plain = run(tmp_path / "plain", heart_base, hearts, model_judge, store)
    start, mean, last = (
        load_file(p) for p in (heart_base / "best.safetensors", averaged.last, plain.last)
    )
    moved = [float((last[name] - start[name]).norm()) for name in start]
    lagging = [float((mean[name] - start[name]).norm()) for name in start]
    assert 0 < sum(lagging) < sum(moved)


# Signals ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("refresh", [None, 1])
def test_an_objective_hears_how_unsure_the_judge_is(
    refresh: int | None, tmp_path: Path, heart_base: Path, heart_judge: Path, hearts: Dataset,
    store: Cache, model_judge: ModelJudge,
) -> None:  # fmt: skip
    judge = EnsembleJudge([load_model(path)[0] for path in (heart_base, heart_judge)], cache=store)
    options = {"refresh": refresh, "epochs": 1}
    heard = []

    class Listening(UncertaintyPenalizedDPO):
        def __call__(self, margins: Margins) -> torch.Tensor:
            heard.append(margins.uncertainty)
            return super().__call__(margins)

    signal = PreferenceSignal(hearts.label_space, objective=Listening(penalty=2.0))
    run(tmp_path / "a", heart_base, hearts, judge, store, signal=signal, **options)
    assert any((doubt > 0).any() for doubt in heard)
    with pytest.raises(SegprefError, match="ModelJudge does not report: use an ensemble"):
        run(tmp_path / "b", heart_base, hearts, model_judge, store, signal=signal, **options)
    from_gap = UncertaintyPenalizedDPO(temperature=0.1)
    signal = PreferenceSignal(hearts.label_space, objective=from_gap)
    run(tmp_path / "c", heart_base, hearts, model_judge, store, signal=signal, **options)


def test_pseudo_labels_from_the_oracle_move_the_weights(
    heart_base: Path, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    judge = OracleJudge(hearts.label_space)
    signal = PseudoLabelSignal(hearts.label_space)
    target = run(tmp_path / "run", heart_base, hearts, judge, store, signal=signal)
    first, second = target.read_metrics()[1:]
    assert second["loss"] < first["loss"]


@pytest.mark.slow
def test_a_judge_without_an_opinion_changes_nothing(
    heart_base: Path,
    hearts: Dataset,
    store: Cache,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Silent:
        needs_label = False

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            return np.full((len(slate), 1), np.nan)

    for name, signal in (
        ("pairs", PreferenceSignal(hearts.label_space)),
        ("top", PseudoLabelSignal(hearts.label_space)),
    ):
        target = run(tmp_path / name, heart_base, hearts, Silent(), store, signal=signal)
        base = load_file(heart_base / "best.safetensors")
        assert all(torch.equal(v, base[n]) for n, v in load_file(target.last).items())
        curve = [row["val_iou"] for row in target.read_metrics()]
        assert curve == [curve[0]] * 3
    assert caplog.text.count("No image gave a pair in the whole run") == 1
    assert "skipped_abstained" in RunFolder(tmp_path / "pairs").read_metrics()[1]


def test_mixed_precision_keeps_stochastic_candidates(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    proposals = SlateProposals(8)
    with caplog.at_level("WARNING"):
        target = run(
            tmp_path / "run", heart_base, hearts, model_judge, store,
            precision="bf16", proposals=proposals, epochs=1,
        )  # fmt: skip
    assert "no such pass" not in caplog.text
    assert np.isfinite(target.read_metrics()[1]["loss"])


@pytest.mark.slow
def test_preferences_of_the_oracle_make_a_better_segmenter(
    chests: Dataset, tiny_unet: Callable[..., NetworkSpec], store: Cache, tmp_path: Path
) -> None:
    patients = chests.patients
    labelled, validation = patients[:2], chests.of_patients(patients[-8:])
    card = ModelCard(
        tiny_unet(chests.label_space.channels, (8, 16)), chests.label_space,
        Preparation(dims=2, size=(32, 32)), labelled=labelled,
    )  # fmt: skip
    base = RunFolder(tmp_path / "base")
    base.open({}, resume=False)
    fit(
        chests.of_patients(labelled), validation, card, base,
        epochs=10, images_per_epoch=32, learning_rate=1e-2, augment="none",
    )  # fmt: skip
    run = RunFolder(tmp_path / "run")
    run.open({}, resume=False)
    judge = OracleJudge(chests.label_space)
    summary = align(
        base.path, chests.of_patients(patients[2:-8]), validation, judge,
        PreferenceSignal(chests.label_space), run, proposals=SlateProposals(16), epochs=6,
        learning_rate=1e-3, cache=store, seed=2,
    )  # fmt: skip
    assert summary["val_iou_peak"] > summary["val_iou_base"] + 0.03
    assert summary["val_iou_last"] > summary["val_iou_base"] + 0.03
    history = run.read_metrics()
    assert history[-1]["preference_accuracy"] > 0.55
    assert history[1]["pair_flip"] == 0
