"""Several margins under one loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_margins import of

from segpref.objectives import DPO, grouped, update_strength


def test_four_ranked_candidates_by_hand():
    """Konwer et al.: beta_1 (best against worst) + beta_2 (second against third), one sigmoid."""
    margins = replace(
        of(
            [1.0, 0.5, -2.0],
            reference=[0.2, 0.1, 0.0],
            gap=[0.6, 0.2, 0.3],
            uncertainty=[0.4, 0.1, 0.2],
        ),
        weight=torch.tensor([1.5, 0.5, 1.0], dtype=torch.float64),
        group=torch.tensor([4, 4, 9]),
    )
    found = grouped(margins)
    # 1.5 * 1.2 + 0.5 * 0.6 = 2.1 against 1.5 * 0.2 + 0.5 * 0.1 = 0.35; 2.1 - 0.35 = 1.75.
    assert found.policy.tolist() == pytest.approx([2.1, -2.0])
    assert found.reference.tolist() == pytest.approx([0.35, 0.0])
    assert found.difference.tolist() == pytest.approx([1.75, -2.0])
    # (1.5 * 0.6 + 0.5 * 0.2) / 2 = 0.5; (1.5 * 0.4 + 0.5 * 0.1) / 2 = 0.325.
    assert found.gap.tolist() == pytest.approx([0.5, 0.3])
    assert found.uncertainty is not None
    assert found.uncertainty.tolist() == pytest.approx([0.325, 0.2])
    assert found.winner is None
    # The pull on each margin is its weight times the pull on the sum.
    pull = update_strength(found, DPO(1.0))
    assert update_strength(margins, DPO(1.0)).tolist() == pytest.approx(
        [1.5 * pull[0].item(), 0.5 * pull[0].item(), pull[1].item()]
    )


def test_without_groups_weights_stretch_and_nothing_else_changes():
    margins = of([1.0, -0.5], reference=0.2, winner=-0.3)
    assert grouped(margins) is margins
    stretched = grouped(replace(margins, weight=torch.tensor([2.0, 1.0], dtype=torch.float64)))
    assert stretched.difference.tolist() == pytest.approx([2.0, -0.5])
    assert stretched.winner is margins.winner
    assert stretched.gap is margins.gap


def test_the_order_of_the_pairs_does_not_matter():
    margins = replace(of([1.0, 2.0, 4.0, 8.0]), group=torch.tensor([1, 0, 1, 0]))
    assert grouped(margins).policy.tolist() == [10.0, 5.0]
