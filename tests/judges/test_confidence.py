from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cases import CLASSES, LABELS, Fixed, dataset, noise_slate, slate
from torch.nn import functional

from segpref.contrib.judges import ConfidenceJudge
from segpref.contrib.judges.confidence import _BLOCK, _weighted
from segpref.data import Cache
from segpref.types import LabelSpace, Region, SegprefError

BINARY = LabelSpace("multi-label", ("a",))
NESTED = LabelSpace(
    "multi-class", ("background", "a", "b"), (Region("whole", (1, 2)), Region("core", (2,)))
)


def logit(p: object) -> np.ndarray:
    p = np.asarray(p, float)
    return np.log(p / (1 - p))


def ready(space: LabelSpace, logits: object, where: Path, **options: str) -> tuple:
    array = np.asarray(logits)
    data = dataset([np.zeros((1, *array.shape[1:]))], space)
    judge = ConfidenceJudge(Fixed(space, array), cache=Cache(where), **options)  # type: ignore[arg-type]
    judge.prepare(data)
    return judge, data[0]


def test_regions_by_hand(tmp_path: Path) -> None:
    p = [[[0.9, 0.8, 0.6, 0.3, 0.2, 0.1]]]  # the judge's own mask is the first three
    two, four, none = [[[1, 1, 0, 0, 0, 0]]], [[[1, 1, 1, 1, 0, 0]]], [[[0] * 6]]
    expected = {
        # .9 .8 and 1 minus .6 .3 .2 .1; .9 .8 .6 .3 and .8 .9; 1 minus all.
        "image": [(1.7 + 0.4 + 0.7 + 0.8 + 0.9) / 6, (2.6 + 1.7) / 6, 3.1 / 6],
        # Over three pixels (own), four, and own again.
        "foreground": [(1.7 + 0.4) / 3, 2.6 / 4, (0.1 + 0.2 + 0.4) / 3],
        # On either side of the contour: .8 | .4, .3 | .8, and the own contour .4 | .7 for the empty.
        "boundary": [(0.8 + 0.4) / 2, (0.3 + 0.8) / 2, (0.4 + 0.7) / 2],
    }
    for over, values in expected.items():
        judge, case = ready(BINARY, logit(p), tmp_path, over=over)
        scores = judge.score(case, slate(two, four, none))
        np.testing.assert_allclose(scores[:, 0], values, rtol=1e-6)


def test_logarithms_over_the_image_are_the_likelihood(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((2, 5, 6, 3)).astype(np.float32)
    judge, case = ready(LABELS, logits, tmp_path, over="image", of="log-likelihood")
    candidates = noise_slate(rng, LABELS, (5, 6, 3), 4)
    z = torch.from_numpy(logits).expand(4, *logits.shape)
    truth = torch.from_numpy(candidates.masks).float()
    each = -functional.binary_cross_entropy_with_logits(z, truth, reduction="none")
    expected = each.flatten(2).mean(-1)
    np.testing.assert_allclose(judge.score(case, candidates), expected, rtol=1e-5)


@pytest.mark.parametrize("space", [CLASSES, NESTED, LABELS])
@pytest.mark.parametrize("over", ["image", "foreground", "boundary"])
@pytest.mark.parametrize("of", ["probability", "log-likelihood"])
def test_pixel_by_pixel(tmp_path: Path, space: LabelSpace, over: str, of: str) -> None:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((space.channels, 4, 5)).astype(np.float32)
    candidates = noise_slate(rng, space, (4, 5), 3)
    candidates.masks[1] = 0
    judge, case = ready(space, logits, tmp_path, over=over, of=of)
    z = torch.from_numpy(logits).double()
    if space.kind == "multi-label":
        p = torch.sigmoid(z).numpy()
    else:
        each = functional.softmax(z, dim=0).numpy()
        groups = [r.values for r in space.regions] or [(1,), (2,)]
        p = np.stack([each[list(group)].sum(0) for group in groups])
    expected = np.zeros((3, len(p)))
    for k, s in product(range(3), range(len(p))):
        mask = space.structure_masks(candidates.masks[k])[s]
        if over == "image":
            region = np.ones_like(mask)
        elif over == "foreground":
            region = mask | (p[s] > 0.5)
        else:
            region = contour(mask) if contour(mask).any() else contour(p[s] > 0.5)
        values = np.where(mask, p[s], 1 - p[s])[region]
        values = np.log(values) if of == "log-likelihood" else values
        expected[k, s] = values.mean() if region.any() else float(of == "probability")
    if space.kind == "multi-class":
        expected = expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(judge.score(case, candidates), expected, rtol=1e-5)


def contour(mask: np.ndarray) -> np.ndarray:
    found = np.zeros_like(mask)
    for i, j in np.ndindex(mask.shape):
        for y, x in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]:
                found[i, j] |= mask[i, j] != mask[y, x]
    return found


@pytest.mark.parametrize("of", ["probability", "log-likelihood"])
@pytest.mark.parametrize("over", ["image", "foreground"])
def test_its_own_mask_is_its_favourite(tmp_path: Path, over: str, of: str) -> None:
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((1, 6, 6))
    own = logits > 0
    flipped = [own ^ (np.arange(36).reshape(own.shape) == pixel) for pixel in range(36)]
    judge, case = ready(BINARY, logits, tmp_path, over=over, of=of)
    scores = judge.score(case, slate(own, *flipped))[:, 0]
    assert scores[0] > scores[1:].max()


def test_what_nobody_holds(tmp_path: Path) -> None:
    nothing = np.zeros((1, 3, 3))
    for of, certain in (("probability", 1.0), ("log-likelihood", 0.0)):
        logits = np.stack([np.full((3, 3), 4.0), np.zeros((3, 3)), np.full((3, 3), -1.0)])
        judge, case = ready(CLASSES, logits, tmp_path, of=of)
        assert (judge.score(case, slate(nothing, nothing)) == certain).all()
        # Class b is nowhere, so only a counts: on its pixel, where p is below 1/2.
        one = nothing.copy()
        one[0, 0, 0] = 1
        p = np.exp(0) / np.exp([4.0, 0.0, -1.0]).sum()
        expected = p if of == "probability" else np.log(p)
        np.testing.assert_allclose(
            judge.score(case, slate(one, nothing))[:, 0], [expected, certain], atol=1e-6
        )


def test_blocks_add_up() -> None:
    rng = np.random.default_rng(4)
    chosen = rng.random((3, 2 * _BLOCK + 77)) < 0.5
    weights = rng.random(chosen.shape[1]).astype(np.float32)
    expected = np.where(chosen, weights.astype(float), 0).sum(axis=1)
    np.testing.assert_allclose(_weighted(chosen, weights), expected, rtol=1e-5)


def test_unknown_settings() -> None:
    network = Fixed(BINARY, np.zeros((1, 2, 2)))
    with pytest.raises(SegprefError, match="not 'prediction'"):
        ConfidenceJudge(network, over="prediction")  # type: ignore[arg-type]
    with pytest.raises(SegprefError, match="not 'entropy'"):
        ConfidenceJudge(network, of="entropy")  # type: ignore[arg-type]
