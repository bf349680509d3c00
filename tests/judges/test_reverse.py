from __future__ import annotations

import numpy as np
import pytest
from small_cases import CLASSES, LABELS, dataset, slate

from segpref.contrib.judges import ReverseClassificationJudge
from segpref.data import Dataset
from segpref.judges import note_undrawn_structures
from segpref.metrics import slate_iou
from segpref.types import IGNORE, Judge, LabelSpace, SegprefError

BINARY = LabelSpace("multi-label", ("a",))


def discs(count: int, shape: tuple[int, ...], space: LabelSpace, seed: int = 0) -> Dataset:
    """Bright discs (and, in two structures, a grey shell around them) on a noisy ground."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(count):
        centre = [rng.uniform(0.4, 0.6) * n for n in shape]
        grid = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
        away = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
        inner, outer = away < 0.18 * shape[0], away < 0.32 * shape[0]
        image = 1.0 * inner + 1.0 * outer + 0.1 * rng.standard_normal(shape)
        images.append(100 * image[None] + rng.uniform(0, 500))
        if space.kind == "multi-class":
            labels.append((1 * outer + 1 * inner)[None])
        else:
            labels.append(np.stack([inner, outer])[: space.fields])
    return dataset(images, space, labels)


@pytest.mark.parametrize("space", [CLASSES, LABELS, BINARY])
@pytest.mark.parametrize("shape", [(40, 40), (20, 20, 12)])
@pytest.mark.parametrize("over", ["best", "mean"])
def test_the_truth_teaches_best(space: LabelSpace, shape: tuple[int, ...], over: str) -> None:
    data = discs(5, shape, space)
    judge = ReverseClassificationJudge(data, data.patients[1:], over=over)  # type: ignore[arg-type]
    assert isinstance(judge, Judge)
    assert not judge.needs_label
    assert judge.labelled == data.patients[1:]
    case = data[0]
    truth = case.label
    moved = [np.roll(truth, step, axis=1) for step in (5, 7)]
    scores = judge.score(case, slate(truth, *moved, 0 * truth))
    assert (scores[0] > 0.75).all()
    assert (np.diff(scores[:3], axis=0) < -0.05).all()
    assert (scores[-1] == 0).all()
    # Labels of the case itself play no part, and neither does the order of the candidates.
    again = judge.score(data.without_labels()[0], slate(0 * truth, *moved[::-1], truth))
    np.testing.assert_allclose(again[::-1], scores, atol=1e-3)


def test_all_classifiers_at_once_are_the_same_as_one_by_one() -> None:
    data = discs(4, (24, 24), CLASSES)
    judge = ReverseClassificationJudge(data, data.patients[1:], pixels=10_000, features=20)
    rng = np.random.default_rng(0)
    truth = data[0].label
    masks = np.stack(
        [truth, np.roll(truth, 3, 1), rng.permutation(truth.ravel()).reshape(truth.shape)]
    )
    features = judge._describe(data[0].image).astype(float)
    assert features.shape == (576, 21)
    ridge = judge.ridge * np.mean(np.sum(features**2, axis=0))
    expected = np.zeros((3, 2))
    for k, structure in np.ndindex(3, 2):
        target = (masks[k].ravel() == structure + 1).astype(float)
        weights = np.linalg.solve(features.T @ features + ridge * np.eye(21), features.T @ target)
        level = np.sort(features @ weights)[-int(target.sum())]
        reached = []
        for one in list(data)[1:]:
            said = judge._describe(one.image).astype(float) @ weights >= level - 1e-7
            truth_there = one.label.ravel() == structure + 1
            reached.append((said & truth_there).sum() / (said | truth_there).sum())
        expected[k, structure] = max(reached)
    found = judge.score(data[0], slate(*masks))
    np.testing.assert_allclose(found[:, 0], expected.mean(1), atol=0.02)


def test_who_may_be_a_reference() -> None:
    data = discs(6, (24, 24), BINARY)
    truth = data[0].label
    everybody = ReverseClassificationJudge(data, cases=6)
    others = ReverseClassificationJudge(data, data.patients[1:], cases=5)
    wanted = slate(truth, np.roll(truth, 4, 1))
    # The case's own label would make it easy.
    np.testing.assert_array_equal(everybody.score(data[0], wanted), others.score(data[0], wanted))
    alone = ReverseClassificationJudge(data, data.patients[:1])
    assert np.isnan(alone.score(data[0], wanted)).all()
    assert ReverseClassificationJudge(data, cases=3).labelled == ("p00", "p02", "p05")
    with pytest.raises(SegprefError, match="none has one"):
        ReverseClassificationJudge(data.without_labels())


def test_structures_that_nobody_or_no_reference_holds() -> None:
    data = discs(3, (24, 24), LABELS)
    labels = [np.stack([one.label[0], 0 * one.label[1]]) for one in data]
    only_a = dataset([one.image for one in data], LABELS, labels)
    judge = ReverseClassificationJudge(only_a, only_a.patients[1:])
    truth, nothing = data[0].label, 0 * data[0].label
    assert np.isnan(judge.score(only_a[0], slate(nothing, nothing))).all()
    scores = judge.score(only_a[0], slate(truth, nothing))
    assert scores[0, 0] > 0.7
    assert scores[1, 0] == 0
    assert np.isnan(scores[:, 1]).all()
    assert note_undrawn_structures(judge, data) == ("b",)
    assert note_undrawn_structures(ReverseClassificationJudge(data), only_a) == ()

    classes = discs(3, (24, 24), CLASSES)
    no_b = [np.minimum(one.label, 1) for one in classes]
    part = dataset([one.image for one in classes], CLASSES, no_b)
    judge = ReverseClassificationJudge(part, part.patients[1:])
    both, only_b = classes[0].label, 2 * (classes[0].label == 2)
    # Class b can't be judged: class a alone counts, and where b is all that is held, nothing.
    alone = judge.score(part[0], slate(np.where(both == 1, 1, 0), 0 * both))
    np.testing.assert_allclose(judge.score(part[0], slate(both, only_b)), alone, atol=1e-6)
    assert np.isnan(judge.score(part[0], slate(only_b, 0 * both))).all()
    assert np.isnan(judge.score(part[0], slate(0 * both, 0 * both))).all()


def test_unlabelled_pixels_of_references_do_not_count() -> None:
    data = discs(2, (24, 24), BINARY)
    hidden = data[1].label.copy()
    hidden[0, :, 12:] = IGNORE
    part = dataset([one.image for one in data], BINARY, [data[0].label, hidden])
    judge = ReverseClassificationJudge(part, part.patients[1:])
    all_of_it = np.ones_like(hidden)
    score = judge.score(part[0], slate(all_of_it, 0 * all_of_it))[0, 0]
    # The level that all of its own pixels reach is missed by hardly any other one.
    assert score == pytest.approx(slate_iou(all_of_it[None], hidden, BINARY)[0, 0], abs=2e-3)


def test_images_are_looked_at_on_a_grid() -> None:
    data = discs(3, (60, 60), BINARY)
    coarse = ReverseClassificationJudge(data, data.patients[1:], pixels=400)
    assert len(coarse._describe(data[0].image)) == 400
    truth = data[0].label
    scores = coarse.score(data[0], slate(truth, np.roll(truth, 15, 1)))
    assert scores[0] > 0.7 > scores[1]


@pytest.mark.parametrize("wrong", [{"cases": 0}, {"pixels": 0}, {"features": 0}, {"ridge": 0.0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(SegprefError, match=r"at least 1|above 0"):
        ReverseClassificationJudge(discs(1, (8, 8), BINARY), **wrong)  # type: ignore[arg-type]
    with pytest.raises(SegprefError, match="not 'median'"):
        ReverseClassificationJudge(discs(1, (8, 8), BINARY), over="median")  # type: ignore[arg-type]
