"""Stage 2 of a diffusion model through the same loop as everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segpref.data import Cache, Dataset, Preparation, Source, Volume
from segpref.judges import RatersJudge
from segpref.objectives import DPO
from segpref.policies import ModelCard, NetworkSpec, load_model, load_policy, save_model
from segpref.policies.diffusion import DIFFUSION, AmbiSeg, Sampler, SampleSlates
from segpref.preferences import Extremes
from segpref.proposals import SlateProposals
from segpref.training import (
    Denoising,
    PreferenceSignal,
    PseudoLabelSignal,
    RunFolder,
    ScoredBatch,
    StepResult,
    StrongAugmentation,
    align,
)
from segpref.training.tasks import SampledSlates
from segpref.types import LabelSpace, SegprefError

pytest.importorskip("diffusers")
SPACE = LabelSpace("multi-label", ("blob",))
SIDE = 16
SAMPLES = SampleSlates(4, sampler=Sampler(steps=2))
TEXTS = "The Margin is Sharp.\nThe Margin is Poorly Defined."


def dataset(patients: range) -> Dataset:
    """A bright square per patient, outlined by two raters; the second draws it larger."""
    volumes = []
    for number in patients:
        rng = np.random.default_rng(number)
        raters = np.zeros((1, 2, 1, SIDE, SIDE), np.uint8)
        y, x = rng.integers(2, SIDE - 8, 2)
        raters[0, 0, 0, y : y + 5, x : x + 5] = 1
        raters[0, 1, 0, y - 1 : y + 6, x - 1 : x + 6] = 1
        image = raters[:, 0] + 0.05 * rng.standard_normal((1, 1, SIDE, SIDE))
        source = Source(id=f"n{number}", patient=f"p{number}", images=(Path("none"),), text=TEXTS)
        volumes.append(
            Volume(source, {}, image.astype(np.float32), raters[:, 0], None, raters=raters)
        )
    return Dataset(volumes, SPACE)


POOL, VALIDATION = dataset(range(10)), dataset(range(10, 12))
JUDGE = RatersJudge(SPACE, "mean", "dice")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, whose samples are noise; it has seen the pool."""
    arguments = {
        "channels": [8, 16], "cross": 16, "heads": 2, "latent": 2, "latent_channels": 8,
        "text_encoder": None, "middle_attention": False, "attention": [False, False],
    }  # fmt: skip
    card = ModelCard(
        network=NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments),
        label_space=SPACE,
        preparation=Preparation(crop=(SIDE, SIDE)),
        labelled=POOL.patients,
        policy=DIFFUSION,
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("base") / "best.safetensors"
    save_model(path, card.network.build(), card)
    return path


def run(path: Path, base: Path, resume: bool = False, **changes: Any) -> dict[str, Any]:
    folder = RunFolder(path)
    folder.open({"what": "test"}, resume=resume)
    settings: dict[str, Any] = {
        "signal": PreferenceSignal(SPACE, Extremes(1e-4), DPO(50.0), "image"), "judge": JUDGE,
        "proposals": SAMPLES, "epochs": 2, "batch_size": 4, "learning_rate": 1e-3,
        "optimizer": "adamw", "checkpoint_seconds": 0, **changes,
    }  # fmt: skip
    return align(base, POOL, VALIDATION, folder=folder, **settings)


def weights(path: Path) -> Mapping[str, torch.Tensor]:
    policy, _ = load_policy(path / "last.safetensors")
    assert isinstance(policy, AmbiSeg)
    return policy.inner.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reduction", "safeguard"), [("image", None), ("region", None), ("image", 0.9)]
)
def test_preferences_are_learned(
    base: Path, tmp_path: Path, reduction: Any, safeguard: float | None
) -> None:
    signal = PreferenceSignal(SPACE, Extremes(1e-4), DPO(50.0), reduction)
    denoising = Denoising("mean", safeguard)
    summary = run(tmp_path, base, signal=signal, denoising=denoising, epochs=5)
    assert summary["pool_cases"] == 10
    rows = RunFolder(tmp_path).read_metrics()
    # At its start the policy is the reference, and no winner is preferred yet.
    assert rows[-1]["preference_accuracy"] > 0.6
    assert rows[-1]["margin"] > 0
    assert rows[-1]["images_with_pair"] == 1
    for name in ("val_iou", "val_ged", "val_average_dice"):
        assert np.isfinite(rows[0][name])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_without_learning_there_is_no_margin_in_any_precision(
    base: Path, tmp_path: Path, precision: str
) -> None:
    run(tmp_path, base, precision=precision, learning_rate=0.0, epochs=1)
    last = RunFolder(tmp_path).read_metrics()[-1]
    assert last["images_with_pair"] == 1
    assert last["margin"] == 0
    assert last["loss"] == pytest.approx(np.log(2))


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    class Killed(PreferenceSignal):
        steps = 0

        def __call__(self, batch: ScoredBatch) -> StepResult:
            Killed.steps += 1
            if Killed.steps == 5:
                raise KeyboardInterrupt
            return super().__call__(batch)

    options: dict[str, Any] = {"refresh": 1, "average": 0.9}
    run(tmp_path / "whole", base, **options)
    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path / "part", base,
            signal=Killed(SPACE, Extremes(1e-4), DPO(50.0), "image"), **options,
        )  # fmt: skip
    run(tmp_path / "part", base, resume=True, **options)
    whole, part = weights(tmp_path / "whole"), weights(tmp_path / "part")
    assert all(torch.equal(value, part[name]) for name, value in whole.items())
    # Of one epoch each, there were two rounds of slates.
    assert (tmp_path / "part" / "rounds" / "round-001.json").exists()


@pytest.mark.slow
def test_slates_stand_for_the_whole_run_unless_they_are_refreshed(
    base: Path, tmp_path: Path
) -> None:
    run(tmp_path, base)
    assert [path.name for path in (tmp_path / "rounds").glob("*.json")] == ["round-000.json"]


def test_a_slate_is_compared_under_the_prompt_that_it_was_sampled_under(base: Path) -> None:
    policy, _ = load_policy(base)
    assert isinstance(policy, AmbiSeg)
    asked: list[str | None] = []
    encode = policy.encode
    policy.encode = lambda images, texts: asked.extend(texts) or encode(images, texts)  # type: ignore
    source = SampledSlates(policy, SAMPLES, 3)
    cases = [POOL[i] for i in range(10)]
    source(cases, 1)
    # Each image is encoded once, for its four samples share the prompt.
    assert asked == [source.prompt(case, 1) for case in cases]
    assert set(asked) == set(TEXTS.splitlines())
    assert asked != [source.prompt(case, 2) for case in cases]
    together, _ = source(cases[:3], 1)
    alone, _ = source(cases[2:3], 1)
    np.testing.assert_array_equal(together[2].masks, alone[0].masks)


def test_runs_from_one_reference_share_its_samples(base: Path, tmp_path: Path) -> None:
    first, second = (load_policy(base)[0] for _ in range(2))
    assert isinstance(first, AmbiSeg)
    assert isinstance(second, AmbiSeg)
    cache, cases = Cache(tmp_path), [POOL[i] for i in range(4)]
    made, _ = SampledSlates(first, SAMPLES, 3, cache)(cases, 0)
    plain, _ = SampledSlates(first, SAMPLES, 3)(cases, 0)
    passes: list[int] = []
    encode = second.encode
    second.encode = lambda images, texts: passes.append(len(texts)) or encode(images, texts)  # type: ignore
    kept, _ = SampledSlates(second, SAMPLES, 3, cache)(cases, 0)
    assert not passes
    for one, other, fresh in zip(made, kept, plain, strict=True):
        np.testing.assert_array_equal(one.masks, other.masks)
        np.testing.assert_array_equal(one.masks, fresh.masks)
        assert one.candidates == other.candidates == fresh.candidates
    # Another seed, other settings, fewer cases and other weights have samples of their own; later
    # rounds are of another policy.
    fewer = replace(SAMPLES, count=3)
    for draws, (proposals, seed, few, number) in enumerate(
        [(SAMPLES, 4, cases, 0), (fewer, 3, cases, 0), (SAMPLES, 3, cases[:3], 0)]
        + [(SAMPLES, 3, cases, 1)] * 2,
        start=1,
    ):
        SampledSlates(second, proposals, seed, cache)(few, number)
        assert len(passes) == draws
    with torch.no_grad():
        next(second.network.parameters()).add_(1e-3)
    SampledSlates(second, SAMPLES, 3, cache)(cases, 0)
    assert len(passes) == 6


def test_what_does_not_suit_a_diffusion_model_is_said(base: Path, tmp_path: Path) -> None:
    for number, changes in enumerate(
        ({"view": StrongAugmentation()}, {"proposals": SlateProposals(4)},
         {"refresh": 1, "reference": "round"})
    ):  # fmt: skip
        with pytest.raises(SegprefError, match="aligned on its own samples"):
            run(tmp_path / str(number), base, **changes)
    with pytest.raises(SegprefError, match="no logits"):
        run(tmp_path / "labels", base, signal=PseudoLabelSignal(SPACE))
    with pytest.raises(SegprefError, match="use `segpref sample`"):
        load_model(base)


def test_samples_are_no_candidates_of_a_segmenter(
    heart_base: Path, hearts: Dataset, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    folder.open({}, resume=False)
    pool = hearts.of_patients(hearts.patients[4:6])
    validation = hearts.of_patients(hearts.patients[8:])
    judge = RatersJudge(hearts.label_space)
    signal = PreferenceSignal(hearts.label_space)
    with pytest.raises(SegprefError, match="only a diffusion model"):
        align(heart_base, pool, validation, judge, signal, folder, proposals=SAMPLES)
