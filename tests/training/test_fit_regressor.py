from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from safetensors.torch import load_file

from segpref.data import Dataset
from segpref.judges import NamedJudge, OracleJudge, RegressorJudge
from segpref.metrics import iou, overlap_counts
from segpref.policies import Segmenter, load_model, read_card
from segpref.proposals import SlateProposals
from segpref.studies import scored_slates
from segpref.training import RunFolder, fit_regressor, load_regressor
from segpref.training.tasks.regressor import _ScoredMasks
from segpref.types import IGNORE, SegprefError

TEACHERS = slice(2, 6)
VALIDATION = slice(8, 12)


def run(folder: Path, base: Path, hearts: Dataset, **options: Any) -> RunFolder:
    target = RunFolder(folder)
    target.open({"test": 1}, resume=options.pop("resume", False))
    patients = hearts.patients
    settings: dict[str, Any] = {
        "proposals": SlateProposals(8), "candidates": 3, "width": 4, "epochs": 2,
        "images_per_epoch": 8, "seed": 5, **options,
    }  # fmt: skip
    teachers = settings.pop("teachers", hearts.of_patients(patients[TEACHERS]))
    fit_regressor(base, teachers, hearts.of_patients(patients[VALIDATION]), target, **settings)
    return target


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, heart_base: Path, hearts: Dataset
) -> RunFolder:
    return run(tmp_path_factory.mktemp("regressor") / "run", heart_base, hearts)


def test_what_a_run_leaves(finished: RunFolder, heart_base: Path, hearts: Dataset) -> None:
    summary = finished.read_summary()
    assert summary["kind"] == "regressor"
    assert summary["labelled_patients"] == list(hearts.patients[TEACHERS])
    rows = finished.read_metrics()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    best = max(rows[1:], key=lambda row: row["val_iou"])
    for name in ("val_iou", "val_kendall", "val_error"):
        assert summary[name] == pytest.approx(best[name])
    card, base = read_card(finished.path), read_card(heart_base)
    assert (card.label_space, card.preparation) == (base.label_space, base.preparation)
    assert card.labelled == hearts.patients[TEACHERS]
    assert finished.best.exists()


def test_validation_is_the_true_iou_of_its_favourites(
    finished: RunFolder, heart_base: Path, hearts: Dataset
) -> None:
    judge = load_regressor(finished.last)
    policy, _ = load_model(heart_base)
    part = hearts.of_patients(hearts.patients[VALIDATION])
    slates = list(scored_slates(policy, part, judge, SlateProposals(8), seed=0, batch_size=1))
    oracle = OracleJudge(hearts.label_space)
    reached = [oracle.score(one.case, one.slate)[one.scores[:, 0].argmax(), 0] for one in slates]
    # Other slates than those of the run, of the same policy.
    assert np.mean(reached) == pytest.approx(finished.read_metrics()[-1]["val_iou"], abs=0.1)


def test_the_judge_from_its_file(finished: RunFolder, hearts: Dataset) -> None:
    judge = load_regressor(finished.path, batch_size=2)
    assert isinstance(judge, RegressorJudge)
    assert judge.labelled == hearts.patients[TEACHERS]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--judge", type=NamedJudge)
    text = (
        "judge: {class_path: segpref.training.tasks.regressor.load_regressor, "
        f"init_args: {{path: {finished.path}}}}}"
    )
    named = parser.instantiate_classes(parser.parse_string(text)).judge
    case = hearts[5]
    masks = np.stack([case.label, np.roll(case.label, 4, -1), 0 * case.label])
    first, second = judge.predicted_iou(case, masks), named.predicted_iou(case, masks)
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert first.shape == (3, 3)
    assert ((first > 0) & (first < 1)).all()


def test_only_regressors_are_regressors(finished: RunFolder, heart_base: Path) -> None:
    with pytest.raises(SegprefError, match="no IoU regressor"):
        load_regressor(heart_base)


class Killed(Exception):
    pass


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(
    finished: RunFolder, heart_base: Path, hearts: Dataset, tmp_path: Path
) -> None:
    class Mortal(SlateProposals):
        """Stops in the second step of the second epoch (16 slates are for validation)."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == validation + 4:
                raise Killed
            return super().__call__(*args, **kwargs)

    validation = len(hearts.of_patients(hearts.patients[VALIDATION]))
    with pytest.raises(Killed):
        run(tmp_path / "run", heart_base, hearts, proposals=Mortal(8), checkpoint_seconds=0)
    resumed = run(tmp_path / "run", heart_base, hearts, resume=True)
    whole, parts = load_file(finished.last), load_file(resumed.last)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert resumed.metrics.read_text() == finished.metrics.read_text()
    # A finished run is not touched again.
    before = resumed.last.stat().st_mtime_ns
    run(tmp_path / "run", heart_base, hearts, resume=True)
    assert resumed.last.stat().st_mtime_ns == before


def test_lessons_are_true(heart_base: Path, hearts: Dataset) -> None:
    policy, _ = load_model(heart_base)
    examples = _ScoredMasks(policy, hearts, SlateProposals(8), 3, None, seed=0)
    inputs, target, known = examples([4, 9], key=7)
    assert inputs.shape == (8, 1 + 3, 32, 32)
    assert target.shape == known.shape == (8, 3)
    assert (known == 1).all()
    for first, index in ((0, 4), (4, 9)):
        case = hearts[index]
        np.testing.assert_array_equal(inputs[first, 0], case.image[0])
        # The truth comes first and is perfect.
        assert (target[first] == 1).all()
        for row in range(first, first + 4):
            labels = sum((n + 1) * inputs[row, 1 + n].numpy() for n in range(3))[None]
            counts = overlap_counts(labels[None].astype(np.uint8), case.label, hearts.label_space)
            np.testing.assert_allclose(target[row], iou(counts)[0], rtol=1e-6)
    again = examples([4, 9], key=7)
    assert all(torch.equal(a, b) for a, b in zip((inputs, target, known), again, strict=True))
    assert not torch.equal(inputs, examples([4, 9], key=8)[0])


def test_structures_that_nobody_labelled_teach_nothing(chests: Dataset, tiny_unet: Any) -> None:
    space = chests.label_space
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = Segmenter(tiny_unet(space.channels).build(), space)
    labels = [np.array(volume.labels) for volume in chests.volumes]
    labels[0][:, 1] = IGNORE
    labels[0][:, 0, :, :5] = IGNORE
    volumes = [replace(v, labels=one) for v, one in zip(chests.volumes, labels, strict=True)]
    part = Dataset(volumes, space)
    inputs, _, known = _ScoredMasks(policy, part, SlateProposals(4), 2, None, 0)([0], key=1)
    expected = [float(number != 1) for number in range(len(space.structures))]
    np.testing.assert_array_equal(known, [expected] * 3)
    assert not inputs[0, 2].any()


def test_mistakes(heart_base: Path, hearts: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="labelled cases to learn from"):
        run(tmp_path / "a", heart_base, hearts, teachers=hearts.without_labels())
    with pytest.raises(SegprefError, match="the validation set"):
        run(tmp_path / "b", heart_base, hearts, teachers=hearts)


@pytest.mark.slow
def test_it_learns_to_rank(heart_base: Path, hearts: Dataset, tmp_path: Path) -> None:
    target = run(
        tmp_path / "run", heart_base, hearts, teachers=hearts.of_patients(hearts.patients[:8]),
        epochs=12, images_per_epoch=32, width=8, candidates=6, learning_rate=3e-3,
    )  # fmt: skip
    rows = target.read_metrics()
    assert rows[-1]["val_kendall"] > 0.05
    assert rows[-1]["val_error"] < 0.5 * rows[0]["val_error"]
    assert rows[-1]["train_loss"] < rows[1]["train_loss"]


def test_a_regressor_is_not_compiled(heart_base: Path, hearts: Dataset, tmp_path: Path) -> None:
    # It sees candidates, never a batch of images, so that nothing would ever be compiled.
    with pytest.raises(SegprefError, match="compile is for segmenters, not for a regressor"):
        run(tmp_path / "run", heart_base, hearts, compile=True)
