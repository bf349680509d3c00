"""Masks of dropout: the rate that is asked for, numbers by themselves, images by their seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from segpref.networks import SeededDropout, keyed_dropout
from segpref.networks import dropout_places as places


def dropped(features: torch.Tensor, rate: float, seeds: tuple[int, ...] = (3,)) -> np.ndarray:
    """Which numbers of ones the layer sets to 0."""
    layer = nn.Dropout(rate).train()
    with keyed_dropout(places(layer), SeededDropout(seeds)):
        return (layer(torch.ones_like(features)) == 0).numpy()


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9])
def test_each_number_is_dropped_by_itself_at_the_rate(rate: float) -> None:
    gone = dropped(torch.empty(1, 400_003), rate).ravel()
    for part in range(4):  # four numbers share a draw
        own = gone[part::4]
        assert stats.binomtest(int(own.sum()), own.size, rate).pvalue > 1e-4
    for step in range(1, 9):
        table = np.histogram2d(gone[:-step], gone[step:], bins=2)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-4


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(kind: torch.dtype) -> None:
    layer = nn.Dropout(0.2).train()
    with keyed_dropout(places(layer), SeededDropout((5,))):
        out = layer(torch.ones(1, 1000, dtype=kind))
    assert out.dtype == kind
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.8, dtype=kind))}


@pytest.mark.parametrize("rate", [0.0, 1e-7])
def test_rates_that_round_to_nothing_drop_nothing(rate: float) -> None:
    assert not dropped(torch.empty(1, 5001), rate).any()


def test_a_layer_that_drops_all_but_a_millionth_drops_all() -> None:
    assert dropped(torch.empty(1, 5001), 1 - 1e-7).all()


def test_an_image_has_its_masks_in_any_batch() -> None:
    features = torch.empty(3, 7, 5)
    together = dropped(features, 0.5, (1, 2, 3))
    for place, seed in enumerate((1, 2, 3)):
        assert np.array_equal(together[place], dropped(features[:1], 0.5, (seed,))[0])
    assert not np.array_equal(together[0], together[1])
