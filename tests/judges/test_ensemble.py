"""Judges that compare candidates with several predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_cases import CLASSES, Fixed, dataset, noise_slate, says, slate
from torch import Tensor

from segpref.contrib.judges import ConsistencyJudge
from segpref.data import Cache
from segpref.judges import EnsembleJudge, ModelJudge
from segpref.types import Judge, LabelSpace, SegprefError

ROW = [[[1, 1, 1, 1, 0, 0, 0, 0]]]
HALF = [[[1, 1, 0, 0, 0, 0, 0, 0]]]
NONE = [[[0] * 8]]
BINARY = LabelSpace("multi-label", ("a",))


def test_equation_14_by_hand(tmp_path: Path) -> None:
    data = dataset([np.zeros((1, 1, 8))], BINARY)
    members = [says(BINARY, mask, str(n)) for n, mask in enumerate((ROW, HALF, NONE))]
    judge = EnsembleJudge(members, cache=Cache(tmp_path))
    judge.prepare(data)
    assert isinstance(judge, Judge)
    assert not judge.needs_label
    scores = judge.score(data[0], slate(ROW, HALF, NONE))
    # ROW: 1, 1/2, 0. HALF: 1/2, 1, 0. NONE: 0, 0, and 1 for empty against empty.
    np.testing.assert_allclose(scores[:, 0], [0.5, 0.5, 1 / 3])
    spread = judge.uncertainty(data[0], slate(ROW, HALF, NONE))
    np.testing.assert_allclose(spread[:, 0], [0.5, 0.5, (1 / 3) ** 0.5])
    # Pairs of members: 1/2, 0 and 0.
    np.testing.assert_allclose(judge.disagreement(data[0]), [1 - 1 / 6])


def test_a_class_counts_for_a_member_who_holds_it(tmp_path: Path) -> None:
    data = dataset([np.zeros((1, 1, 4))], CLASSES)
    both, only_a = [[[1, 1, 2, 2]]], [[[1, 1, 0, 0]]]
    judge = EnsembleJudge(
        [says(CLASSES, both, "both"), says(CLASSES, only_a, "a")], cache=Cache(tmp_path)
    )
    judge.prepare(data)
    scores = judge.score(data[0], slate(only_a, [[[1, 0, 0, 0]]]))
    # First member: b is missed, (1 + 0) / 2 and (1/2 + 0) / 2. Second: a alone, 1 and 1/2.
    np.testing.assert_allclose(scores[:, 0], [(0.5 + 1) / 2, (0.25 + 0.5) / 2])


def test_an_ensemble_is_the_mean_of_model_judges(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for shape in ((7, 5), (4, 5, 3)):
        data = dataset([np.zeros((1, *shape))], CLASSES)
        members = [
            Fixed(CLASSES, rng.standard_normal((3, *shape)), f"{n} {shape}") for n in range(5)
        ]
        cache = Cache(tmp_path)
        judge, models = EnsembleJudge(members, cache=cache), [ModelJudge(m, cache) for m in members]
        for one in (judge, *models):
            one.prepare(data)
        candidates = noise_slate(rng, CLASSES, shape, 6)
        mean = np.mean([model.score(data[0], candidates) for model in models], axis=0)
        np.testing.assert_allclose(judge.score(data[0], candidates), mean)


def test_abstaining_is_per_field(tmp_path: Path) -> None:
    space = LabelSpace("multi-label", ("sure", "unsure"))
    first, second = [*ROW, *ROW], [*ROW, *HALF]
    data = dataset([np.zeros((1, 1, 8))], space)
    members = [says(space, first, "first"), says(space, second, "second")]
    for limit, silent in ((0.4, True), (0.6, False), (None, False)):
        judge = EnsembleJudge(members, limit, Cache(tmp_path))
        judge.prepare(data)
        scores = judge.score(data[0], slate(first, second))
        np.testing.assert_allclose(judge.disagreement(data[0]), [0, 0.5])
        np.testing.assert_array_equal(np.isnan(scores), [[False, silent]] * 2)


def test_ensembles_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="one label space"):
        EnsembleJudge([], cache=Cache(tmp_path))
    mixed = [says(BINARY, ROW, "a"), says(CLASSES, ROW, "b")]
    with pytest.raises(SegprefError, match="same labels"):
        EnsembleJudge(mixed, cache=Cache(tmp_path))


class LeftEdge:
    """Holds what is brighter than its left neighbour; the first column is never held."""

    label_space = BINARY

    def logits(self, images: Tensor) -> Tensor:
        rise = torch.diff(images, dim=-1, prepend=images[..., :1])
        return rise - 0.5

    def digest(self) -> str:
        return "left edge"


class Bright:
    """Holds what is brighter than a level."""

    label_space = BINARY

    def __init__(self, level: float) -> None:
        self.level = level

    def logits(self, images: Tensor) -> Tensor:
        return 10 * (images - self.level)

    def digest(self) -> str:
        return f"bright {self.level}"


def test_flipped_views_are_flipped_back(tmp_path: Path) -> None:
    image = np.array([[[0, 0, 1, 1, 0, 0]]])
    rises, falls = [[[0, 0, 1, 0, 0, 0]]], [[[0, 0, 0, 1, 0, 0]]]
    data = dataset([image], BINARY)
    judge = ConsistencyJudge(LeftEdge(), flips=[1], gammas=[], cache=Cache(tmp_path))
    judge.prepare(data)
    both = [[[0, 0, 1, 1, 0, 0]]]
    scores = judge.score(data[0], slate(rises, falls, both, 0 * image))
    np.testing.assert_allclose(scores[:, 0], [0.5, 0.5, 0.5, 0])


def test_gamma_acts_on_the_range_of_the_image(tmp_path: Path) -> None:
    # Scaled to 0 ... 1 the pixels are 0, .25, .5, 1; squared 0, .0625, .25, 1.
    image = 100 + 8 * np.array([[[0, 0.25, 0.5, 1]]])
    data = dataset([image], BINARY)
    judge = ConsistencyJudge(Bright(103.0), gammas=[2.0], cache=Cache(tmp_path))
    judge.prepare(data)
    scores = judge.score(data[0], slate([[[0, 0, 1, 1]]], [[[0, 0, 0, 1]]]))
    # Seen as it is: the last two are above 103. With gamma 2 only the last one is.
    np.testing.assert_allclose(scores[:, 0], [(1 + 0.5) / 2, (0.5 + 1) / 2])


@pytest.mark.parametrize("space", [CLASSES, LabelSpace("multi-label", ("a", "b", "c"))])
def test_against_the_mean_probability(tmp_path: Path, space: LabelSpace) -> None:
    rng = np.random.default_rng(1)

    class Patterned(Fixed):
        def logits(self, images: Tensor) -> Tensor:
            return self.answer * images

    image = rng.uniform(0, 2, (1, 6, 6)).astype(np.float32)
    network = Patterned(space, 3 * rng.standard_normal((3, 6, 6)))
    data = dataset([image], space)
    judge = ConsistencyJudge(network, [0, 1], [0.5], against="mean", cache=Cache(tmp_path))
    judge.prepare(data)
    z = network.answer.numpy().astype(float)
    low, high = image.min(), image.max()
    gamma = low + (high - low) * ((image - low) / (high - low)) ** 0.5
    # Flipping image and prediction back and forth flips the fixed pattern.
    views = [z * image, z[:, ::-1] * image, z[:, :, ::-1] * image, z * gamma]
    if space.kind == "multi-class":
        p = np.mean([np.exp(v) / np.exp(v).sum(0) for v in views], axis=0)
        own = p.argmax(0)[None]
    else:
        own = np.mean([1 / (1 + np.exp(-v)) for v in views], axis=0) > 0.5
    scores = judge.score(data[0], slate(own, np.roll(own, 1, -1)))
    assert scores[0] == pytest.approx(1)
    assert (scores[1] < 1).all()


def test_views_that_disagree_and_mistakes(tmp_path: Path) -> None:
    data = dataset([np.array([[[0, 0, 1, 1, 0, 0]]])], BINARY)
    judge = ConsistencyJudge(LeftEdge(), [1], [], max_disagreement=0.9, cache=Cache(tmp_path))
    judge.prepare(data)
    assert np.isnan(judge.score(data[0], slate([[[0] * 6]], [[[1] * 6]]))).all()
    with pytest.raises(SegprefError, match="at least one flip or gamma"):
        ConsistencyJudge(LeftEdge(), gammas=[])
    with pytest.raises(SegprefError, match="above 0"):
        ConsistencyJudge(LeftEdge(), gammas=[0.0])
    with pytest.raises(SegprefError, match="against: views"):
        ConsistencyJudge(LeftEdge(), against="mean", max_disagreement=0.5)
    with pytest.raises(SegprefError, match="can't flip axis 2"):
        ConsistencyJudge(LeftEdge(), [2], cache=Cache(tmp_path / "other")).prepare(data)


def test_the_unchanged_view_shares_the_cache(tmp_path: Path) -> None:
    data = dataset([np.array([[[0, 0, 1, 1, 0, 0]]])], BINARY)
    cache = Cache(tmp_path)
    ModelJudge(LeftEdge(), cache).prepare(data)

    class Refuses(LeftEdge):
        def logits(self, images: Tensor) -> Tensor:
            raise AssertionError("predicted again")

    EnsembleJudge([Refuses()], cache=cache).prepare(data)
    with pytest.raises(AssertionError, match="again"):
        ConsistencyJudge(Refuses(), [1], cache=cache).prepare(data)
