"""Logits in fewer bits: what comes back, and how far margins may be off."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segpref.data import LogitFormat, largest_error, packed_logits, unpacked_logits
from segpref.objectives import Reduction, disagreement, log_ratio_sums, reduce_margin
from segpref.types import Candidate, LabelSpace, Pairs, SegprefError, Slate

KINDS = get_args(LogitFormat)
SPACES = (
    LabelSpace("multi-class", ("background", "a", "b")),
    LabelSpace("multi-label", ("a", "b", "c")),
)


def test_worked_by_hand() -> None:
    # 0 to 51 in 255 steps of 0.2: 10.25 is nearest to code 51, 10.2.
    logits = np.array([[[0.0, 10.25, 51.0]]], np.float32)
    kept = packed_logits(logits, "uint8")
    assert kept["logits"].tolist() == [[[0, 51, 255]]]
    assert kept["step"].item() == pytest.approx(0.2)
    np.testing.assert_allclose(unpacked_logits(kept, 0, "uint8"), [[0, 10.2, 51]], rtol=1e-6)
    # Half precision has 11 significant bits: 2049 lies between 2048 and 2050, and goes to the even one.
    halves = packed_logits(np.array([[[2049.0, -0.1]]], np.float32), "float16")
    assert unpacked_logits(halves, 0, "float16")[0, 0] == 2048
    assert largest_error(np.array([[[2049.0]]]), "float16") == pytest.approx(2049 / 2048)
    assert largest_error(logits, "uint8") == pytest.approx(0.1, rel=1e-3)


@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-8, 1e-3, 1.0, 30.0, 5e3]),
    shift=st.sampled_from([0.0, 1.0, -5.0]),
    space=st.sampled_from(SPACES),
    kind=st.sampled_from(KINDS),
    reduction=st.sampled_from(["image", "region", ("power", 0.3)]),
)
def test_margins_stay_within_the_bound(
    seed: int,
    scale: float,
    shift: float,
    space: LabelSpace,
    kind: LogitFormat,
    reduction: Reduction,
) -> None:
    rng = np.random.default_rng(seed)
    logits = (scale * (rng.normal(size=(1, space.channels, 6, 5)) + shift)).astype(np.float32)
    back = unpacked_logits(packed_logits(logits, kind), 0, kind)
    bound = largest_error(logits, kind)
    assert back.dtype == np.float32
    assert np.abs(back - logits[0].astype(np.float64)).max() <= bound
    masks = rng.integers(0, space.values, (3, space.fields, 6, 5)).astype(np.uint8)
    slate = Slate(masks, tuple(Candidate(str(place)) for place in range(3)))
    ones = np.ones(2, np.int64)
    pairs = Pairs(0 * ones, 0 * ones, ones, np.array([0, 2]), ones.astype(float))
    region = disagreement([slate], pairs, space)

    def margins(values: np.ndarray) -> np.ndarray:
        sums = log_ratio_sums(torch.from_numpy(values.astype(np.float64))[None], region)
        return reduce_margin(sums, region, reduction).numpy()

    off = np.abs(margins(back) - margins(logits[0]))
    assert (off <= 2 * bound * (1 + 1e-12)).all()
    if space.kind == "multi-label":
        assert (off <= bound * (1 + 1e-12)).all()
    if kind == "float32":
        assert not off.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_that_is_the_same_everywhere_comes_back(kind: LogitFormat) -> None:
    logits = np.full((2, 3, 4, 4), 7.0, np.float32)
    np.testing.assert_array_equal(unpacked_logits(packed_logits(logits, kind), 1, kind), logits[1])


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "float16"), (np.inf, "uint8"), (7e4, "float16")]
)
def test_what_fewer_bits_cannot_hold_is_refused(value: float, kind: LogitFormat) -> None:
    logits = np.array([[[0.0, value]]], np.float32)
    with pytest.raises(SegprefError, match="set reference_logits to float32 or recomputed"):
        packed_logits(logits, kind)
