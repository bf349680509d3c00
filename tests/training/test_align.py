from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from segpref.data import Cache, Dataset, Folders, Preparation, Reader, prepare
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.judges import EnsembleJudge, ModelJudge, OracleJudge
from segpref.objectives import UncertaintyPenalizedDPO
from segpref.policies import ModelCard, NetworkSpec, Segmenter, load_model, load_policy, save_model
from segpref.proposals import IntensityTTA, SlateProposals
from segpref.training import PreferenceSignal, PseudoLabelSignal, RunFolder, align, fit
from segpref.training.augmentation import StrongAugmentation
from segpref.types import Case, Margins, SegprefError, Slate

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


@pytest.fixture
def model_judge(heart_judge: Path, store: Cache) -> ModelJudge:
    return ModelJudge(load_model(heart_judge)[0], store)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    heart_base: Path,
    heart_judge: Path,
    hearts: Dataset,
    store: Cache,
) -> RunFolder:
    judge = ModelJudge(load_model(heart_judge)[0], store)
    return run(tmp_path_factory.mktemp("align") / "run", heart_base, hearts, judge, store)


# The labels of the pool ----------------------------------------------------------------------


def changed_labels(folder: Path, target: Path, patients: set[str], how: str) -> Reader:
    """The same images; the labels of some patients are gone, or noise."""
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.nii.gz")):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        theirs = path.parent.name == "labels" and path.name.split("_")[0] in patients
        if not theirs:
            copy.write_bytes(path.read_bytes())
        elif how == "scrambled":
            image = nib.load(path)
            noise = rng.integers(0, 4, image.shape).astype(np.uint8)
            nib.save(nib.Nifti1Image(noise, image.affine), copy)
    return Folders(target, names=("background", "RV", "MYO", "LV"), patient_pattern=PATIENT_PATTERN)


@pytest.mark.parametrize("how", ["absent", "scrambled"])
def test_labels_of_the_pool_do_not_reach_the_weights(
    how: str,
    undisturbed: RunFolder,
    heart_folder: Path,
    heart_base: Path,
    heart_judge: Path,
    hearts: Dataset,
    tmp_path: Path,
) -> None:
    patients = set(hearts.patients[POOL])
    reader = changed_labels(heart_folder, tmp_path / "data", patients, how)
    cache = Cache(tmp_path / "store")
    other = prepare(reader, Preparation(dims=2, size=(32, 32)), cache)
    pool = other.of_patients(sorted(patients))
    if how == "absent":
        assert all(one.label is None for one in pool)
    else:
        assert not np.array_equal(pool[0].label, hearts.of_patients(pool.patients)[0].label)
    judge = ModelJudge(load_model(heart_judge)[0], cache)
    again = run(tmp_path / "run", heart_base, other, judge, cache)
    for file in ("last", "best"):
        assert getattr(again, file).read_bytes() == getattr(undisturbed, file).read_bytes()
    # Figures that need the truth are there only where there is one.
    assert "pair_flip" in undisturbed.read_metrics()[1]
    assert ("pair_flip" in again.read_metrics()[1]) == (how == "scrambled")


class Spy:
    """Scores by size, and notes whether it was shown labels."""

    def __init__(self, needs_label: bool) -> None:
        self.needs_label, self.shown = needs_label, []  # type: ignore[var-annotated]

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        self.shown.append(case.label is not None)
        return (slate.masks > 0).mean(axis=tuple(range(2, slate.masks.ndim)))


@pytest.mark.parametrize("needs_label", [True, False])
def test_only_a_judge_that_asks_is_shown_labels(
    needs_label: bool, heart_base: Path, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    judge = Spy(needs_label)
    run(tmp_path / "run", heart_base, hearts, judge, store, epochs=1)
    assert judge.shown == [needs_label] * 8


# What a run does and does not touch ------------------------------------------------------------


def test_a_run_can_be_repeated_bit_by_bit(
    undisturbed: RunFolder, heart_base: Path, hearts: Dataset, model_judge: ModelJudge,
    store: Cache, tmp_path: Path,
) -> None:  # fmt: skip
    torch.manual_seed(99)
    np.random.default_rng(99)
    again = run(tmp_path / "again", heart_base, hearts, model_judge, store)
    assert again.last.read_bytes() == undisturbed.last.read_bytes()
    assert again.metrics.read_bytes() == undisturbed.metrics.read_bytes()
    other = run(tmp_path / "other", heart_base, hearts, model_judge, store, seed=4)
    assert other.last.read_bytes() != undisturbed.last.read_bytes()


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

    monkeypatch.setattr("segpref.training.preference.load_policy", counted)
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
    # Of single images: the validation before and after, and the search for the last stage, once.
    assert counts.pop((0, False, 1)) == 2 + 2
    assert not counts


def test_a_finished_run_is_not_run_again(
    undisturbed: RunFolder, heart_base: Path, hearts: Dataset, model_judge: ModelJudge,
    store: Cache,
) -> None:  # fmt: skip
    files = {path: path.stat().st_mtime_ns for path in undisturbed.path.rglob("*")}
    summary = undisturbed.read_summary()
    again = run(undisturbed.path, heart_base, hearts, model_judge, store, resume=True)
    assert again.read_summary() == summary
    assert {path: path.stat().st_mtime_ns for path in again.path.rglob("*")} == files


def test_the_summary_agrees_with_the_curve(undisturbed: RunFolder) -> None:
    history, summary = undisturbed.read_metrics(), undisturbed.read_summary()
    assert summary["val_iou_base"] == history[0]["val_iou"]
    assert summary["val_iou_peak"] == max(row["val_iou"] for row in history[1:])
    assert history[summary["peak_epoch"]]["val_iou"] == summary["val_iou_peak"]
    assert summary["pool_cases"] == 16
    assert (undisturbed.path / "tensorboard").is_dir()


# Interruptions ---------------------------------------------------------------------------------


class Stops(ModelJudge):
    """A judge that breaks off after so many slates."""

    left = 0

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().score(case, slate)


@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
@pytest.mark.parametrize(
    "options", [{}, {"view": StrongAugmentation(), "average": 0.9}], ids=["plain", "view, average"]
)
def test_a_run_that_was_stopped_continues_to_the_same_bits(
    checkpoint_seconds: float, options: dict[str, Any], heart_base: Path, heart_judge: Path,
    hearts: Dataset, store: Cache, tmp_path: Path,
) -> None:  # fmt: skip
    judge = Stops(load_model(heart_judge)[0], store)
    judge.left = 99
    undisturbed = run(tmp_path / "whole", heart_base, hearts, judge, store, **options)
    for scored in (2, 5, 9):
        judge.left = scored
        with pytest.raises(KeyboardInterrupt):
            run(
                tmp_path / "run", heart_base, hearts, judge, store,
                resume=True, checkpoint_seconds=checkpoint_seconds, **options,
            )  # fmt: skip
    judge.left = 99
    again = run(tmp_path / "run", heart_base, hearts, judge, store, resume=True, **options)
    assert again.last.read_bytes() == undisturbed.last.read_bytes()
    assert again.best.read_bytes() == undisturbed.best.read_bytes()
    assert again.metrics.read_bytes() == undisturbed.metrics.read_bytes()


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


# Mistakes --------------------------------------------------------------------------------------


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
    with pytest.raises(SegprefError, match="ModelJudge does not tell: take an ensemble"):
        run(tmp_path / "b", heart_base, hearts, model_judge, store, signal=signal, **options)
    from_gap = UncertaintyPenalizedDPO(temperature=0.1)
    signal = PreferenceSignal(hearts.label_space, objective=from_gap)
    run(tmp_path / "c", heart_base, hearts, model_judge, store, signal=signal, **options)


def test_leakage_is_refused(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path
) -> None:
    patients = hearts.patients
    for parts in (
        {"pool": hearts.of_patients(patients[1:6])},
        {"pool": hearts.of_patients(patients[4:9])},
        {"validation": hearts.of_patients(patients[:1])},
    ):
        with pytest.raises(SegprefError, match="that leaks"):
            run(tmp_path / "run", heart_base, hearts, model_judge, store, resume=True, **parts)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"images_per_epoch": 0}, "at least 1"),
    ],
)
def test_settings_out_of_range(
    options: dict[str, int], said: str, heart_base: Path, hearts: Dataset,
    model_judge: ModelJudge, store: Cache, tmp_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(SegprefError, match=said):
        run(tmp_path / "run", heart_base, hearts, model_judge, store, **options)


def test_empty_sets_are_named(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path
) -> None:
    nobody = hearts.take([])
    with pytest.raises(SegprefError, match="no image to learn from"):
        run(tmp_path / "run", heart_base, hearts, model_judge, store, pool=nobody)
    with pytest.raises(SegprefError, match="no validation image"):
        run(tmp_path / "more", heart_base, hearts, model_judge, store, validation=nobody)


def test_the_oracle_on_unlabelled_images(
    heart_base: Path, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    pool = hearts.of_patients(hearts.patients[POOL]).without_labels()
    with pytest.raises(SegprefError, match="has no label, so the oracle can't judge it"):
        run(tmp_path / "run", heart_base, hearts, OracleJudge(hearts.label_space), store, pool=pool)


# Signals and stage 1 ---------------------------------------------------------------------------


def test_pseudo_labels_from_the_oracle_move_the_weights(
    heart_base: Path, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    judge = OracleJudge(hearts.label_space)
    signal = PseudoLabelSignal(hearts.label_space)
    target = run(tmp_path / "run", heart_base, hearts, judge, store, signal=signal)
    first, second = target.read_metrics()[1:]
    assert second["loss"] < first["loss"]


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


def test_fitting_learns_and_repeats_bit_by_bit(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    patients = hearts.patients
    card = ModelCard(tiny_unet(4, (8, 16)), hearts.label_space, Preparation(dims=2, size=(32, 32)))
    finals = []
    for name in ("one", "two"):
        folder = RunFolder(tmp_path / name)
        folder.open({}, resume=False)
        torch.manual_seed(len(finals))
        summary = fit(
            hearts.of_patients(patients[:4]), hearts.of_patients(patients[8:]), card, folder,
            epochs=12, images_per_epoch=32, learning_rate=2e-2, seed=5, augment="none",
        )  # fmt: skip
        finals.append(folder.last.read_bytes())
    assert finals[0] == finals[1]
    history = folder.read_metrics()
    assert history[-1]["train_loss"] < 0.7 * history[1]["train_loss"]
    assert summary["val_iou"] > 0.1 > 2 * history[0]["val_iou"]
    assert summary["labelled_cases"] == 16
    assert history[summary["best_epoch"]]["val_iou"] == summary["val_iou"]


def test_fitting_needs_labels_and_validation(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    card = ModelCard(tiny_unet(4), hearts.label_space, Preparation(dims=2, size=(32, 32)))
    folder = RunFolder(tmp_path)
    with pytest.raises(SegprefError, match="has a label"):
        fit(hearts.without_labels(), hearts, card, folder)
    with pytest.raises(SegprefError, match="no validation image"):
        fit(hearts, hearts.take([]), card, folder)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_fitting_tells_of_sizes_that_the_network_can_not_halve(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path, dropout: float
) -> None:
    cut = [replace(v, images=v.images[..., :21, :19], labels=v.labels[..., :21, :19])
           for v in hearts.volumes]  # fmt: skip
    odd = Dataset(cut, hearts.label_space)
    card = ModelCard(tiny_unet(4, (4, 8, 8)), hearts.label_space, Preparation(dims=2))
    with pytest.raises(
        SegprefError, match=r"can't learn from images of 21 x 19 voxels.*a patch, or"
    ):
        fit(
            odd.of_patients(odd.patients[:2]), odd.of_patients(odd.patients[8:]), card,
            RunFolder(tmp_path), epochs=1, augment="none", dropout=dropout,
        )  # fmt: skip


def test_a_resumed_fit_with_augmentation_and_dropout_gives_the_same_bits(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    card = ModelCard(tiny_unet(4), hearts.label_space, Preparation(dims=2, size=(32, 32)))
    labelled, validation = hearts.take(range(10)), hearts.take([40, 41])

    def go(name: str) -> RunFolder:
        folder = RunFolder(tmp_path / name)
        folder.open({}, resume=True)
        fit(labelled, validation, card, folder, epochs=2, batch_size=4, checkpoint_seconds=0)
        return folder

    whole = go("whole")
    import segpref.training.supervised as module

    original, calls = module.augmented_batch, [0]

    def stops(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] in (2, 5):
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "augmented_batch", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            go("part")
    part = go("part")
    assert part.last.read_bytes() == whole.last.read_bytes()
    assert part.metrics.read_bytes() == whole.metrics.read_bytes()


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
        learning_rate=1e-3, cache=store,
    )  # fmt: skip
    assert summary["val_iou_peak"] > summary["val_iou_base"] + 0.03
    assert summary["val_iou_last"] > summary["val_iou_base"] + 0.03
    history = run.read_metrics()
    assert history[-1]["preference_accuracy"] > 0.6
    assert history[1]["pair_flip"] == 0
